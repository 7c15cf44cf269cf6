"""Keeps a process from waiting for a Redis that does not answer, wherever it is asked (R6.9).

All who use Redis for one request share a circuit: what one of them has just waited for in vain
the next does not wait for again, so that the whole answer is late by one time-out at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from system.platform.redis_connection import NotAsked

# R6.9: after so many failures in a row nobody waits any more, until a probe succeeds.
FAILURES_TO_OPEN: Final = 3
# After a single failure nobody asks for this long: the rest of the same request goes on without,
# also when it had to ask auth-service about its session in between.
PAUSE_S: Final = 0.3


class Circuit:
    """Counts failures in a row; open after three.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.on_open: Callable[[], None] = _nothing
        self._failures = 0
        self._failed_at = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether three in a row failed and no probe has succeeded since."""
        return self._failures >= FAILURES_TO_OPEN

    @property
    def allows(self) -> bool:
        """Whether Redis may be asked at this moment."""
        return not self._failures or (
            not self.is_open and self.clock() - self._failed_at >= PAUSE_S
        )

    def failed(self, started: float) -> None:
        """Note that a question asked at `started` got no answer.

        Failures side by side are one: a process held up for a moment sees many at once.
        """
        if started >= self._failed_at:
            self._failures += 1
            self._failed_at = self.clock()
            if self.is_open:
                self.on_open()

    def succeeded(self) -> None:
        """Note an answer."""
        self._failures = 0


class GuardedRedis(Redis):
    """A client that shares a circuit: refused at once while it is open, and heard by it.

    Args:
        redis: the client whose connections it uses; stays the owner of them.
        circuit: of the process.
    """

    def __init__(self, redis: Redis, circuit: Circuit) -> None:
        super().__init__(connection_pool=redis.connection_pool)
        self._redis = redis
        self._circuit = circuit

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command.

        Raises:
            NotAsked: Redis failed lately.
            redis.exceptions.RedisError: as always.
        """
        circuit = self._circuit
        if not circuit.allows:
            raise NotAsked("not asked: Redis failed a moment ago")
        started = circuit.clock()
        try:
            answer = await self._redis.execute_command(*args, **options)  # type: ignore[no-untyped-call] # redis has no types here
        except ResponseError:
            circuit.succeeded()
            raise
        except (RedisError, OSError, TimeoutError):
            circuit.failed(started)
            raise
        circuit.succeeded()
        return answer


def _nothing() -> None:
    """Nobody wants to know."""
