"""Tells whether a process lives and whether it can do its work (R1.54-R1.56); framework-free."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

from system.platform.http.errors import ApiError
from system.platform.moments import timestamp

# R1.54: each dependency is asked for at most 2 s, and a result is kept for at most 1 s.
CHECK_TIMEOUT_S: Final = 2.0
KEPT_S: Final = 1.0

# Returns when the dependency answers; any exception, or False, means it is down.
Check = Callable[[], Awaitable[object]]


class Health:
    """Health of one process.

    Args:
        service_name: as in R1.54, such as `auth-service`.
        checks: a check for each dependency, by the name of R1.55.
        essential: the dependencies without which the process is not ready (R1.56).
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        service_name: str,
        checks: Mapping[str, Check],
        essential: Collection[str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        unknown = set(essential) - set(checks)
        if unknown:
            raise ValueError(
                f"seen essential checks {sorted(unknown)} without a check, "
                f"expected some of {sorted(checks)}"
            )
        self._service_name = service_name
        self._checks = dict(checks)
        self._essential = frozenset(essential)
        self._clock = clock
        self._started = clock()
        self._kept: tuple[float, dict[str, dict[str, Any]]] | None = None
        self._asking: asyncio.Task[dict[str, dict[str, Any]]] | None = None

    def _data(self, **first: Any) -> dict[str, Any]:
        return {
            **first,
            "service": self._service_name,
            "timestamp": timestamp(),
            "uptime": round(self._clock() - self._started, 3),
        }

    def healthy(self) -> dict[str, Any]:
        """Return `data` of `/health`; asks no dependency."""
        return self._data(status="healthy")

    def alive(self) -> dict[str, Any]:
        """Return `data` of `/health/live`; asks no dependency."""
        return self._data(status="alive", alive=True)

    async def ready(self) -> dict[str, Any]:
        """Return `data` of `/health/ready`, at most one second old.

        Raises:
            ApiError: 503 SERVICE_UNAVAILABLE with the checks, when an essential one is down.
        """
        checks = await self._results()
        down = {name for name, result in checks.items() if result["status"] != "up"}
        if down & self._essential:
            raise ApiError(
                503,
                "SERVICE_UNAVAILABLE",
                "Service not ready",
                {"checks": checks},
                {"Retry-After": "1"},
            )
        return {**self._data(status="degraded" if down else "ready", ready=True), "checks": checks}

    async def _results(self) -> dict[str, dict[str, Any]]:
        if self._kept is not None and self._clock() - self._kept[0] < KEPT_S:
            return self._kept[1]
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all(), name="readiness")
        # A caller that goes away must not cancel the question of the others.
        return await asyncio.shield(self._asking)

    async def _ask_all(self) -> dict[str, dict[str, Any]]:
        # The age of a result counts from the moment of asking, not of the last answer.
        asked = self._clock()
        try:
            results = dict(
                zip(
                    self._checks,
                    await asyncio.gather(*(self._ask(check) for check in self._checks.values())),
                    strict=True,
                )
            )
            self._kept = (asked, results)
            return results
        finally:
            self._asking = None

    async def _ask(self, check: Check) -> dict[str, Any]:
        started = self._clock()
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                up = await check() is not False
        except Exception:
            # The reason is the dependency's own log's; answers show neither addresses nor texts
            # (R1.55).
            up = False
        return {
            "status": "up" if up else "down",
            "latencyMs": round((self._clock() - started) * 1000),
        }
