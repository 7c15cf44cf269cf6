"""Keeps the limiters' counters in Redis, so that all processes count together (R1.41-R1.45)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from system.gateway.domain.limits import (
    CREDENTIAL_BURST,
    CREDENTIAL_INTERVAL_S,
    Admission,
    Quota,
    admit,
    quota,
)

GENERAL_PREFIX: Final = "gateway:limit:general:"
CREDENTIAL_PREFIX: Final = "gateway:limit:credential:"
# After so many failures in a row Redis is left alone for a moment: a hanging one costs its
# time-out each time it is asked.
_FAILURES: Final = 3
_PAUSE_S: Final = 1.0
_REMEMBERED: Final = 100_000
_TROUBLE: Final = (RedisError, OSError, TimeoutError, asyncio.TimeoutError)

# A fixed window per address: count, and begin the window with the first request.
_WINDOW: Final = """
local used = redis.call('INCR', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  left = tonumber(ARGV[1])
end
return {used, left}
"""
# `domain.limits.admit`, in whole milliseconds, done where all processes meet.  ARGV: now, interval,
# burst, and what this process remembers, which counts if it is later.
_BUCKET: Final = """
local now, interval = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[4]))
local start = math.max(full, now)
local early = start - tonumber(ARGV[3]) * interval - now
if early > 1 then
  return {0, full, early}
end
full = start + interval
redis.call('SET', KEYS[1], string.format('%d', full), 'PX', string.format('%d', full - now))
return {1, full, 0}
"""


class Breaker:
    """Says whether to ask a dependency that failed lately.

    Args:
        clock: steady seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._again = 0.0

    def open(self) -> bool:
        """Whether to leave it alone; once the pause is over one caller may try."""
        if self._failures < _FAILURES:
            return False
        now = self._clock()
        if now < self._again:
            return True
        self._again = now + _PAUSE_S
        return False

    def succeeded(self) -> None:
        """It works."""
        self._failures = 0

    def failed(self) -> None:
        """It did not."""
        self._failures += 1
        self._again = self._clock() + _PAUSE_S


class RedisGeneralLimiter:
    """The general window; requests pass while Redis cannot count them (R1.45).

    Args:
        redis: client with short time-outs.
        limit: requests per window.
        window_ms: milliseconds of a window.
    """

    def __init__(self, redis: Redis, limit: int, window_ms: int) -> None:
        self._script = redis.register_script(_WINDOW)
        self._limit = limit
        self._window_ms = window_ms
        self._breaker = Breaker()

    async def count(self, address: str) -> Quota | None:
        """See `GeneralLimiter.count`."""
        if self._breaker.open():
            return None
        try:
            used, left = await self._script(keys=[GENERAL_PREFIX + address], args=[self._window_ms])
        except _TROUBLE:
            self._breaker.failed()
            return None
        self._breaker.succeeded()
        return quota(self._limit, self._window_ms, int(used), int(left))


class RedisCredentialLimiter:
    """The credential bucket, in Redis and, as far as this process knows it, in memory (R1.45).

    Memory follows along all the time, so neither the loss of Redis nor its return with nothing
    in it gives anybody a new burst.

    Args:
        redis: client with short time-outs.
        clock: seconds since the epoch.
    """

    def __init__(self, redis: Redis, clock: Callable[[], float] = time.time) -> None:
        self._script = redis.register_script(_BUCKET)
        self._clock = clock
        self._breaker = Breaker()
        self._full_until: dict[str, float] = {}

    async def admit(self, address: str) -> Admission:
        """See `CredentialLimiter.admit`."""
        if not self._breaker.open():
            try:
                judged = await self._ask(address)
            except _TROUBLE:
                self._breaker.failed()
            else:
                self._breaker.succeeded()
                self._remember(address, judged.full_until_s)
                return judged
        judged = admit(self._full_until.get(address, 0.0), self._clock())
        if judged.allowed:
            self._remember(address, judged.full_until_s)
        return judged

    async def _ask(self, address: str) -> Admission:
        now = self._clock()
        allowed, full, early = await self._script(
            keys=[CREDENTIAL_PREFIX + address],
            args=[
                int(now * 1000),
                int(CREDENTIAL_INTERVAL_S * 1000),
                CREDENTIAL_BURST,
                int(self._full_until.get(address, 0.0) * 1000),
            ],
        )
        if allowed:
            return Admission(True, int(full) / 1000, 0)
        return Admission(False, int(full) / 1000, max(1, -(-int(early) // 1000)))

    def _remember(self, address: str, full_until_s: float) -> None:
        entries = self._full_until
        if address not in entries and len(entries) >= _REMEMBERED:
            now = self._clock()
            for known in [known for known, full in entries.items() if full <= now]:
                del entries[known]
            while len(entries) >= _REMEMBERED:
                del entries[next(iter(entries))]
        entries[address] = full_until_s
