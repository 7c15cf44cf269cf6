"""R0.10, R1.14, R7.5: a database that is away is a 503, and statements are told apart by kind."""

from __future__ import annotations

import socket
import time

import asyncpg
import pytest

from system.platform.database import Database, describe_statement
from system.platform.http.errors import ApiError


@pytest.fixture
def nobody_listens() -> str:
    """A URL of a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"postgresql://a:b@127.0.0.1:{port}/auth_db"


async def test_start_without_server_succeeds_and_statements_are_503(nobody_listens: str) -> None:
    """R0.10, R1.14: the process runs; what needs the database says so at once."""
    database = Database(nobody_listens)
    await database.start()
    started = time.monotonic()

    for attempt in (
        database.fetch("SELECT 1"),
        database.fetchrow("SELECT 1"),
        database.execute("SELECT 1"),
        database.ping(),
        database.connect(),
    ):
        with pytest.raises(ApiError) as caught:
            await attempt
        assert (caught.value.status, caught.value.code) == (503, "SERVICE_UNAVAILABLE")
    with pytest.raises(ApiError):
        async with database.transaction():
            pytest.fail("there is no transaction without a server")

    assert time.monotonic() - started < 3
    await database.close()


async def test_a_silent_server_is_503_in_time() -> None:
    """R1.14: a port that accepts and never answers costs a bounded time."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"postgresql://a:b@127.0.0.1:{silent.getsockname()[1]}/auth_db"
        database = Database(url, acquire_timeout_s=0.2, min_size=0)
        await database.start()

        with pytest.raises(ApiError) as caught:
            await database.fetchval("SELECT 1")

        assert caught.value.status == 503
        await database.close()


async def test_a_database_that_was_not_started_is_503(nobody_listens: str) -> None:
    """During start and after close there is nothing to ask."""
    with pytest.raises(ApiError):
        await Database(nobody_listens).fetchval("SELECT 1")


async def test_faults_of_ours_are_not_called_an_outage(nobody_listens: str) -> None:
    """A wrong URL is noticed at start, not served as 503 for ever."""
    with pytest.raises((ValueError, asyncpg.InterfaceError)):
        await Database("mysql://x").start()


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM users u WHERE id = $1", ("select", "users")),
        ("\n  insert INTO outbox (a) VALUES ($1)", ("insert", "outbox")),
        ("UPDATE payments SET status = $1", ("update", "payments")),
        ("DELETE FROM user_profiles", ("delete", "user_profiles")),
        ("WITH page AS (SELECT 1) SELECT * FROM page", ("select", "page")),
        ("SELECT 1", ("select", "other")),
        ("LISTEN outbox", ("other", "other")),
    ],
)
def test_statements_are_described(sql: str, expected: tuple[str, str]) -> None:
    """R7.5, R7.12: labels are verb and table, never text."""
    assert describe_statement(sql) == expected
