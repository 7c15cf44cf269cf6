"""Keeps profiles in profile_db (2.4), with plain SQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from system.platform.database import Database, Transaction
from system.platform.events import outbox
from system.platform.events.envelope import new_event
from system.platform.moments import timestamp
from system.profile.domain import Profile

SOURCE: Final = "profile-service"
_COLUMNS: Final = (
    "id, user_id, avatar_url, phone, address, bio, preferences, created_at, updated_at"
)
_FIND: Final = f"SELECT {_COLUMNS} FROM user_profiles WHERE user_id = $1"
# Making a profile and deleting its user take turns, or a late first read could leave one behind.
_TURN: Final = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
_MAKE: Final = """
INSERT INTO user_profiles (id, user_id)
SELECT $1, $2 WHERE NOT EXISTS (SELECT 1 FROM deleted_users WHERE id = $2)
ON CONFLICT (user_id) DO NOTHING
"""
# A column is named once for its value and once for whether it is wanted: null is a value.
_SET_FACTS: Final = f"""
UPDATE user_profiles SET
    avatar_url = CASE WHEN 'avatar_url' = ANY($2::text[]) THEN $3 ELSE avatar_url END,
    phone = CASE WHEN 'phone' = ANY($2::text[]) THEN $4 ELSE phone END,
    address = CASE WHEN 'address' = ANY($2::text[]) THEN $5 ELSE address END,
    bio = CASE WHEN 'bio' = ANY($2::text[]) THEN $6 ELSE bio END
WHERE user_id = $1 RETURNING {_COLUMNS}
"""
_SET_PREFERENCES: Final = (
    f"UPDATE user_profiles SET preferences = $2 WHERE user_id = $1 RETURNING {_COLUMNS}"
)


class PostgresUnit:
    """`ports.Unit` on one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._tx = transaction

    async def lock(self, user_id: str) -> Profile | None:
        """See `Unit.lock`."""
        locked = f"{_FIND} FOR UPDATE"
        row = await self._tx.fetchrow(locked, user_id)
        if row is None:
            await self._take_turn(user_id)
            await self._tx.execute(
                _MAKE, str(uuid4()), user_id, operation="insert", table="user_profiles"
            )
            row = await self._tx.fetchrow(locked, user_id)
        return None if row is None else _profile(row)

    async def set_facts(self, user_id: str, facts: Mapping[str, str | None]) -> Profile:
        """See `Unit.set_facts`."""
        names = ("avatar_url", "phone", "address", "bio")
        values = [facts.get(name) for name in names]
        return _profile(await self._tx.fetchrow(_SET_FACTS, user_id, list(facts), *values))

    async def set_preferences(self, user_id: str, preferences: Mapping[str, Any]) -> Profile:
        """See `Unit.set_preferences`."""
        return _profile(await self._tx.fetchrow(_SET_PREFERENCES, user_id, dict(preferences)))

    async def emit_updated(self, user_id: str, fields: Sequence[str], at: datetime) -> None:
        """See `Unit.emit_updated`."""
        data = {"userId": user_id, "fields": list(fields), "updatedAt": timestamp(at)}
        event = new_event("profile.updated", data, source=SOURCE, actor_id=user_id)
        await outbox.add(self._tx, event)

    async def delete(self, user_id: str) -> bool:
        """See `Unit.delete`."""
        await self._take_turn(user_id)
        await self._tx.execute(
            "INSERT INTO deleted_users (id) VALUES ($1) ON CONFLICT DO NOTHING", user_id
        )
        tag = await self._tx.execute("DELETE FROM user_profiles WHERE user_id = $1", user_id)
        return tag != "DELETE 0"

    async def _take_turn(self, user_id: str) -> None:
        await self._tx.fetchval(_TURN, user_id, operation="lock", table="user_profiles")


class PostgresStore:
    """`ports.Store` on the service's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresUnit]:
        """See `Store.transaction`."""
        async with self._database.transaction() as transaction:
            yield PostgresUnit(transaction)

    async def find(self, user_id: str) -> Profile | None:
        """See `Store.find`."""
        row = await self._database.fetchrow(_FIND, user_id)
        return None if row is None else _profile(row)


def _profile(row: Any) -> Profile:
    return Profile(*row)
