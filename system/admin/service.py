"""What the admin service does: records what happened, keeps its copy of users, shows both."""

from __future__ import annotations

from collections.abc import Sequence

from system.admin import domain
from system.admin.domain import AuditFilter, AuditRow, Occurrence
from system.admin.ports import AuditLog, Unit


async def record(happened: Occurrence, unit: Unit) -> None:
    """Let an event take effect: audit row and copy together (R3.42, R3.43)."""
    entry = domain.audit_entry(happened)
    if entry is not None:
        await unit.add_audit_row(entry)
    if happened.type in domain.SNAPSHOTS:
        user = domain.user_copy(happened)
        if domain.is_news(user.version, await unit.known_version(user.id)):
            await unit.put_user(user)
    elif happened.type == domain.USER_DELETED:
        user_id, version = happened.data["userId"], happened.data["userVersion"]
        if domain.is_news(version, await unit.known_version(user_id)):
            await unit.delete_user(user_id, version)


async def audit_page(
    log: AuditLog, wanted: AuditFilter, *, page: int, limit: int
) -> tuple[Sequence[AuditRow], int]:
    """Return a page of the audit log and the number of rows in all (R1.138)."""
    return await log.page(wanted, limit=limit, offset=(page - 1) * limit)


def actions() -> list[str]:
    """Return the names of all actions, sorted (R1.139)."""
    return sorted(domain.Action)
