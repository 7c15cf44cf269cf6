"""Repeats published events on Redis Pub/Sub while consumers move to RabbitMQ (R9.13)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Final, Protocol

from prometheus_client import Counter
from redis.asyncio import Redis

from system.platform import redis_connection
from system.platform.config.settings import Settings

_log = logging.getLogger(__name__)

# A few MiB at most; who is further behind reads RabbitMQ.
QUEUE: Final = 5_000
LOG_EVERY_S: Final = 60.0
DRAIN_S: Final = 1.0

EVENTS_MIRRORED_TOTAL: Final = Counter(
    "events_mirrored_total",
    "Events repeated on Redis Pub/Sub during cut-over.",
    ("outcome",),  # ok, failed
)


class PubSub(Protocol):
    """What is needed of Redis."""

    async def publish(self, channel: str, message: bytes) -> object: ...

    async def aclose(self) -> None: ...


class RedisChannel:
    """Publishes in the order given; what fails is counted and not tried again.

    Args:
        redis: a client of its own; closed with the channel.
    """

    def __init__(self, redis: PubSub | Redis) -> None:
        self._redis = redis
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._next_line = float("-inf")
        self._ok = EVENTS_MIRRORED_TOTAL.labels("ok")
        self._failed = EVENTS_MIRRORED_TOTAL.labels("failed")

    def start(self) -> None:
        """Begin; whatever state Redis is in."""
        if self._task is None:
            self._closing = False
            self._task = asyncio.create_task(self._run(), name="redis channel")

    def add(self, event_type: str, envelope: bytes) -> None:
        """Take an event that RabbitMQ has confirmed; never waits (R9.13)."""
        if len(self._waiting) >= QUEUE:
            self._failed.inc()
            self._say("too many are waiting")
            return
        self._waiting.append((event_type, envelope))
        self._wake.set()

    async def close(self) -> None:
        """Publish what waits, within a second, and stop."""
        task, self._task = self._task, None
        if task is None:
            return
        self._closing = True
        self._wake.set()
        done, _ = await asyncio.wait({task}, timeout=DRAIN_S)
        if not done:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self._redis.aclose()

    async def _run(self) -> None:
        while True:
            while self._waiting:
                channel, message = self._waiting.popleft()
                try:
                    await self._redis.publish(channel, message)
                except Exception as error:
                    self._failed.inc()
                    self._say(type(error).__name__)
                else:
                    self._ok.inc()
            if self._closing:
                return
            self._wake.clear()
            await self._wake.wait()

    def _say(self, reason: str) -> None:
        if time.monotonic() < self._next_line:
            return
        self._next_line = time.monotonic() + LOG_EVERY_S
        _log.warning("an event was not repeated on Redis (%s)", reason)


def redis_channel(settings: Settings) -> RedisChannel | None:
    """The channel that EVENT_TRANSPORT=dual asks for; None with `rabbitmq`."""
    if settings.event_transport != "dual":
        return None
    return RedisChannel(redis_connection.connect(settings.redis_url))
