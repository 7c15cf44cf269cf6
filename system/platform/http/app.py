"""Makes the application of a service from its handlers: with health, metrics and description.

Handlers return what `replies` makes, and raise `ApiError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
from litestar import Litestar, Request, get
from litestar.datastructures import State
from litestar.routes import HTTPRoute

from system.platform.config.settings import Settings
from system.platform.http.dispatch import Dispatch
from system.platform.http.health import Check, Health
from system.platform.http.openapi import DOCUMENT_PATH, Described, document, operation_of
from system.platform.http.outermost import Outermost, reply_to
from system.platform.http.replies import Reply, success
from system.platform.observability import metrics
from system.platform.security.litestar import internal_only

Hook = Callable[[], Awaitable[None]]


def create_app(
    settings: Settings,
    route_handlers: Sequence[Any],
    *,
    checks: Mapping[str, Check],
    essential: Collection[str] = ("database",),
    on_startup: Sequence[Hook] = (),
    on_shutdown: Sequence[Hook] = (),
    state: Mapping[str, Any] | None = None,
    public_prefixes: Mapping[str, str] | None = None,
) -> Litestar:
    """Make a service's application.

    Args:
        settings: of the process.
        route_handlers: Litestar's; each returns a `Reply`.
        checks: readiness by dependency (R1.55).
        essential: the dependencies without which the service is not ready (R1.56).
        on_startup: called in order before the first request; they must not fail for want of a
            dependency (R0.10).
        on_shutdown: called in order after the last request.
        state: becomes `app.state`.
        public_prefixes: for messages that name a path (R1.11): `{"/auth": "/api/auth"}`.

    Returns:
        The ASGI application.
    """
    health = Health(settings.service_name, checks, essential)
    watching: list[asyncio.Task[None]] = []

    async def watch() -> None:
        watching.append(asyncio.create_task(metrics.watch_event_loop(), name="event-loop-lag"))

    async def stop_watching() -> None:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)

    app = Litestar(
        [*route_handlers, *_own_routes(health), _description(settings, lambda: app)],
        exception_handlers={Exception: _on_exception},
        on_startup=[watch, *on_startup],
        on_shutdown=[*on_shutdown, stop_watching],
        openapi_config=None,
        logging_config=None,
        debug=False,
        request_max_body_size=None,
        # The services' own objects are shared on purpose.
        state=State(dict(state or {}), deep_copy=False),
    )
    app.asgi_handler = Outermost(
        Dispatch(app), settings.trusted_proxies, dict(public_prefixes or {})
    )
    return app


def _own_routes(health: Health) -> list[Any]:
    @get("/health")
    async def healthy() -> Reply:
        return success(health.healthy())

    @get("/health/live")
    async def alive() -> Reply:
        return success(health.alive())

    @get("/health/ready")
    async def ready() -> Reply:
        return success(await health.ready())

    @get("/metrics")
    async def exposition() -> Reply:
        text, content_type = metrics.render()
        return Reply(200, text, content_type=content_type.encode())

    return [healthy, alive, ready, exposition]


def described_routes(app: Litestar) -> list[Described]:
    """Return the routes of an application that say what they take and give."""
    return [
        Described(method, route.path, handler.fn.__name__, operation)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if (operation := operation_of(handler.fn)) is not None
        for method in sorted(handler.http_methods)
    ]


def _description(settings: Settings, app: Callable[[], Litestar]) -> Any:
    """Serve the API description to the gateway (R1.154); written at the first request."""
    written: list[Reply] = []

    @get(DOCUMENT_PATH, guards=[internal_only(settings.internal_service_token)])
    async def description() -> Reply:
        if not written:
            tag = settings.service
            written.append(
                Reply(
                    200, msgspec.json.encode(document(described_routes(app()), tag), enc_hook=str)
                )
            )
        return written[0]

    return description


def _on_exception(request: Request[Any, Any, Any], error: Exception) -> Any:
    return reply_to(error, request.scope)
