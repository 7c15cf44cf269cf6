"""Shows operators how a service's cache is: `GET /internal/cache`, for holders of the token."""

from __future__ import annotations

from dataclasses import asdict

from litestar import Router, get

from system.platform.cache.cache import Cache
from system.platform.http.replies import Reply, success
from system.platform.security.litestar import internal_only


def cache_route(internal_token: str, cache: Cache) -> Router:
    """Make the route, behind its guard (R1.153).

    It answers `data{reachable, trusted, types{<cache_type>{hits, misses, bypasses, entries}}}`,
    counted since the start of this process; `entries` is null while Redis cannot be asked.

    Args:
        internal_token: INTERNAL_SERVICE_TOKEN.
        cache: the service's.
    """

    @get("/")
    async def show() -> Reply:
        """How the cache is, and what became of its reads."""
        health = await cache.health()
        statistics = await cache.statistics()
        return success(
            {**asdict(health), "types": {name: asdict(of) for name, of in statistics.items()}}
        )

    return Router("/internal/cache", route_handlers=[show], guards=[internal_only(internal_token)])
