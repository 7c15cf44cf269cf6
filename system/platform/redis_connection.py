"""Opens Redis so that its absence costs a request little: short time-outs, no retries (R6.9)."""

from __future__ import annotations

from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

# R6.9 calls Redis down when it is slower than 200 ms.
TIMEOUT_S: Final = 0.2
# More waiting callers than this wait for each other rather than open a flood of connections.
MAX_CONNECTIONS: Final = 64


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
