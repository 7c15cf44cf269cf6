"""Holds the notices between instances to what the cache relies on, in a real database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import psycopg
import pytest

from system.platform.cache.notices import PostgresNotices

_MANY = 20


class Stack(Protocol):
    """What these tests use of the fixture `stack`."""

    target: dict[str, Any]

    def database(self, service: str) -> str: ...


@asynccontextmanager
async def listening(stack: Stack, heard: Callable[[], None]) -> AsyncIterator[PostgresNotices]:
    notices = PostgresNotices(stack.target["access"]["db"]["payments"]["service_url"])
    await notices.start(heard)
    yield notices
    await notices.close()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until the condition holds."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"not within {seconds} s"
        await asyncio.sleep(0.01)


@pytest.mark.platform
async def test_an_announcement_reaches_the_others(stack: Stack) -> None:
    """What one instance announces all instances of the service hear (R6.9)."""
    heard: list[str] = []
    async with (
        listening(stack, lambda: heard.append("one")) as one,
        listening(stack, lambda: heard.append("two")),
    ):
        await one.announce()
        await until(lambda: set(heard) == {"one", "two"})


@pytest.mark.platform
async def test_a_lost_line_counts_as_a_notice(stack: Stack) -> None:
    """While nothing can be heard it says so, and afterwards it assumes that it missed something."""
    heard: list[None] = []
    async with listening(stack, lambda: heard.append(None)) as notices:
        assert notices.listening
        with psycopg.connect(stack.database("payments"), autocommit=True) as db:
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            )
        await until(lambda: bool(heard))
        await until(lambda: notices.listening)


@pytest.mark.platform
async def test_many_announce_at_once(stack: Stack) -> None:
    """Writes side by side share the line: each is heard, and the line stays (R6.9)."""
    heard: list[None] = []
    async with listening(stack, lambda: heard.append(None)) as notices:
        await asyncio.gather(*(notices.announce() for _ in range(_MANY)))
        await until(lambda: len(heard) == _MANY)

        assert notices.listening


@pytest.mark.platform
async def test_a_line_that_took_no_announcement_is_replaced_once(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One doubt, then a new line that stays and takes announcements again (R0.10)."""
    heard: list[None] = []
    async with listening(stack, lambda: heard.append(None)) as notices:
        with monkeypatch.context() as hurried:
            hurried.setattr("system.platform.cache.notices._ANNOUNCE_TIMEOUT_S", 0)
            await notices.announce()
        await until(lambda: bool(heard))
        await until(lambda: notices.listening)
        await notices.announce()
        await until(lambda: len(heard) == 2)

        assert notices.listening


async def test_without_a_database_it_only_waits() -> None:
    """A database that is away neither stops the start nor a write (R0.10)."""
    notices = PostgresNotices("postgresql://nobody:x@127.0.0.1:1/nothing")
    await notices.start(lambda: None)

    await notices.announce()

    assert not notices.listening
    await notices.close()
