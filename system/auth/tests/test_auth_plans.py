"""Every list of auth-service finds its rows by an index, on 100,000 of each kind."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from system.auth.adapters.postgres import PostgresStore
from system.auth.adapters.postgres_keys import Vault
from system.auth.adapters.postgres_throttles import PostgresThrottles
from system.conftest import RunningStack
from system.platform.migrations import upgrade

pytestmark = pytest.mark.platform

MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"
KEY = "lpad(to_hex(n), 64, '0')"
FILL = f"""
SET session_replication_role = replica;  -- references are right by how the rows are made
INSERT INTO users (id, email, password_hash, name, role)
SELECT 'u' || n, 'u' || n || '@x.test', 'x', 'U', 'CUSTOMER' FROM generate_series(1, 100000) n;
INSERT INTO devices (id, user_id, device_id)
SELECT 'd' || n, 'u' || n, 'device-' || n FROM generate_series(1, 100000) n;
INSERT INTO sessions (id, user_id, device_ref, expires_at)
SELECT 's' || n, 'u' || n, 'd' || n, '2099-01-01' FROM generate_series(1, 100000) n;
INSERT INTO login_throttles (key, scope, first_failure_at, last_failure_at)
SELECT {KEY}, 'pair', now(), now() FROM generate_series(1, 100000) n;
INSERT INTO login_throttle_pairs (pair_key, account_key)
SELECT {KEY}, 'a' || n FROM generate_series(1, 100000) n;
INSERT INTO key_rotations (id, kind, new_kid, triggered_by, reason, rotated_at)
SELECT gen_random_uuid()::text, 'jwt', 'k' || n, 'u1', 'yearly',
       timestamptz '2020-01-01' + n * interval '1 hour' FROM generate_series(1, 100000) n;
"""
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Explaining:
    """Stands for a database or a transaction: keeps the plan of a statement, gives no rows."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.plan = ""

    async def fetch(self, sql: str, *values: Any, **_: Any) -> list[Any]:
        connection = await asyncpg.connect(self._url)
        try:
            rows = await connection.fetch(f"EXPLAIN {sql}", *values)
        finally:
            await connection.close()
        self.plan = "\n".join(row[0] for row in rows)
        return []


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def full(stack: RunningStack) -> Iterator[str]:
    """A database like auth_db with many rows, beside the real one; its URL."""
    server_url = stack.database("auth")
    name = f"plans_{uuid.uuid4().hex[:8]}"
    url = urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    try:
        asyncio.run(_execute(server_url, f"CREATE DATABASE {name}"))
        upgrade(url, MIGRATIONS, "auth_service")
        asyncio.run(_execute(url, FILL, "VACUUM ANALYZE"))
        yield url
    finally:
        asyncio.run(_execute(server_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


Lists = Callable[[Any], Awaitable[Any]]
LISTS: dict[str, Lists] = {
    "devices (R1.88)": lambda db: PostgresStore(db, Vault(None)).devices("u7"),
    "sessions (R1.93)": lambda db: PostgresStore(db, Vault(None)).open_sessions("u7", NOW),
    "users": lambda db: PostgresStore(db, Vault(None)).users(after="u5", limit=500),
    "rotations (R1.97)": lambda db: PostgresStore(db, Vault(None)).rotations(),
    "locked pairs (R1.83)": lambda db: PostgresThrottles(db).pairs_of("a7"),
}


@pytest.mark.parametrize("ask", LISTS.values(), ids=LISTS)
def test_a_list_finds_its_rows_by_index(full: str, ask: Lists) -> None:
    """No table is looked through for it."""
    database = Explaining(full)

    asyncio.run(_asked(ask, database))

    assert "Index" in database.plan, database.plan
    assert "Seq Scan" not in database.plan, database.plan


async def _asked(ask: Lists, database: Explaining) -> None:
    await ask(database)
