"""The audit log: what happened is recorded, and shown (R1.138, R3.42, R3.43)."""

from __future__ import annotations

from collections.abc import Sequence

from system.admin.domain import audit, users
from system.admin.domain.audit import Action, AuditFilter, AuditRow, Occurrence
from system.admin.ports import AuditLog, Unit
from system.admin.service import copies


async def record(happened: Occurrence, unit: Unit) -> None:
    """Let an event take effect: audit row and copy of the user together (R3.42, R3.43)."""
    entry = audit.audit_entry(happened)
    if entry is not None:
        await unit.add_audit_row(entry)
    if happened.type in users.SNAPSHOTS:
        await copies.put(users.user_of(happened), unit)
    elif happened.type == users.USER_DELETED:
        await copies.remove(happened.data["userId"], happened.data["userVersion"], unit)


async def audit_page(
    log: AuditLog, wanted: AuditFilter, *, page: int, limit: int
) -> tuple[Sequence[AuditRow], int]:
    """Return a page of the audit log and the number of rows in all (R1.138)."""
    return await log.page(wanted, limit=limit, offset=(page - 1) * limit)


def actions() -> list[str]:
    """Return the names of all actions, sorted (R1.139)."""
    return sorted(Action)
