"""Holds the shared circuit to R6.9: one wait for a request, three in all, none after."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

import pytest
from redis.exceptions import RedisError

from system.platform.cache.answers import Loaded, Outcome
from system.platform.cache.cache import Cache
from system.platform.cache.circuit import PAUSE_S, Circuit, GuardedRedis
from system.platform.cache.keys import Entry
from system.platform.cache.probing import Probing
from system.platform.redis_connection import NotAsked, connect


class Server(Protocol):
    """What these tests do with the redis-server of conftest.py."""

    url: str

    def start(self) -> None: ...
    def kill(self) -> None: ...


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_failure_gives_a_pause_and_three_open() -> None:
    """Each failure pauses; the third in a row opens until something succeeds."""
    clock = Clock()
    circuit = Circuit(clock)
    opened: list[None] = []
    circuit.on_open = lambda: opened.append(None)
    for _ in range(2):
        assert circuit.allows
        circuit.failed(clock.now)
        assert not circuit.allows
        clock.now += 2 * PAUSE_S
    circuit.failed(clock.now)
    clock.now += 3600

    assert (circuit.is_open, circuit.allows, len(opened)) == (True, False, 1)
    circuit.succeeded()
    assert circuit.allows


def test_failures_side_by_side_are_one() -> None:
    """Many questions in flight when Redis goes away are one failure, not three in a row."""
    clock = Clock()
    circuit = Circuit(clock)
    asked = clock.now
    clock.now += 0.2

    for _ in range(20):
        circuit.failed(asked)

    assert not circuit.is_open


async def test_what_one_waited_for_the_other_does_not(redis_server: Server) -> None:
    """After the session check has met a missing Redis, the cache of the same request passes by."""
    circuit = Circuit(Clock())
    client = connect(redis_server.url, timeout_s=5.0)
    guarded = GuardedRedis(client, circuit)
    cache = Cache(redis_server.url, "payments", circuit=circuit, timeout_s=5.0)
    await cache.start()
    assert await guarded.mget("a", "b") == [None, None]
    was_usable = cache.usable
    redis_server.kill()

    with suppress(RedisError):
        await guarded.mget("a", "b")

    async def load() -> Loaded:
        return Loaded(b"x")

    assert (was_usable, cache.usable) == (True, False)
    entry = Entry("payments:list:u:x", 60, "payment_list")
    assert (await cache.read(entry, load)).outcome is Outcome.BYPASS
    await cache.close()
    await client.aclose()


async def test_an_open_circuit_refuses_at_once(redis_server: Server) -> None:
    """While it is open no command reaches Redis."""
    circuit = Circuit()
    client = connect(redis_server.url)
    guarded = GuardedRedis(client, circuit)
    for _ in range(3):
        circuit.failed(circuit.clock())

    with pytest.raises(NotAsked):
        await guarded.get("a")
    await client.aclose()


async def test_a_probe_closes_it_when_redis_is_back(redis_server: Server) -> None:
    """No request has to find out: until the probe has, none is let through (R6.9)."""
    circuit = Circuit()
    client = connect(redis_server.url)
    probing = Probing(client, circuit)
    guarded = GuardedRedis(client, circuit)
    redis_server.kill()
    for _ in range(3):
        circuit.failed(circuit.clock())
    with pytest.raises(NotAsked):
        await guarded.get("a")
    redis_server.start()

    async with asyncio.timeout(10):
        while circuit.is_open:  # noqa: ASYNC110 - nobody is told, as in the services
            await asyncio.sleep(0.01)

    assert await guarded.get("a") is None
    await probing.close()
    await client.aclose()
