"""Opens Redis so that its absence costs a request little: short time-outs, no waiting (R6.9)."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from system.platform.observability import tracing
from system.platform.redis_wire import Wire, open_wire

# R6.9 calls Redis down when it is slower than 200 ms.
TIMEOUT_S: Final = 0.2
# The 250 ms of R6.9 are counted outside, where gateway and service may both find out in one request
# that Redis is silent.  Who answers a read waits so long at most, the two together and with time to
# spare for all else.
GATEWAY_READ_S: Final = 0.06
SERVICE_READ_S: Final = 0.1
# Of pipelines and subscriptions; commands share one.
_MAX_CONNECTIONS: Final = 64
_PINGING_S: Final = 0.8


class NotAsked(RedisConnectionError):
    """Redis failed a moment ago and was not asked again: nothing new is known of it."""


class _SharedWire(Redis):
    """A client whose commands share one connection, and are spans of the request (R7.18).

    Pipelines and subscriptions still have connections of their own.

    Attributes:
        repeatable: a command whose connection turns out to be dead goes again on a fresh one.
    """

    repeatable = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._wire: Wire | None = None
        self._opening: asyncio.Task[Wire] | None = None

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command; see redis-py, whose errors these are."""
        answer = self._execute(args, options)
        return answer if tracing.current() is None else _traced(answer, str(args[0]))

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()
            await asyncio.sleep(0)  # the transport ends in the next turn of the loop
        await super().aclose(close_connection_pool)

    async def _execute(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        wire = self._wire
        if wire is not None and wire.is_open:
            try:
                reply = await wire.send(*args)
            except RedisConnectionError:
                if not self.repeatable:
                    raise
                reply = await (await self._opened()).send(*args)
        else:
            reply = await (await self._opened()).send(*args)
        callback = self.response_callbacks.get(args[0])
        if callback is None:
            return reply
        options.pop("keys", None)  # of redis-py's own cache
        return callback(reply, **options)

    async def _opened(self) -> Wire:
        """The open connection; those who find none open one together."""
        if self._wire is not None and self._wire.is_open:
            return self._wire
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(_seen)
        # Shielded: one caller that goes away must not take the connection from the others.
        return await asyncio.shield(self._opening)

    async def _open(self) -> Wire:
        try:
            timeout_s = self.connection_pool.connection_kwargs["socket_timeout"]
            connection = self.connection_pool.make_connection()  # type: ignore[no-untyped-call] # as in all of redis-py
            self._wire = await open_wire(connection, timeout_s)
            return self._wire
        finally:
            self._opening = None


def _seen(opening: asyncio.Task[Wire]) -> None:
    """Take note of a failure that everybody who waited for has left."""
    if not opening.cancelled():
        opening.exception()


async def _traced(answer: Any, command: str) -> Any:
    span = tracing.child(f"redis {command}", tracing.Kind.CLIENT)
    tracing.describe(span, {"db.system": "redis", "db.operation.name": command})
    with tracing.within(span):
        return await answer


def connect(url: str, *, timeout_s: float = TIMEOUT_S, repeatable: bool = False) -> Redis:
    """Make a client; nothing is opened before its first command, so this never fails.

    Args:
        url: redis://…
        timeout_s: seconds for connecting and for each answer.
        repeatable: every command may run twice.  One whose connection turns out to be dead then
            goes again at once on a fresh one, so that a Redis that restarted while nobody asked
            is not taken for one that is away; a time-out is never repeated.

    Returns:
        A client that answers bytes; close it with `aclose()`.
    """
    client = _SharedWire.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        max_connections=_MAX_CONNECTIONS,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )
    assert isinstance(client, _SharedWire)
    client.repeatable = repeatable
    return client


async def ping(client: Redis) -> None:
    """Ask Redis for a sign of life; for readiness (R1.55).

    It asks a few times: the short time-out is right for a request, which has another way, but a
    machine that stands still for 200 ms has not lost its Redis.

    Raises:
        RedisError, OSError: there was none, within about one second.
    """
    timeout_s = client.connection_pool.connection_kwargs["socket_timeout"]
    for _ in range(round(_PINGING_S / timeout_s) - 1):
        try:
            await client.ping()
            return
        except (RedisError, OSError):
            continue
    await client.ping()
