"""Gives Litestar handlers their principal and guards the internal routes.

A service's bootstrap puts one `Authenticator` on `app.state.authenticator`; a handler that takes
an argument `principal: Principal` and lists `dependencies=PRINCIPAL` is then protected.
Dependencies run before the body is read, so a missing token wins over a bad body (R1.17).
"""

from __future__ import annotations

from typing import Any, Final, cast

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from system.platform.security.principal import Authenticator, Principal, require_internal


async def provide_principal(request: Request[Any, Any, Any]) -> Principal:
    """Authenticate a request by its Authorization header (R1.28).

    Raises:
        ApiError: see `Authenticator.authenticate`.
    """
    authenticator = cast("Authenticator", request.app.state.authenticator)
    return await authenticator.authenticate(request.headers.get("authorization"))


PRINCIPAL: Final = {"principal": Provide(provide_principal)}


def internal_only(internal_token: str) -> Guard:
    """Make a guard that admits only callers with `X-Internal-Token` (R1.153)."""

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        require_internal(connection.headers.get("x-internal-token"), internal_token)

    return guard
