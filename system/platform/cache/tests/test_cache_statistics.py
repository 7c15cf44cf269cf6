"""Holds `Cache.statistics` and `Cache.health` against a real Redis that is stopped and paused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import pytest

from system.platform.cache import keys
from system.platform.cache.answers import Loaded
from system.platform.cache.cache import Cache
from system.platform.cache.condition import CacheHealth, Statistics

# Where time is not the subject, a busy machine must not look like a Redis that is away.
PATIENT_S = 2.0
NOTHING = Statistics(hits=0, misses=0, bypasses=0, entries=0)


class Server(Protocol):
    """What these tests do with the redis-server of conftest.py."""

    url: str

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


@pytest.fixture
async def cache(redis_server: Server) -> AsyncIterator[Cache]:
    instance = Cache(redis_server.url, "payments", timeout_s=PATIENT_S)
    await instance.start()
    yield instance
    await instance.close()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until the condition holds."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"not within {seconds} s"
        await asyncio.sleep(0.005)


async def healthy(cache: Cache, seconds: float = 10.0) -> None:
    """Wait until the cache says that all is well; a busy machine may answer late once."""
    give_up = time.monotonic() + seconds
    while (found := await cache.health()) != CacheHealth(reachable=True, trusted=True):
        assert time.monotonic() < give_up, f"{found} after {seconds} s"
        await asyncio.sleep(0.01)


async def load() -> Loaded:
    return Loaded(b"{}")


async def test_statistics_tell_what_became_of_each_read(cache: Cache) -> None:
    """By type: one MISS, two HITs, one BYPASS; a type nobody read is there with zeros."""
    entry = keys.payment("p1")
    for bypass in (False, False, False, True):
        await cache.read(entry, load, bypass=bypass)

    statistics = await cache.statistics()

    assert statistics == {
        "payment": Statistics(hits=2, misses=1, bypasses=1, entries=1),
        "payment_list": NOTHING,
        "payment_report": NOTHING,
        "recipients": NOTHING,
    }


async def test_entries_are_those_there_now(cache: Cache) -> None:
    """Neither tag records nor removed entries, nor those of another service, are counted."""
    for number in range(3):
        await cache.read(keys.payment_list("u1", False, f"page={number}"), load)
    await cache.read(keys.payment("p1"), load)
    before = await cache.statistics()
    await cache.invalidate(keys.user_tag("u1"))
    after = await cache.statistics()

    assert (before["payment_list"].entries, before["payment"].entries) == (3, 1)
    assert (after["payment_list"].entries, after["payment"].entries) == (0, 1)
    assert after["payment_list"].misses == 3


async def test_a_refused_read_is_not_counted(cache: Cache) -> None:
    """What `admit` forbids was no answer, as in the metrics (R7.14)."""

    def refuse(_: bytes) -> None:
        raise PermissionError

    with pytest.raises(PermissionError):
        await cache.read(keys.payment("p1"), load, admit=refuse)

    assert (await cache.statistics())["payment"].misses == 0


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_without_redis_statistics_still_answer(redis_server: Server, how: str) -> None:
    """Refusing or hanging: the counts are those of the process, the entries are unknown."""
    cache = Cache(redis_server.url, "payments")
    await cache.start()
    getattr(redis_server, how)()

    await cache.read(keys.payment("p1"), load)
    statistics = await cache.statistics()

    assert statistics["payment"] == Statistics(hits=0, misses=0, bypasses=1, entries=None)
    await cache.close()


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_health_says_whether_redis_answers(redis_server: Server, how: str) -> None:
    """Reachable and trusted; unreachable while it refuses or hangs; reachable again after."""
    cache = Cache(redis_server.url, "payments", timeout_s=PATIENT_S if how == "kill" else 0.2)
    await cache.start()
    await healthy(cache)
    getattr(redis_server, how)()
    away = await cache.health()
    redis_server.start() if how == "kill" else redis_server.resume()

    assert not away.reachable
    await healthy(cache)
    await cache.close()


async def test_health_says_whether_the_contents_are_trusted(redis_server: Server) -> None:
    """A write that could not remove puts them in doubt, until the epoch has been replaced."""
    cache = Cache(redis_server.url, "payments", timeout_s=PATIENT_S)
    await cache.start()
    redis_server.kill()
    await cache.invalidate(keys.payment_tag("p1"))
    doubtful = await cache.health()
    redis_server.start()
    await until(lambda: cache.usable)

    assert doubtful == CacheHealth(reachable=False, trusted=False)
    assert await cache.health() == CacheHealth(reachable=True, trusted=True)
    await cache.close()


async def test_health_changes_nothing(redis_server: Server) -> None:
    """Asking does not end a doubt: a process that was never started stays without trust."""
    cache = Cache(redis_server.url, "payments", timeout_s=PATIENT_S)

    assert await cache.health() == CacheHealth(reachable=True, trusted=False)
    assert not cache.usable
    await cache.close()
