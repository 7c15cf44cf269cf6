"""What the admin service needs of the world: its database, and auth-service for its users."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from system.admin.domain.audit import AuditEntry, AuditFilter, AuditRow
from system.admin.domain.configuration import Setting
from system.admin.domain.users import Role, User, UserQuery


class AuditLog(Protocol):
    """The audit log as it is read."""

    async def page(
        self, wanted: AuditFilter, *, limit: int, offset: int
    ) -> tuple[Sequence[AuditRow], int]:
        """Return rows, newest first, and how many there are in all."""


class Unit(Protocol):
    """What one event or command changes, inside one transaction."""

    async def add_audit_row(self, entry: AuditEntry) -> None:
        """Write the row; nothing if the event has one already (R1.142)."""

    async def lock_copy(self) -> None:
        """Keep others from writing the copy of users until the transaction ends."""

    async def known_version(self, user_id: str) -> int | None:
        """Return the version of the copy, or of its deletion; None for an unknown user."""

    async def put_user(self, user: User) -> None:
        """Make or replace the copy; whoever still holds the e-mail address loses it."""

    async def put_users(self, users: Sequence[User]) -> None:
        """Bring many copies up to date, each only if it is news and not deleted."""

    async def delete_user(self, user_id: str, version: int) -> None:
        """Remove the copy and remember its last version, so that a late event finds it."""

    async def drop_user(self, user_id: str) -> None:
        """Remove the copy of somebody no event has called deleted; it may come again."""

    async def put_setting(
        self, key: str, value: Any, description: str | None, updated_by: str
    ) -> Setting:
        """Create or replace a value of the configuration."""

    async def emit_config_updated(self, key: str, updated_by: str, at: datetime) -> None:
        """Write `config.updated` to the outbox (R3.40)."""


class Store(Protocol):
    """admin_db, but for its audit log."""

    def transaction(self) -> AbstractAsyncContextManager[Unit]:
        """Open a transaction; leaving its block commits, an error rolls back."""

    async def users(self, query: UserQuery) -> tuple[Sequence[User], int]:
        """Return a page of users, and how many there are in all."""

    async def user(self, user_id: str) -> User | None:
        """Return the copy of a user."""

    async def user_ids(self) -> Collection[str]:
        """Return the ids of all copies."""

    async def settings(self) -> Sequence[Setting]:
        """Return the whole configuration, by key."""

    async def setting(self, key: str) -> Setting | None:
        """Return one value of the configuration."""


@dataclass(frozen=True, slots=True)
class Actor:
    """The administrator for whom a command is given.

    Attributes:
        id: of the account.
        address: client address of the request.
        user_agent: of the request.
    """

    id: str
    address: str | None
    user_agent: str | None


class Accounts(Protocol):
    """The users where they belong: auth-service (R1.133).

    Every command raises `ApiError` with auth-service's own refusal, or 503 SERVICE_UNAVAILABLE if
    it did not answer.
    """

    async def create(
        self, actor: Actor, *, email: str, password: str, name: str, role: Role
    ) -> User:
        """Make an account."""

    async def change(self, actor: Actor, user_id: str, changes: Mapping[str, str]) -> User:
        """Change `name` or `email`."""

    async def set_role(self, actor: Actor, user_id: str, role: Role) -> User:
        """Give an account another role."""

    async def set_active(
        self, actor: Actor, user_id: str, active: bool, reason: str | None
    ) -> User:
        """Suspend an account or let it in again."""

    async def delete(self, actor: Actor, user_id: str) -> None:
        """Remove an account."""

    async def page(self, after: str | None) -> Sequence[User]:
        """Return some accounts in the order of ids, those after a given one; empty at the end."""

    async def find(self, user_id: str) -> User | None:
        """Return an account; None if there is none."""
