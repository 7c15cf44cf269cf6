"""R2.1, R2.2, R0.19, R1.142, R7.5: schemas and the pool against running databases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from prometheus_client import REGISTRY

from system.platform.database import Database, Transaction
from system.platform.http.errors import ApiError
from system.platform.migrations import upgrade

pytestmark = pytest.mark.platform

_SYSTEM = Path(__file__).resolve().parents[2]


def access(stack: Any, service: str) -> dict[str, str]:
    """Return the URLs of a service's database."""
    found: dict[str, str] = stack.target["access"]["db"][service]
    return found


async def eventually(ask: Callable[[], Awaitable[Any]], seconds: float = 15) -> Any:
    """Return the first answer; the new connection may take longer than a request would wait."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await ask()
        except ApiError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("service", ["admin", "profile"])
async def test_a_second_migration_changes_nothing(stack: Any, service: str) -> None:
    """R2.2: the catalogue is the same before and after."""
    url = access(stack, service)["url"]
    picture = """
        SELECT table_name, column_name, data_type, is_nullable, column_default
        FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"""
    connection = await asyncpg.connect(url)
    try:
        before = await connection.fetch(picture)
        revision = await connection.fetchval("SELECT version_num FROM alembic_version")
        # The superuser may run them as well: nothing depends on who does.
        assert upgrade(url, _SYSTEM / service / "migrations", f"{service}_service") == revision
        assert await connection.fetch(picture) == before
        assert before
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_logs SET action = 'x'",
        "DELETE FROM audit_logs",
        "TRUNCATE audit_logs",
        "ALTER TABLE audit_logs ADD COLUMN x text",
        "DROP TABLE audit_logs",
        "CREATE TABLE x (y text)",
        "ALTER TABLE audit_logs DISABLE TRIGGER ALL",
    ],
)
async def test_the_service_cannot_rewrite_the_audit_log(stack: Any, statement: str) -> None:
    """R0.19, R1.142: not by the service's role."""
    connection = await asyncpg.connect(access(stack, "admin")["service_url"])
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_logs SET action = 'x'", "DELETE FROM audit_logs", "TRUNCATE audit_logs"],
)
async def test_nobody_rewrites_the_audit_log_by_accident(stack: Any, statement: str) -> None:
    """R2.16: the database itself refuses, whoever asks."""
    connection = await asyncpg.connect(access(stack, "admin")["url"])
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="inserts only"):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_updated_at_follows_every_write(stack: Any) -> None:
    """R2.1: whatever the statement says."""
    connection = await asyncpg.connect(access(stack, "profile")["service_url"])
    try:
        block = connection.transaction()
        await block.start()
        identity = str(uuid4())
        await connection.execute(
            "INSERT INTO user_profiles (id, user_id, updated_at) VALUES ($1, $1, $2)",
            identity,
            datetime(2020, 1, 1, tzinfo=UTC),
        )
        await connection.execute("UPDATE user_profiles SET bio = 'x' WHERE id = $1", identity)
        updated = await connection.fetchval(
            "SELECT updated_at FROM user_profiles WHERE id = $1", identity
        )
        assert updated.year > 2020
        await block.rollback()
    finally:
        await connection.close()


async def test_jsonb_goes_in_and_out_as_values(stack: Any) -> None:
    """Objects of JSON are objects of Python, nested and with every sign."""
    database = Database(access(stack, "admin")["service_url"])
    await database.start()
    try:
        value = {"a": [1, 2.5, None, True, "é€𝄞"], "b": {}}
        assert await database.fetchval("SELECT $1::jsonb", value) == value
    finally:
        await database.close()


async def test_a_transaction_is_all_or_nothing(stack: Any) -> None:
    """A block that raises leaves no row; one that ends leaves all."""
    database = Database(access(stack, "profile")["service_url"])
    await database.start()
    identity = str(uuid4())

    async def insert(tx: Transaction) -> None:
        await tx.execute("INSERT INTO user_profiles (id, user_id) VALUES ($1, $1)", identity)

    async def broken() -> None:
        async with database.transaction() as tx:
            await insert(tx)
            raise RuntimeError("stop")

    count = "SELECT count(*) FROM user_profiles WHERE id = $1"
    try:
        with pytest.raises(RuntimeError, match="stop"):
            await broken()
        assert await database.fetchval(count, identity) == 0

        async with database.transaction() as tx:
            await insert(tx)
            with pytest.raises(asyncpg.UniqueViolationError):
                async with tx.savepoint():
                    await insert(tx)
        assert await database.fetchval(count, identity) == 1
        await database.execute("DELETE FROM user_profiles WHERE id = $1", identity)
    finally:
        await database.close()


async def test_statements_are_timed(stack: Any) -> None:
    """R7.5: one observation per statement, and the refused ones counted."""
    database = Database(access(stack, "admin")["service_url"])
    await database.start()
    labels = {"operation": "select", "table": "system_config"}

    def sample(name: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    try:
        timed, failed = (
            sample("db_query_duration_seconds_count"),
            sample("db_query_errors_total"),
        )
        await database.fetch("SELECT * FROM system_config")
        with pytest.raises(asyncpg.PostgresError):
            await database.fetch("SELECT nothing FROM system_config")

        assert sample("db_query_duration_seconds_count") == timed + 2
        assert sample("db_query_errors_total") == failed + 1
    finally:
        await database.close()


async def test_an_exhausted_pool_is_503(stack: Any) -> None:
    """R1.14: callers wait a little, not for ever."""
    database = Database(access(stack, "admin")["service_url"], max_size=1, acquire_timeout_s=0.1)
    await database.start()
    try:
        async with database.transaction():
            with pytest.raises(ApiError) as caught:
                await database.fetchval("SELECT 1")
        assert caught.value.status == 503
        assert await database.fetchval("SELECT 1") == 1
    finally:
        await database.close()


async def test_a_statement_without_end_is_503_and_the_pool_goes_on(stack: Any) -> None:
    """R1.14: a statement past its time frees its connection."""
    database = Database(access(stack, "admin")["service_url"], max_size=1, statement_timeout_s=1.0)
    await database.start()
    try:
        with pytest.raises(ApiError) as caught:
            await database.fetchval("SELECT pg_sleep(30)")
        assert caught.value.status == 503
        with pytest.raises(ApiError):
            async with database.transaction() as tx:
                await tx.fetchval("SELECT pg_sleep(30)")
        assert await eventually(lambda: database.fetchval("SELECT 1")) == 1
    finally:
        await database.close()


async def test_the_seed_of_the_configuration(stack: Any) -> None:
    """R2.25: two rows."""
    connection = await asyncpg.connect(access(stack, "admin")["service_url"])
    try:
        rows = await connection.fetch("SELECT key, value FROM system_config ORDER BY key")
        found = {row["key"]: row["value"] for row in rows}
        assert found["app.version"] == '"1.0.0"'
        assert found["payment.min_amount"] == '"0.01"'
    finally:
        await connection.close()
