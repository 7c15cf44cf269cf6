"""Keeps the description of the API, as far as the services have told it (R1.154)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from system.gateway.domain.description import Document, join
from system.gateway.domain.routes import Service
from system.gateway.ports import ServiceDescriptions
from system.platform.http import errors
from system.platform.http.openapi import (
    PUBLIC,
    SECURITY_SCHEME,
    Described,
    Operation,
    document,
)
from system.platform.http.shapes import (
    BOOLEAN,
    COUNT,
    MOMENT,
    NUMBER,
    Part,
    constant,
    map_of,
    one_of,
    shape,
)

# A service that was changed and started again is seen after this time.
KEPT_S: Final = 60.0

_SECURITY: Final = {
    SECURITY_SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The access token of a log-in, a registration or a refresh.",
    }
}
_HEALTH: Final[dict[str, Part]] = {
    "service": constant("api-gateway"),
    "timestamp": MOMENT,
    "uptime": NUMBER,
}
_CHECK: Final = shape("Check", {"status": one_of("up", "down"), "latencyMs": COUNT})
_OWN: Final = (
    Described(
        "GET",
        "/health",
        "health",
        Operation(
            summary="Show that the gateway answers",
            who=PUBLIC,
            answers={200: shape("Health", {"status": constant("healthy"), **_HEALTH})},
        ),
    ),
    Described(
        "GET",
        "/health/live",
        "liveness",
        Operation(
            summary="Show that the gateway is alive",
            who=PUBLIC,
            answers={
                200: shape(
                    "Liveness", {"status": constant("alive"), "alive": constant(True), **_HEALTH}
                )
            },
        ),
    ),
    Described(
        "GET",
        "/health/ready",
        "readiness",
        Operation(
            summary="Show whether the gateway and what it needs are ready",
            who=PUBLIC,
            answers={
                200: shape(
                    "Readiness",
                    {
                        "status": one_of("ready", "degraded"),
                        "ready": BOOLEAN,
                        **_HEALTH,
                        "checks": map_of(_CHECK),
                    },
                )
            },
        ),
    ),
)


class DescriptionService:
    """The document of the whole API.

    Args:
        source: asks a service for its part.
        origin: PUBLIC_ORIGIN.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        source: ServiceDescriptions,
        origin: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._origin = origin
        self._clock = clock
        self._parts: dict[Service, Document] = {}
        self._written: Mapping[str, Any] = {}
        self._until = 0.0
        self._asking = asyncio.Lock()

    async def document(self) -> Mapping[str, Any]:
        """Return OpenAPI 3.1; a service that is down stands with what it said last.

        Raises:
            ApiError: 503 as long as a service has never answered.
        """
        async with self._asking:
            if not self._written or self._clock() >= self._until:
                await self._ask()
        return self._written

    async def _ask(self) -> None:
        answers = await asyncio.gather(*(self._source.of(service) for service in Service))
        known = {
            service: answer
            for service, answer in zip(Service, answers, strict=True)
            if answer is not None
        }
        self._parts = {**self._parts, **known}
        if len(self._parts) < len(Service):
            raise errors.service_unavailable()
        self._written = join(
            self._parts, document(_OWN, "gateway"), origin=self._origin, security=_SECURITY
        )
        self._until = self._clock() + KEPT_S
