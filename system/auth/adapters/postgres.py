"""Keeps accounts, sessions and refresh tokens in auth_db (2.1), with plain SQL.

Devices, counters and keys have modules of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg

from system.auth.adapters.postgres_devices import DEVICE, PostgresDevices, device_of
from system.auth.adapters.postgres_keys import PostgresKeys, Vault, read_keys, read_rotations
from system.auth.adapters.postgres_throttles import PostgresThrottles
from system.auth.domain.accounts import (
    RefreshToken,
    RevokeReason,
    Session,
    User,
    UserRole,
    UserStatus,
)
from system.auth.domain.devices import Device
from system.auth.domain.keys import Rotation
from system.auth.ports import Fact, StoredKey, Unit
from system.platform.database import Database, Transaction
from system.platform.events import outbox
from system.platform.events.envelope import new_event

SOURCE = "auth-service"
# Any number: advisory locks are per database, and the outbox takes another.
_ADMIN_ROLL = 0x61646D696E73

_USER = """u.id, u.email, u.name, u.role, u.status, u.email_verified, u.version,
           u.created_at, u.updated_at"""
_SESSION = """s.id AS session_id, s.user_id AS session_user_id, s.ip_address, s.user_agent,
              s.created_at AS session_created_at, s.expires_at, s.revoked_at, s.revoke_reason,
              s.last_used_at,
              (SELECT d.device_id FROM devices d WHERE d.id = s.device_ref) AS device_id,
              (SELECT d.device_name FROM devices d WHERE d.id = s.device_ref) AS device_name"""


class PostgresUnit(PostgresDevices, PostgresThrottles, PostgresKeys):
    """`ports.Unit` on one database transaction."""

    def __init__(self, transaction: Transaction, vault: Vault) -> None:
        PostgresKeys.__init__(self, transaction, vault)

    async def add_user(self, user: User, password_hash: str) -> bool:
        inserted = await self._tx.fetchval(
            """INSERT INTO users (id, email, password_hash, name, role, status, email_verified,
                                  version, created_at, updated_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
               ON CONFLICT (email) DO NOTHING RETURNING id""",
            user.id,
            user.email,
            password_hash,
            user.name,
            user.role,
            user.status,
            user.email_verified,
            user.version,
            user.created_at,
            user.updated_at,
            operation="insert",
            table="users",
        )
        return inserted is not None

    async def credentials(self, email: str) -> tuple[User, str] | None:
        return await self._read_credentials("u.email", email, "FOR SHARE")

    async def lock_credentials(self, user_id: str) -> tuple[User, str] | None:
        return await self._read_credentials("u.id", user_id, "FOR UPDATE")

    async def _read_credentials(
        self, column: str, value: str, lock: str
    ) -> tuple[User, str] | None:
        row = await self._tx.fetchrow(
            f"SELECT {_USER}, u.password_hash FROM users u WHERE {column} = $1 {lock}",
            value,
            operation="select",
            table="users",
        )
        user = _user(row)
        return None if user is None else (user, row["password_hash"])

    async def replace_password_hash(self, user_id: str, seen: str, new: str) -> None:
        await self._tx.execute(
            "UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2",
            user_id,
            seen,
            new,
            operation="update",
            table="users",
        )

    async def set_password(self, user_id: str, password_hash: str) -> None:
        await self._tx.execute(
            "UPDATE users SET password_hash = $2, version = version + 1 WHERE id = $1",
            user_id,
            password_hash,
            operation="update",
            table="users",
        )

    async def add_session(self, session: Session) -> None:
        await self._tx.execute(
            """INSERT INTO sessions (id, user_id, ip_address, user_agent, created_at,
                                     last_used_at, expires_at, device_ref)
               VALUES ($1, $2, $3, $4, $5, $5, $6,
                       (SELECT d.id FROM devices d WHERE d.user_id = $2 AND d.device_id = $7))""",
            session.id,
            session.user_id,
            session.ip_address,
            session.user_agent,
            session.created_at,
            session.expires_at,
            session.device_id,
            operation="insert",
            table="sessions",
        )

    async def lock_session(self, session_id: str) -> Session | None:
        row = await self._tx.fetchrow(
            f"SELECT {_SESSION} FROM sessions s WHERE s.id = $1 FOR UPDATE OF s",
            session_id,
            operation="select",
            table="sessions",
        )
        return _session(row)

    async def extend_session(
        self, session_id: str, used_at: datetime, expires_at: datetime
    ) -> None:
        await self._tx.execute(
            """WITH used AS (
                   UPDATE sessions SET last_used_at = $2, expires_at = $3 WHERE id = $1
                   RETURNING device_ref
               )
               UPDATE devices d SET last_active_at = $2 FROM used WHERE d.id = used.device_ref""",
            session_id,
            used_at,
            expires_at,
            operation="update",
            table="sessions",
        )

    async def revoke_session(
        self, session_id: str, user_id: str, reason: RevokeReason, now: datetime
    ) -> Session | None:
        row = await self._tx.fetchrow(
            f"""UPDATE sessions s SET revoked_at = $3, revoke_reason = $4
                WHERE s.id = $1 AND s.user_id = $2 AND s.revoked_at IS NULL AND s.expires_at > $3
                RETURNING {_SESSION}""",
            session_id,
            user_id,
            now,
            reason,
            operation="update",
            table="sessions",
        )
        session = _session(row)
        if session is not None:
            await self._revoke_tokens([session.id])
        return session

    async def revoke_all_sessions(
        self, user_id: str, reason: RevokeReason, now: datetime, *, but: str | None = None
    ) -> Sequence[Session]:
        rows = await self._tx.fetch(
            f"""UPDATE sessions s SET revoked_at = $2, revoke_reason = $3
                WHERE s.user_id = $1 AND s.revoked_at IS NULL AND s.expires_at > $2
                      AND s.id IS DISTINCT FROM $4
                RETURNING {_SESSION}""",
            user_id,
            now,
            reason,
            but,
            operation="update",
            table="sessions",
        )
        return await self._revoked(rows)

    async def revoke_device_sessions(
        self, user_id: str, device_id: str, reason: RevokeReason, now: datetime
    ) -> Sequence[Session]:
        rows = await self._tx.fetch(
            f"""UPDATE sessions s SET revoked_at = $3, revoke_reason = $4
                WHERE s.revoked_at IS NULL AND s.expires_at > $3
                      AND s.device_ref = (SELECT d.id FROM devices d
                                          WHERE d.user_id = $1 AND d.device_id = $2)
                RETURNING {_SESSION}""",
            user_id,
            device_id,
            now,
            reason,
            operation="update",
            table="sessions",
        )
        return await self._revoked(rows)

    async def _revoked(self, rows: Sequence[Any]) -> Sequence[Session]:
        sessions = [session for row in rows if (session := _session(row)) is not None]
        if sessions:
            await self._revoke_tokens([session.id for session in sessions])
        return sessions

    async def _revoke_tokens(self, session_ids: list[str]) -> None:
        await self._tx.execute(
            "UPDATE refresh_tokens SET is_revoked = true WHERE token_family = ANY($1::text[])",
            session_ids,
            operation="update",
            table="refresh_tokens",
        )

    async def add_refresh_token(self, token: RefreshToken, now: datetime) -> None:
        await self._tx.execute(
            """INSERT INTO refresh_tokens (id, user_id, token_hash, token_family, expires_at,
                                           created_at)
               VALUES (gen_random_uuid()::text, $1, $2, $3, $4, $5)""",
            token.user_id,
            token.token_hash,
            token.session_id,
            token.expires_at,
            now,
            operation="insert",
            table="refresh_tokens",
        )

    async def refresh_token(self, token_hash: str) -> RefreshToken | None:
        row = await self._tx.fetchrow(
            """SELECT token_hash, user_id, token_family, expires_at, last_used_at
               FROM refresh_tokens WHERE token_hash = $1""",
            token_hash,
            operation="select",
            table="refresh_tokens",
        )
        if row is None:
            return None
        return RefreshToken(
            token_hash=row["token_hash"],
            user_id=row["user_id"],
            session_id=row["token_family"],
            expires_at=row["expires_at"],
            spent_at=row["last_used_at"],
        )

    async def spend_refresh_token(self, token_hash: str, now: datetime) -> None:
        await self._tx.execute(
            "UPDATE refresh_tokens SET last_used_at = $2 WHERE token_hash = $1",
            token_hash,
            now,
            operation="update",
            table="refresh_tokens",
        )

    async def user(self, user_id: str) -> User | None:
        return await self._read_user(user_id, "FOR SHARE")

    async def lock_user(self, user_id: str) -> User | None:
        return await self._read_user(user_id, "FOR UPDATE")

    async def _read_user(self, user_id: str, lock: str) -> User | None:
        row = await self._tx.fetchrow(
            f"SELECT {_USER} FROM users u WHERE u.id = $1 {lock}",
            user_id,
            operation="select",
            table="users",
        )
        return _user(row)

    async def hold_admin_roll(self) -> None:
        await self._tx.execute(
            "SELECT pg_advisory_xact_lock($1)", _ADMIN_ROLL, operation="select", table="users"
        )

    async def has_other_active_admin(self, user_id: str) -> bool:
        return bool(
            await self._tx.fetchval(
                """SELECT EXISTS (SELECT 1 FROM users
                                  WHERE role = 'ADMIN' AND status = 'active' AND id <> $1)""",
                user_id,
                operation="select",
                table="users",
            )
        )

    async def change_user(self, user: User) -> User | None:
        try:
            async with self._tx.savepoint():
                row = await self._tx.fetchrow(
                    f"""UPDATE users u SET email = $2, name = $3, role = $4, status = $5,
                                           version = u.version + 1
                        WHERE u.id = $1 RETURNING {_USER}""",
                    user.id,
                    user.email,
                    user.name,
                    user.role,
                    user.status,
                    operation="update",
                    table="users",
                )
        except asyncpg.UniqueViolationError:
            return None
        return _user(row)

    async def delete_user(self, user_id: str) -> None:
        await self._tx.execute(
            "DELETE FROM users WHERE id = $1", user_id, operation="delete", table="users"
        )

    async def emit(self, fact: Fact) -> None:
        event = new_event(
            fact.type,
            dict(fact.data),
            source=SOURCE,
            event_type=fact.event_type,
            actor_id=fact.actor_id,
        )
        await outbox.add(self._tx, event)


class PostgresStore:
    """`ports.Store` on auth_db."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def transaction(self) -> AbstractAsyncContextManager[Unit]:
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Unit]:
        async with self._database.transaction() as transaction:
            yield PostgresUnit(transaction, self._vault)

    async def user(self, user_id: str) -> User | None:
        row = await self._database.fetchrow(
            f"SELECT {_USER} FROM users u WHERE u.id = $1",
            user_id,
            operation="select",
            table="users",
        )
        return _user(row)

    async def user_by_email(self, email: str) -> User | None:
        row = await self._database.fetchrow(
            f"SELECT {_USER} FROM users u WHERE u.email = $1",
            email,
            operation="select",
            table="users",
        )
        return _user(row)

    async def devices(self, user_id: str) -> Sequence[Device]:
        rows = await self._database.fetch(
            f"""SELECT {DEVICE} FROM devices d WHERE d.user_id = $1
                ORDER BY d.last_active_at DESC, d.id""",
            user_id,
            operation="select",
            table="devices",
        )
        return [device_of(row) for row in rows]

    async def open_sessions(self, user_id: str, now: datetime) -> Sequence[Session]:
        rows = await self._database.fetch(
            f"""SELECT {_SESSION} FROM sessions s
                WHERE s.user_id = $1 AND s.revoked_at IS NULL AND s.expires_at > $2
                ORDER BY s.last_used_at DESC, s.id""",
            user_id,
            now,
            operation="select",
            table="sessions",
        )
        return [session for row in rows if (session := _session(row)) is not None]

    async def users(self, *, after: str, limit: int) -> Sequence[User]:
        rows = await self._database.fetch(
            f"SELECT {_USER} FROM users u WHERE u.id > $1 ORDER BY u.id LIMIT $2",
            after,
            limit,
            operation="select",
            table="users",
        )
        return [user for row in rows if (user := _user(row)) is not None]

    async def signing_keys(self) -> Sequence[StoredKey]:
        return await read_keys(self._database, self._vault)

    async def rotations(self) -> Sequence[Rotation]:
        return await read_rotations(self._database)

    async def session(self, session_id: str) -> tuple[Session, User] | None:
        row = await self._database.fetchrow(
            f"""SELECT {_SESSION}, {_USER} FROM sessions s JOIN users u ON u.id = s.user_id
                WHERE s.id = $1""",
            session_id,
            operation="select",
            table="sessions",
        )
        session, user = _session(row), _user(row)
        return None if session is None or user is None else (session, user)


def _user(row: Any) -> User | None:
    if row is None:
        return None
    return User(
        id=row["id"],
        email=row["email"],
        name=row["name"],
        role=UserRole(row["role"]),
        status=UserStatus(row["status"]),
        email_verified=row["email_verified"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _session(row: Any) -> Session | None:
    if row is None:
        return None
    return Session(
        id=row["session_id"],
        user_id=row["session_user_id"],
        ip_address=row["ip_address"],
        user_agent=row["user_agent"],
        created_at=row["session_created_at"],
        expires_at=row["expires_at"],
        device_id=row["device_id"],
        device_name=row["device_name"],
        last_used_at=row["last_used_at"],
        revoked_at=row["revoked_at"],
        revoke_reason=RevokeReason(row["revoke_reason"]) if row["revoke_reason"] else None,
    )
