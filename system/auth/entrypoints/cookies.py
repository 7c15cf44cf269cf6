"""Carries the refresh token in a cookie for those who ask for it (R1.71, R1.72)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from system.auth.entrypoints.caller import TRANSPORT_HEADER, AnyRequest
from system.platform.http import errors

COOKIE: Final = "refresh_token"
_ATTRIBUTES: Final = "Path=/api/auth; Secure; HttpOnly; SameSite=Strict"


class CookieTransport:
    """Reads and writes the cookie.

    Args:
        origins: CORS_ORIGINS, from where a cookie is accepted.
        max_age: life of a refresh token, seconds.
    """

    def __init__(self, origins: Collection[str], max_age: int) -> None:
        self._origins = frozenset(origins)
        self._max_age = max_age

    def asked_for(self, request: AnyRequest) -> bool:
        """Whether this request wants the cookie transport."""
        return request.headers.get(TRANSPORT_HEADER, "").strip().lower() == "cookie"

    def read(self, request: AnyRequest) -> str:
        """Return the refresh token of the cookie.

        Raises:
            ApiError: 401 UNAUTHORIZED if the transport was not asked for or no cookie was sent;
                403 ORIGIN_NOT_ALLOWED from a foreign origin.
        """
        if not self.asked_for(request):
            raise errors.unauthorized()
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self._origins:
            raise errors.origin_not_allowed()
        token = request.cookies.get(COOKIE)
        if not token:
            raise errors.unauthorized()
        return token

    def set(self, token: str) -> dict[str, str]:
        """Return the header that hands the token over."""
        return {"Set-Cookie": f"{COOKIE}={token}; Max-Age={self._max_age}; {_ATTRIBUTES}"}

    def clear(self, request: AnyRequest) -> dict[str, str]:
        """Return the header that ends the cookie, if the transport was asked for."""
        if not self.asked_for(request):
            return {}
        return {"Set-Cookie": f"{COOKIE}=; Max-Age=0; {_ATTRIBUTES}"}
