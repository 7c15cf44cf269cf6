"""Opens Redis so that its absence costs a request little: short time-outs, no waiting (R6.9)."""

from __future__ import annotations

from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from system.platform.observability import tracing

# R6.9 calls Redis down when it is slower than 200 ms.
TIMEOUT_S: Final = 0.2
# Beyond this many commands at once a further one fails as if Redis were away; a pool that makes
# callers queue would cost every command a lock.
MAX_CONNECTIONS: Final = 512
_PINGS: Final = 4


class _TracedRedis(Redis):
    """A client whose commands are spans of the request that needs them (R7.18)."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """See redis-py; without a trace it costs nothing more."""
        answer = super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        return answer if tracing.current() is None else _traced(answer, str(args[0]))


async def _traced(answer: Any, command: str) -> Any:
    span = tracing.child(f"redis {command}", tracing.Kind.CLIENT)
    tracing.describe(span, {"db.system": "redis", "db.operation.name": command})
    with tracing.within(span):
        return await answer


def connect(
    url: str,
    *,
    timeout_s: float = TIMEOUT_S,
    max_connections: int = MAX_CONNECTIONS,
    repeatable: bool = False,
) -> Redis:
    """Make a client; nothing is opened before its first command, so this never fails.

    Args:
        url: redis://…
        timeout_s: seconds for connecting and for each answer.
        max_connections: size of the pool.
        repeatable: every command may run twice.  One whose connection turns out to be dead then
            goes again at once on a fresh one, so that a Redis that restarted while nobody asked
            is not taken for one that is away; a time-out is never repeated.

    Returns:
        A client that answers bytes; close it with `aclose()`.
    """
    client: Redis = _TracedRedis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        max_connections=max_connections,
        retry=Retry(NoBackoff(), int(repeatable), (RedisConnectionError,)),
        health_check_interval=0,
    )
    return client


async def ping(client: Redis) -> None:
    """Ask Redis for a sign of life; for readiness (R1.55).

    It asks a few times: the short time-out is right for a request, which has another way, but a
    machine that stands still for 200 ms has not lost its Redis.

    Raises:
        RedisError, OSError: there was none, within about one second.
    """
    for _ in range(_PINGS - 1):
        try:
            await client.ping()
            return
        except (RedisError, OSError):
            continue
    await client.ping()
