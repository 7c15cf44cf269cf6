"""Mirrors session states in Redis, and makes the mirror worthless when a write may be missing.

What lies there and how it is read is told in `system.platform.security.sessions`.  A revocation
that could not be written, and a Redis that was restarted (perhaps with old contents), both lead to
a new epoch as soon as Redis can be written again; until then verifiers that see no Redis ask the
internal API (R1.38, R1.39).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError

from system.platform.security.sessions import EPOCH_KEY, REVOKED, open_value, state_key

# Margin over the life of an access token: clocks may differ by 5 s (R1.25).
_MARGIN_S = 60
_WATCH_S = 1.0
_RETRY_S = 0.2
_PAUSE_S = 1.0
_PLACES = 32
_CLOSE_S = 3.0
_UNREACHABLE = (RedisError, OSError, TimeoutError)

# A reader that saw "open" a moment ago must not wipe out a revocation that came since.
_OPEN_UNLESS_REVOKED = """
if redis.call('GET', KEYS[1]) == 'revoked' then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


class RedisMirror:
    """`ports.Mirror` in Redis.

    Args:
        redis: client with short timeouts and no retries.
        access_seconds: life of an access token; entries outlive it.
    """

    def __init__(self, redis: Redis, access_seconds: int) -> None:
        self._redis = redis
        self._kept_ms = (access_seconds + _MARGIN_S) * 1000
        # More at once than the client has connections would fail without Redis being at fault.
        self._places = asyncio.Semaphore(_PLACES)
        self._epoch: str | None = None
        self._run_id: str | None = None
        # Revocations that may be missing. It starts at 1: what happened while this process was
        # not there to see is unknown.
        self._missed = 1
        self._settled = 0
        self._paused_until = 0.0
        self._wake = asyncio.Event()
        self._closing = False
        self._watching: asyncio.Task[None] | None = None

    @property
    def epoch(self) -> str | None:
        return self._epoch

    @property
    def settled(self) -> bool:
        """Whether no "open" entry can hide a revocation."""
        return self._missed == self._settled

    async def start(self) -> None:
        """Watch over the mirror until `close`; returns at once, whatever state Redis is in."""
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop watching; the Redis client belongs to the caller."""
        task, self._watching = self._watching, None
        if task is None:
            return
        self._closing = True
        self._wake.set()
        # Asked, not cancelled: the Redis client turns a cancellation that comes while it connects
        # into an error of its own, and the watch would go on for ever.
        _, running = await asyncio.wait({task}, timeout=_CLOSE_S)
        for late in running:
            late.cancel()

    async def opened(self, session_id: str, epoch: str | None) -> None:
        if epoch is None or time.monotonic() < self._paused_until:
            return
        try:
            async with self._places:
                await self._redis.eval(
                    _OPEN_UNLESS_REVOKED,
                    1,
                    state_key(session_id),
                    open_value(epoch),
                    str(self._kept_ms),
                )
        except _UNREACHABLE:
            # Nothing is lost: a verifier that finds no entry asks here.
            self._paused_until = time.monotonic() + _PAUSE_S

    async def revoked(self, session_ids: Sequence[str]) -> None:
        # While a new epoch is due anyway there is nothing to wait for.  The second try is for a
        # late answer that was this process's own fault; a new epoch would cost every entry.
        for _ in range(2):
            if not self.settled:
                break
            with contextlib.suppress(*_UNREACHABLE):
                await self._write_revoked(session_ids)
                return
        self._missed += 1
        self._wake.set()

    async def _write_revoked(self, session_ids: Sequence[str]) -> None:
        async with self._places, self._redis.pipeline(transaction=False) as pipe:
            for session_id in session_ids:
                pipe.set(state_key(session_id), REVOKED, px=self._kept_ms)
            await pipe.execute()

    async def _watch(self) -> None:
        while not self._closing:
            with contextlib.suppress(*_UNREACHABLE):
                if self.settled:
                    await self._look()
                if not self.settled:
                    await self._renew()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_S if self.settled else _RETRY_S):
                    await self._wake.wait()
            if not self._closing:
                self._wake.clear()

    async def _look(self) -> None:
        """Take over the epoch in force; notice an emptied or restarted Redis."""
        epoch = await self._redis.get(EPOCH_KEY)
        run_id = await self._read_run_id()
        if epoch is None or run_id != self._run_id:
            self._missed += 1
        else:
            self._epoch = epoch.decode() if isinstance(epoch, bytes) else epoch

    async def _renew(self) -> None:
        """Draw a new epoch: every "open" entry written before stops counting."""
        missed, epoch = self._missed, str(uuid.uuid4())
        run_id = await self._read_run_id()
        await self._redis.set(EPOCH_KEY, epoch)
        self._epoch, self._run_id = epoch, run_id
        # Only what was missed before the new epoch is settled by it.
        self._settled = missed

    async def _read_run_id(self) -> str:
        server = await self._redis.info("server")
        return str(server["run_id"])
