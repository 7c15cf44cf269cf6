"""Keeps audit log and copy of users in admin_db (2.3), with plain SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from system.admin.domain import AuditEntry, AuditFilter, AuditRow, UserCopy
from system.platform.database import Database, Transaction

_ADD = """
INSERT INTO audit_logs (id, event_id, user_id, action, resource_type, resource_id, details,
                        ip_address, user_agent, correlation_id, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (event_id) DO NOTHING
"""

_WANTED = """
WHERE ($1::text IS NULL OR a.action = $1)
  AND ($2::text IS NULL OR a.user_id = $2)
  AND ($3::text IS NULL OR a.resource_type = $3)
  AND ($4::timestamptz IS NULL OR a.created_at >= $4)
  AND ($5::timestamptz IS NULL OR a.created_at <= $5)
"""
# The page is cut before names are joined to it.
_PAGE = f"""
SELECT a.*, u.name AS user_name, u.email AS user_email
FROM (SELECT * FROM audit_logs a {_WANTED}
      ORDER BY a.created_at DESC, a.id DESC LIMIT $6 OFFSET $7) a
LEFT JOIN users u ON u.id = a.user_id
ORDER BY a.created_at DESC, a.id DESC
"""
_COUNT = f"SELECT count(*) FROM audit_logs a {_WANTED}"

_KNOWN = """
SELECT max(version) FROM (
    SELECT version FROM users WHERE id = $1
    UNION ALL SELECT version FROM deleted_users WHERE id = $1) known
"""
# An address moves from one account to another faster than the events about it travel; the former
# holder's own event is on its way and has a higher version than this row.
_FREE_EMAIL = """
UPDATE users SET email = 'superseded-' || id || '@deleted.invalid' WHERE email = $1 AND id <> $2
"""
_PUT = """
INSERT INTO users (id, email, name, role, status, email_verified, version, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce($8, now()))
ON CONFLICT (id) DO UPDATE SET
    email = excluded.email, name = excluded.name, role = excluded.role, status = excluded.status,
    email_verified = excluded.email_verified, version = excluded.version,
    created_at = coalesce($8, users.created_at)
WHERE users.version < excluded.version
"""
_REMEMBER_DELETED = """
INSERT INTO deleted_users (id, version) VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE SET version = greatest(deleted_users.version, excluded.version)
"""


class PostgresUnit:
    """`ports.Unit` on one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._tx = transaction

    async def add_audit_row(self, entry: AuditEntry) -> None:
        """See `ports.Unit.add_audit_row`."""
        await self._tx.execute(
            _ADD,
            str(uuid4()),
            entry.event_id,
            entry.actor_id,
            entry.action,
            entry.resource,
            entry.resource_id,
            dict(entry.details),
            entry.ip_address,
            entry.user_agent,
            entry.correlation_id,
            entry.at,
            operation="insert",
            table="audit_logs",
        )

    async def known_version(self, user_id: str) -> int | None:
        """See `ports.Unit.known_version`."""
        version: int | None = await self._tx.fetchval(
            _KNOWN, user_id, operation="select", table="users"
        )
        return version

    async def put_user(self, user: UserCopy) -> None:
        """See `ports.Unit.put_user`."""
        await self._tx.execute(_FREE_EMAIL, user.email, user.id, operation="update", table="users")
        await self._tx.execute(
            _PUT,
            user.id,
            user.email,
            user.name,
            user.role,
            user.status,
            user.email_verified,
            user.version,
            user.created_at,
            operation="insert",
            table="users",
        )

    async def delete_user(self, user_id: str, version: int) -> None:
        """See `ports.Unit.delete_user`."""
        await self._tx.execute(
            "DELETE FROM users WHERE id = $1", user_id, operation="delete", table="users"
        )
        await self._tx.execute(
            _REMEMBER_DELETED, user_id, version, operation="insert", table="deleted_users"
        )


class PostgresAuditLog:
    """`ports.AuditLog` on the service's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, wanted: AuditFilter, *, limit: int, offset: int
    ) -> tuple[Sequence[AuditRow], int]:
        """See `ports.AuditLog.page`."""
        chosen = (
            wanted.action,
            wanted.user_id,
            wanted.resource_type,
            wanted.start,
            wanted.end,
        )
        rows = await self._database.fetch(
            _PAGE, *chosen, limit, offset, operation="select", table="audit_logs"
        )
        total = await self._database.fetchval(
            _COUNT, *chosen, operation="count", table="audit_logs"
        )
        return [_row(row) for row in rows], total


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
