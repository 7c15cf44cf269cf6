"""Calls the handler of a request: Litestar finds it, and nothing stands between it and its answer.

Handlers of the services take the request or nothing and return a `Reply`.  What Litestar does for
others, such as reading parameters by their types and making an answer of what was returned, they
never use, and it costs more than the rest of a cached read (docs/decisions/0014).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final

from litestar import Litestar, Request
from litestar.handlers import HTTPRouteHandler
from litestar.types import HTTPScope, Receive, Send
from litestar.utils import normalize_path

# Whoever sends another host is judged by Litestar.
_ORDINARY: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]")

Call = Callable[..., Awaitable[Any]]


class Dispatch:
    """The way from the outermost layer to a handler.

    Args:
        app: whose routes they are; all of them are registered.
    """

    def __init__(self, app: Litestar) -> None:
        self._router = app.asgi_router
        self._find = app.asgi_router.handle_routing
        self._calls: dict[int, tuple[Call, bool, bool]] = {}
        for route in app.routes:
            for handler in getattr(route, "route_handlers", ()):
                if isinstance(handler, HTTPRouteHandler) and _wants_no_more(handler):
                    takes_request = bool(inspect.signature(handler.fn).parameters)
                    guarded = bool(handler.resolve_guards())
                    self._calls[id(handler)] = (handler.fn, takes_request, guarded)

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send, host: bytes) -> None:
        """Answer a request.

        Args:
            scope: of the request; gets the route's template and parameters.
            receive: gives its body.
            send: takes the answer.
            host: value of its Host header, b"" if there is none.

        Raises:
            Exception: whatever the handler raised, or Litestar's for a route that is none.
        """
        if not _ORDINARY.issuperset(host):
            await self._router(scope, receive, send)
            return
        _, handler, path, parameters, template = self._find(
            path=normalize_path(scope["path"]), method=scope["method"]
        )
        call = self._calls.get(id(handler))
        if call is None:
            await self._router(scope, receive, send)
            return
        scope["path"], scope["path_params"] = path, parameters
        scope["path_template"], scope["route_handler"] = template, handler
        function, takes_request, guarded = call
        request: Request[Any, Any, Any] = Request(scope, receive, send)
        if guarded:
            await handler.authorize_connection(request)
        reply = await (function(request) if takes_request else function())
        await reply(scope, receive, send)


def _wants_no_more(handler: HTTPRouteHandler) -> bool:
    """Whether a handler uses nothing of Litestar but the request, its route and its guards."""
    return tuple(inspect.signature(handler.fn).parameters) in ((), ("request",)) and not (
        handler.has_sync_callable
        or handler.cache
        or handler.resolve_middleware()
        or handler.resolve_dependencies()
        or handler.resolve_before_request()
        or handler.resolve_after_response()
        or any(getattr(layer, "after_request", None) for layer in handler.ownership_layers)
    )
