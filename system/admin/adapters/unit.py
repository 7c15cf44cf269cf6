"""What events and commands change in admin_db (2.3), in one transaction, with plain SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from system.admin.domain.audit import AuditEntry
from system.admin.domain.configuration import Setting
from system.admin.domain.users import User
from system.platform.database import Transaction
from system.platform.events import outbox
from system.platform.events.envelope import new_event
from system.platform.moments import timestamp

SOURCE: Final = "admin-service"
# One after the other: two writers that give one e-mail to two users would trip over each other.
_COPY_LOCK: Final = 0x5EA7_0002

_ADD: Final = """
INSERT INTO audit_logs (id, event_id, user_id, action, resource_type, resource_id, details,
                        ip_address, user_agent, correlation_id, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (event_id) DO NOTHING
"""
# Who is there counts for more than who was: an import can bring deleted users back (9.2).
_KNOWN: Final = """
SELECT coalesce((SELECT version FROM users WHERE id = $1),
                (SELECT version FROM deleted_users WHERE id = $1))
"""
# What comes as parameters and is newer than what is there.
_NEWS: Final = """
WITH given AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[],
                         $7::integer[], $8::timestamptz[], $9::timestamptz[])
        AS g(id, email, name, role, status, email_verified, version, created_at, updated_at)
), news AS (
    SELECT g.* FROM given g LEFT JOIN users u ON u.id = g.id
    WHERE u.version < g.version OR (
        u.id IS NULL AND NOT EXISTS (SELECT 1 FROM deleted_users d WHERE d.id = g.id))
)
"""
# An address moves from one account to another faster than the events about it travel; the former
# holder's own event is on its way and has a higher version than this row.
_FREE_EMAILS: Final = f"""
{_NEWS}
UPDATE users u SET email = 'superseded-' || u.id || '@deleted.invalid'
FROM news n WHERE u.email = n.email AND u.id <> n.id
"""
_PUT: Final = f"""
{_NEWS}
INSERT INTO users AS u (id, email, name, role, status, email_verified, version, created_at,
                        updated_at)
SELECT id, email, name, role::"UserRole", status::"UserStatus", email_verified, version,
       coalesce(created_at, updated_at), updated_at FROM news
ON CONFLICT (id) DO UPDATE SET
    email = excluded.email, name = excluded.name, role = excluded.role, status = excluded.status,
    email_verified = excluded.email_verified, version = excluded.version,
    updated_at = excluded.updated_at
"""
# No event tells it but the first; who missed that one learns it from auth-service.
_DATE: Final = """
UPDATE users u SET created_at = g.created_at
FROM unnest($1::text[], $2::timestamptz[]) AS g(id, created_at)
WHERE u.id = g.id AND g.created_at IS NOT NULL AND u.created_at <> g.created_at
"""
_REMEMBER_DELETED: Final = """
INSERT INTO deleted_users (id, version) VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE SET version = greatest(deleted_users.version, excluded.version)
"""
# JSON's null is a value, and not SQL's.
_SET: Final = """
INSERT INTO system_config (key, value, description, updated_by)
VALUES ($1, coalesce($2::jsonb, 'null'::jsonb), $3, $4)
ON CONFLICT (key) DO UPDATE SET
    value = excluded.value, description = excluded.description, updated_by = excluded.updated_by
RETURNING key, value, description, updated_at, updated_by
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

    async def lock_copy(self) -> None:
        """See `ports.Unit.lock_copy`."""
        await self._tx.fetchval(
            "SELECT pg_advisory_xact_lock($1)", _COPY_LOCK, operation="lock", table="users"
        )

    async def known_version(self, user_id: str) -> int | None:
        """See `ports.Unit.known_version`."""
        version: int | None = await self._tx.fetchval(
            _KNOWN, user_id, operation="select", table="users"
        )
        return version

    async def put_user(self, user: User) -> None:
        """See `ports.Unit.put_user`."""
        await self.put_users([user])

    async def put_users(self, users: Sequence[User]) -> None:
        """See `ports.Unit.put_users`."""
        ids = [user.id for user in users]
        created = [user.created_at for user in users]
        given = (
            ids,
            [user.email for user in users],
            [user.name for user in users],
            [user.role for user in users],
            [user.status for user in users],
            [user.email_verified for user in users],
            [user.version for user in users],
            created,
            [user.updated_at for user in users],
        )
        await self._tx.execute(_FREE_EMAILS, *given, operation="update", table="users")
        await self._tx.execute(_PUT, *given, operation="insert", table="users")
        await self._tx.execute(_DATE, ids, created, operation="update", table="users")

    async def delete_user(self, user_id: str, version: int) -> None:
        """See `ports.Unit.delete_user`."""
        await self.drop_user(user_id)
        await self._tx.execute(
            _REMEMBER_DELETED, user_id, version, operation="insert", table="deleted_users"
        )

    async def drop_user(self, user_id: str) -> None:
        """See `ports.Unit.drop_user`."""
        await self._tx.execute(
            "DELETE FROM users WHERE id = $1", user_id, operation="delete", table="users"
        )

    async def put_setting(
        self, key: str, value: Any, description: str | None, updated_by: str
    ) -> Setting:
        """See `ports.Unit.put_setting`."""
        row = await self._tx.fetchrow(
            _SET, key, value, description, updated_by, operation="insert", table="system_config"
        )
        return Setting(*row)

    async def emit_config_updated(self, key: str, updated_by: str, at: datetime) -> None:
        """See `ports.Unit.emit_config_updated`."""
        data = {"key": key, "updatedBy": updated_by, "updatedAt": timestamp(at)}
        event = new_event("config.updated", data, source=SOURCE, actor_id=updated_by)
        await outbox.add(self._tx, event)
