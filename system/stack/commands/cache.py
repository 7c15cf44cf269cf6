"""The cache: cache status, clear."""

from __future__ import annotations

import argparse

from system.stack.commands.words import DONE, Commands, command, group, running, table
from system.stack.errors import StackError

_LONG = """\
Redis holds more than the cache: limits of the gateway and the mirror of revoked sessions. `clear`
touches only what a database has as well.
"""


def add(commands: Commands) -> None:
    """Add these commands to the command line."""
    actions = group(commands, "cache", "look at the cache, or empty it", _LONG)
    command(
        actions,
        "status",
        _status,
        "keys, memory and hits of Redis",
        "Entries by service and kind, as section 6.2 of the contract names them. Hits and misses\n"
        "of the cache itself are metrics of the services (cache_hits_total).",
    )
    command(
        actions,
        "clear",
        _clear,
        "empty the cache",
        "Every answer is read from its database again; a load that is under way is not kept. Do\n"
        "this after changing a database by hand, or after `bin/migrate import`.",
    )


def clear(url: str) -> int:
    """Remove every cache entry; returns how many keys there were.

    Args:
        url: redis://…

    Raises:
        StackError: Redis does not answer.
    """
    from redis import Redis
    from redis.exceptions import RedisError

    from system.platform.cache.keys import SERVICES, is_cached

    removed = 0
    try:
        with Redis.from_url(url, socket_timeout=10) as client:
            # First the generations: what was loaded before is not stored afterwards.
            removed += _number(client.delete(*(f"{name}:generation" for name in SERVICES)))
            batch: list[bytes] = []
            for key in client.scan_iter(count=500):
                if is_cached(key.decode("utf-8", "replace")):
                    batch.append(key)
                if len(batch) >= 500:
                    removed += _number(client.unlink(*batch))
                    batch.clear()
            if batch:
                removed += _number(client.unlink(*batch))
    except (RedisError, OSError) as error:
        raise StackError(f"Redis does not answer: {error}; is it up? `status` shows it") from error
    return removed


def _clear(options: argparse.Namespace) -> int:
    from system.stack import environment

    _state, ports, credentials = running(options)
    print(f"{clear(environment.redis_url(ports, credentials))} keys removed")
    return DONE


def _status(options: argparse.Namespace) -> int:
    from collections import Counter
    from typing import Any

    from redis import Redis
    from redis.exceptions import RedisError

    from system.platform.cache.keys import is_cached
    from system.stack import environment

    _state, ports, credentials = running(options)
    kinds: Counter[str] = Counter()
    try:
        with Redis.from_url(environment.redis_url(ports, credentials), socket_timeout=10) as client:
            facts: Any = client.info()
            for key in client.scan_iter(count=500):
                text = key.decode("utf-8", "replace")
                name = ":".join(text.split(":")[:2]) if is_cached(text) else "not of the cache"
                kinds[name] += 1
    except (RedisError, OSError) as error:
        raise StackError(f"Redis does not answer: {error}; is it up? `status` shows it") from error
    print(
        f"Redis {facts['redis_version']}, up {facts['uptime_in_seconds']} s, "
        f"{facts['used_memory_human']} in use, {facts['connected_clients']} clients, "
        f"{facts['keyspace_hits']} keys found and {facts['keyspace_misses']} not"
    )
    table([("KIND", "KEYS"), *((name, str(count)) for name, count in sorted(kinds.items()))])
    return DONE


def _number(answer: object) -> int:
    return answer if isinstance(answer, int) else 0
