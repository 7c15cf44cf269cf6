"""Reads the audit log in admin_db (2.3), with plain SQL."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from system.admin.domain.audit import AuditFilter, AuditRow
from system.platform.database import Database


class PostgresAuditLog:
    """`ports.AuditLog` on the service's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, wanted: AuditFilter, *, limit: int, offset: int
    ) -> tuple[Sequence[AuditRow], int]:
        """See `ports.AuditLog.page`."""
        sql, values = audit_statement(wanted, limit, offset)
        rows = await self._database.fetch(sql, *values, operation="select", table="audit_logs")
        # The total comes with every row, and with an empty one where the page has none.
        return [_row(row) for row in rows if row["id"] is not None], rows[0]["total"]


def audit_statement(wanted: AuditFilter, limit: int, offset: int) -> tuple[str, tuple[Any, ...]]:
    """Write the one statement of a page, and its parameters."""
    filters = {
        "action = ": wanted.action,
        "user_id = ": wanted.user_id,
        "resource_type = ": wanted.resource_type,
        "created_at >= ": wanted.start,
        "created_at <= ": wanted.end,
    }
    present = {condition: value for condition, value in filters.items() if value is not None}
    return _page(tuple(present)), (limit, offset, *present.values())


@lru_cache(maxsize=64)
def _page(conditions: tuple[str, ...]) -> str:
    """Write the rows of a page, newest first, each with the total; $1 limit, $2 rows to skip.

    Only the filters in use stand in it, so that each finds its index; names are joined to the page
    and not to the log.
    """
    where = [f"{condition}${number}" for number, condition in enumerate(conditions, 3)]
    found = f"FROM audit_logs{' WHERE ' + ' AND '.join(where) if where else ''}"
    return (
        "SELECT a.*, u.name AS user_name, u.email AS user_email, t.total "
        f"FROM (SELECT count(*) {found}) t(total) "
        f"LEFT JOIN (SELECT * {found} ORDER BY created_at DESC, id DESC "
        "LIMIT $1::bigint OFFSET $2::bigint) a ON true "
        "LEFT JOIN users u ON u.id = a.user_id ORDER BY a.created_at DESC, a.id DESC"
    )


def _row(row: Any) -> AuditRow:
    return AuditRow(
        id=row["id"],
        user_id=row["user_id"],
        user_name=row["user_name"],
        user_email=row["user_email"],
        action=row["action"],
        resource_type=row["resource_type"],
        resource_id=row["resource_id"],
        details=row["details"],
        ip_address=row["ip_address"],
        user_agent=row["user_agent"],
        correlation_id=row["correlation_id"],
        at=row["created_at"],
    )
