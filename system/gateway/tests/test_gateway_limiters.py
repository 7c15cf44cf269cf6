"""The limiters over a real Redis: shared by processes, open or in force when it is gone (R1.45)."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from system.gateway.adapters.limiters import (
    Breaker,
    RedisCredentialLimiter,
    RedisGeneralLimiter,
)
from system.gateway.tests.stand_ins import free_port
from system.platform import redis_connection


class RedisServer:
    """A private Redis that can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it empty, and wait until it answers."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(
            ["redis-server", *options, "--dir", str(self._folder)],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while (
            subprocess.run(
                ["redis-cli", "-p", str(self.port), "ping"], capture_output=True, check=False
            ).stdout.strip()
            != b"PONG"
        ):
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.05)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A running Redis."""
    running = RedisServer(tmp_path)
    running.start()
    yield running
    running.stop()


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    """A client of it, as the gateway makes it, but patient: the machine may be busy."""
    client = redis_connection.connect(server.url, timeout_s=2.0)
    yield client
    with contextlib.suppress(OSError):
        await client.aclose()


async def test_r1_41_two_processes_count_together(redis: Redis) -> None:
    """R1.41: one window per address, however many count into it."""
    one, two = RedisGeneralLimiter(redis, 3, 900_000), RedisGeneralLimiter(redis, 3, 900_000)
    states = [await limiter.count("10.0.0.1") for limiter in (one, two, one, two)]
    assert [state.remaining for state in states if state] == [2, 1, 0, 0]
    assert [state.exceeded for state in states if state] == [False, False, False, True]
    assert all(state and 895 <= state.resets_in_s <= 900 for state in states)
    other = await one.count("10.0.0.2")
    assert other
    assert other.remaining == 2


async def test_a_window_ends(redis: Redis) -> None:
    """After its time the counting begins anew, and no key stays behind."""
    limiter = RedisGeneralLimiter(redis, 1, 300)
    for exceeded in (False, True):
        state = await limiter.count("10.0.0.1")
        assert state
        assert state.exceeded is exceeded
    await asyncio.sleep(0.35)
    assert await redis.keys("*") == []
    state = await limiter.count("10.0.0.1")
    assert state
    assert not state.exceeded


async def test_r1_43_simultaneous_attempts_are_exact(redis: Redis) -> None:
    """R1.43: of forty at once over two processes six pass."""
    now = time.time()
    limiters = [RedisCredentialLimiter(redis, clock=lambda: now) for _ in range(2)]
    results = await asyncio.gather(*(limiters[n % 2].admit("10.0.0.1") for n in range(40)))
    assert sum(result.allowed for result in results) == 6
    assert {result.retry_after_s for result in results if not result.allowed} == {6}
    assert (await limiters[0].admit("10.0.0.2")).allowed


async def test_r1_43_attempts_come_back_one_every_six_seconds(redis: Redis) -> None:
    """R1.43, by a clock of our own."""
    now = [1_000_000.0]
    limiter = RedisCredentialLimiter(redis, clock=lambda: now[0])
    assert [(await limiter.admit("a")).allowed for _ in range(7)] == [True] * 6 + [False]
    now[0] += 5.9
    assert not (await limiter.admit("a")).allowed
    now[0] += 0.1
    assert (await limiter.admit("a")).allowed
    assert not (await limiter.admit("a")).allowed
    now[0] += 3_600
    assert [(await limiter.admit("a")).allowed for _ in range(7)] == [True] * 6 + [False]


async def test_r1_45_r6_11_without_redis_one_limiter_opens_and_one_holds(
    server: RedisServer, redis: Redis
) -> None:
    """R1.45, R6.11; neither its loss nor its empty return gives a new burst."""
    general = RedisGeneralLimiter(redis, 2, 900_000)
    credential = RedisCredentialLimiter(redis)
    for _ in range(3):
        state = await general.count("10.0.0.1")
    assert state
    assert state.exceeded
    assert [(await credential.admit("10.0.0.1")).allowed for _ in range(4)] == [True] * 4
    server.stop()
    began = time.monotonic()
    assert await general.count("10.0.0.1") is None
    results = [(await credential.admit("10.0.0.1")).allowed for _ in range(4)]
    assert results == [True] * 2 + [False] * 2
    for _ in range(200):
        assert await general.count("10.0.0.1") is None
    assert time.monotonic() - began < 3, "a Redis that is away must cost little"
    server.start()
    deadline = time.monotonic() + 10
    while await general.count("10.0.0.1") is None:
        assert time.monotonic() < deadline, "Redis is back but not used"
        await asyncio.sleep(0.1)
    assert not (await credential.admit("10.0.0.1")).allowed


async def test_r6_21_keys_do_not_meet_those_of_others(redis: Redis) -> None:
    """R6.21."""
    await RedisGeneralLimiter(redis, 2, 900_000).count("10.0.0.1")
    await RedisCredentialLimiter(redis).admit("10.0.0.1")
    keys: list[Any] = await redis.keys("*")
    assert len(keys) == 2
    assert all(key.startswith(b"gateway:limit:") for key in keys)
    assert all([await redis.pttl(key) > 0 for key in keys])


def test_the_breaker_asks_again_after_a_pause() -> None:
    """Three failures in a row, then one try a second."""
    now = [0.0]
    breaker = Breaker(clock=lambda: now[0])
    for _ in range(2):
        breaker.failed()
    assert not breaker.open()
    breaker.failed()
    assert breaker.open()
    now[0] = 1.0
    assert not breaker.open()
    assert breaker.open()
    breaker.succeeded()
    assert not breaker.open()
