"""Opens Redis so that its absence costs a request little: short time-outs, no retries (R6.9)."""

from __future__ import annotations

from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

# R6.9 calls Redis down when it is slower than 200 ms.
TIMEOUT_S: Final = 0.2
# Beyond this many commands at once a further one fails as if Redis were away; a pool that makes
# callers queue would cost every command a lock.
MAX_CONNECTIONS: Final = 512
_PINGS: Final = 4


def connect(
    url: str, *, timeout_s: float = TIMEOUT_S, max_connections: int = MAX_CONNECTIONS
) -> Redis:
    """Make a client; nothing is opened before its first command, so this never fails.

    Args:
        url: redis://…
        timeout_s: seconds for connecting and for each answer.
        max_connections: size of the pool.

    Returns:
        A client that answers bytes; close it with `aclose()`.
    """
    client: Redis = Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        max_connections=max_connections,
        retry=Retry(NoBackoff(), 0),
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
