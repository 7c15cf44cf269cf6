"""Lets those who want the same thing go one after the other, and nobody wait in vain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from system.platform.http import errors

# With a hash and a commit it stays below the shortest upstream time-out in use (3 s, R0.16).
WAIT_S: Final = 2.0


class Turns:
    """Turns by key, in the order in which they are asked for.

    Who waits is told 503 before the gateway gives the service up: when its time is over, and at
    once when somebody before it finds a dependency away, for which it would wait in vain itself
    (R1.14, R6.11).

    Args:
        places: turns at one time, whatever their keys; None for any number.
        wait_s: seconds to wait.
    """

    def __init__(self, places: int | None = None, *, wait_s: float = WAIT_S) -> None:
        self._places = None if places is None else asyncio.Semaphore(places)
        self._wait_s = wait_s
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._waiting: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def of(self, key: str) -> AsyncIterator[None]:
        """Wait for the turn of a key and hold it.

        Raises:
            ApiError: 503 SERVICE_UNAVAILABLE, it did not come.
        """
        async with AsyncExitStack() as held:
            await self._wait(held, self._locks.setdefault(key, asyncio.Lock()))
            try:
                yield
            except errors.ApiError as error:
                if error.status == 503:
                    self._turn_away()
                raise

    async def _wait(self, held: AsyncExitStack, lock: asyncio.Lock) -> None:
        try:
            async with asyncio.timeout(self._wait_s) as limit:
                self._waiting.add(limit)
                try:
                    await held.enter_async_context(lock)
                    if self._places is not None:
                        await held.enter_async_context(self._places)
                finally:
                    self._waiting.discard(limit)
        except TimeoutError as error:
            raise errors.service_unavailable() from error

    def _turn_away(self) -> None:
        now = asyncio.get_running_loop().time()
        for limit in self._waiting:
            limit.reschedule(now)
