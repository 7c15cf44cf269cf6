"""Tests of repeating events on Redis Pub/Sub during cut-over (R9.13), with a fake of Redis."""

from __future__ import annotations

import asyncio
import logging

import pytest

from system.platform.config.settings import Settings
from system.platform.events import redis_channel as module
from system.platform.events.redis_channel import (
    EVENTS_MIRRORED_TOTAL,
    QUEUE,
    RedisChannel,
    redis_channel,
)

from .conftest import eventually


class FakePubSub:
    """Keeps what is published; away until told otherwise, or hanging."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.away = False
        self.hangs = False
        self.closed = False

    async def publish(self, channel: str, message: bytes) -> object:
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise ConnectionError("nobody listens")
        self.published.append((channel, message))
        return 1

    async def aclose(self) -> None:
        self.closed = True


def counted(outcome: str) -> float:
    """The counter's value."""
    return float(EVENTS_MIRRORED_TOTAL.labels(outcome)._value.get())


async def _is(seen: float, expected: float) -> bool:
    return seen == expected


async def test_r9_13_events_are_repeated_in_order_on_the_channel_of_their_type() -> None:
    """R9.13: channel = type, message = envelope; closing publishes what waits."""
    redis = FakePubSub()
    channel = RedisChannel(redis)
    channel.start()
    before = counted("ok")
    for number in range(100):
        channel.add("payment.created" if number % 2 else "user.login", b"%d" % number)
    await channel.close()

    assert redis.published == [
        ("payment.created" if number % 2 else "user.login", b"%d" % number) for number in range(100)
    ]
    assert counted("ok") == before + 100
    assert redis.closed


async def test_r9_13_a_redis_failure_is_counted_and_never_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """R9.13: add returns at once; the failure is counted; the log gets one line."""
    redis = FakePubSub()
    redis.away = True
    channel = RedisChannel(redis)
    channel.start()
    before = counted("failed")
    with caplog.at_level(logging.WARNING):
        for number in range(50):
            channel.add("user.login", b"%d" % number)
        await eventually(lambda: _is(counted("failed"), before + 50), 5, "50 failures counted")
        redis.away = False
        channel.add("user.login", b"back")
        await channel.close()

    assert redis.published == [("user.login", b"back")]
    assert len([r for r in caplog.records if "repeated on Redis" in r.getMessage()]) == 1


async def test_r9_13_a_redis_that_hangs_holds_a_bounded_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R9.13: beyond the bound events are counted as failed; closing does not wait for ever."""
    monkeypatch.setattr(module, "DRAIN_S", 0.05)
    redis = FakePubSub()
    redis.hangs = True
    channel = RedisChannel(redis)
    channel.start()
    before = counted("failed")
    for _ in range(QUEUE + 7):
        channel.add("user.login", b"x")
    assert counted("failed") == before + 7
    async with asyncio.timeout(5):
        await channel.close()
    assert redis.closed


@pytest.mark.parametrize(("transport", "there"), [("rabbitmq", False), ("dual", True)])
async def test_r9_13_event_transport_decides(transport: str, there: bool) -> None:
    """R9.13: only `dual` repeats."""
    settings = Settings(
        service="auth",
        service_name="auth-service",
        event_transport=transport,
        redis_url="redis://127.0.0.1:9",
    )
    assert (redis_channel(settings) is not None) is there
