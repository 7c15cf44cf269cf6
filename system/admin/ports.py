"""What the admin service needs of the world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from system.admin.domain import AuditEntry, AuditFilter, AuditRow, UserCopy


class AuditLog(Protocol):
    """The audit log as it is read."""

    async def page(
        self, wanted: AuditFilter, *, limit: int, offset: int
    ) -> tuple[Sequence[AuditRow], int]:
        """Return rows, newest first, and how many there are in all."""


class Unit(Protocol):
    """What one event changes, inside one transaction."""

    async def add_audit_row(self, entry: AuditEntry) -> None:
        """Write the row; nothing if the event has one already (R1.142)."""

    async def known_version(self, user_id: str) -> int | None:
        """Return the version of the copy, or of its deletion; None for an unknown user."""

    async def put_user(self, user: UserCopy) -> None:
        """Make or replace the copy; whoever still holds the e-mail address loses it."""

    async def delete_user(self, user_id: str, version: int) -> None:
        """Remove the copy and remember its last version, so that a late event finds it."""
