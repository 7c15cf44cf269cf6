"""Gives Litestar handlers their principal and guards the internal routes.

A service's bootstrap puts one `Authenticator` into `app.state.authenticator`.  A protected handler
asks for its principal before it reads anything else, so that a missing token wins over a bad body
(R1.17).
"""

from __future__ import annotations

from typing import Any, cast

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from system.platform.security.principal import Authenticator, Principal, require_internal


async def authenticated(request: Request[Any, Any, Any]) -> Principal:
    """Return who sent this request, by its Authorization header (R1.28).

    Raises:
        ApiError: see `Authenticator.authenticate`.
    """
    authenticator = cast("Authenticator", request.app.state.authenticator)
    return await authenticator.authenticate(header(request, b"authorization"))


def header(request: Request[Any, Any, Any], name: bytes) -> str | None:
    """Return the first value of a header, without reading all others, or None.

    Args:
        request: any.
        name: in lower case.
    """
    for found, value in request.scope["headers"]:
        if found == name:
            return value.decode("latin-1")
    return None


def internal_only(internal_token: str) -> Guard:
    """Make a guard that admits only callers with `X-Internal-Token` (R1.153).

    Args:
        internal_token: INTERNAL_SERVICE_TOKEN.
    """

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        require_internal(connection.headers.get("x-internal-token"), internal_token)

    return guard
