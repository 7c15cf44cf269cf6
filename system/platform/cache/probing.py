"""Finds out when a Redis that stopped answering answers again, so that no request has to (R6.9)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from system.platform.cache.circuit import Circuit

EVERY_S: Final = 0.25


class Probing:
    """Asks while a circuit is open, and closes it; for a process that has no cache to do so.

    Args:
        redis: the client behind the circuit's guarded one; stays the owner of its connections.
        circuit: of the process.
    """

    def __init__(self, redis: Redis, circuit: Circuit) -> None:
        self._redis = redis
        self._circuit = circuit
        self._asking: asyncio.Task[None] | None = None
        circuit.on_open = self._begin

    async def close(self) -> None:
        """Ask no more."""
        self._circuit.on_open = _nothing
        if self._asking is not None:
            self._asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._asking

    def _begin(self) -> None:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="probing Redis")

    async def _ask(self) -> None:
        while True:
            try:
                await self._redis.ping()
            except (RedisError, OSError, TimeoutError):
                await asyncio.sleep(EVERY_S)
            else:
                self._circuit.succeeded()
                return


def _nothing() -> None:
    """Nobody is there to ask."""
