"""Puts the demonstration accounts into auth_db; a repeat resets only their passwords (R2.23)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from system.auth.adapters.passwords import Argon2Hasher
from system.auth.adapters.postgres import SOURCE
from system.auth.domain.accounts import UserRole, new_account
from system.auth.service.facts import user_created
from system.auth.service.moments import utc_now
from system.platform.config.settings import Settings
from system.platform.events import outbox
from system.platform.events.envelope import new_event

# The only demonstration credentials there are (R2.24).
PASSWORD: Final = "TestPassword123!"
ACCOUNTS: Final = (
    ("admin@example.com", "Admin User", UserRole.ADMIN),
    ("customer@example.com", "Customer User", UserRole.CUSTOMER),
    ("vendor@example.com", "Vendor User", UserRole.VENDOR),
)

_UPSERT: Final = """
INSERT INTO users (id, email, password_hash, name, role, email_verified, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, true, $6, $6)
ON CONFLICT (email) DO UPDATE SET password_hash = EXCLUDED.password_hash
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class _Writer:
    """Lets a bare connection write to the outbox."""

    connection: Any  # asyncpg ships no types

    async def execute(
        self, sql: str, *args: Any, operation: str | None = None, table: str | None = None
    ) -> str:
        tag: str = await self.connection.execute(sql, *args)
        return tag


async def seed(connection: Any, settings: Settings) -> bool:
    """Write the accounts, and `user.created` for those that are new.

    Args:
        connection: asyncpg connection to auth_db with the owner role, after the migrations.
        settings: of auth-service; in production mode nothing is written unless
            ALLOW_DEMO_CREDENTIALS is true (R2.24).

    Returns:
        Whether the accounts are there now.
    """
    if settings.production and not settings.allow_demo_credentials:
        return False
    # Whatever the connection did with jsonb before: from here on it takes Python values.
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: msgspec.json.encode(value).decode(),
        decoder=msgspec.json.decode,
        format="text",
    )
    hasher = Argon2Hasher(
        settings.argon2_memory_kib, settings.argon2_time, settings.argon2_parallelism, threads=1
    )
    try:
        for email, name, role in ACCOUNTS:
            await _account(connection, email, name, role, await hasher.hash(PASSWORD))
    finally:
        hasher.close()
    return True


async def _account(
    connection: Any, email: str, name: str, role: UserRole, password_hash: str
) -> None:
    now = utc_now()
    user = new_account(email, name, role, now, email_verified=True)
    async with connection.transaction():
        user_id = await connection.fetchval(
            _UPSERT, user.id, email, password_hash, name, role.value, now
        )
        if user_id != user.id:
            return
        fact = user_created(user, origin="seed", actor_id=None)
        event = new_event(
            fact.type,
            dict(fact.data),
            source=SOURCE,
            event_type=fact.event_type,
            actor_id=fact.actor_id,
        )
        await outbox.add(_Writer(connection), event)
