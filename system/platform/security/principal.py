"""Turns an Authorization header into the principal who acts, or into the refusal of R1.28."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from system.platform.http import errors
from system.platform.security.keys import FreshKeys
from system.platform.security.sessions import SessionCheck
from system.platform.security.tokens import Claims, KeyRing, TokenType, verify


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated user behind a request.

    Attributes:
        user_id: id of the account.
        email: address in the token.
        name: display name in the token.
        role: ADMIN, CUSTOMER or VENDOR.
        session_id: the session (`sid`) the token belongs to.
        claims: everything the token says.
    """

    user_id: str
    email: str
    name: str
    role: str
    session_id: str
    claims: Claims


class Authenticator:
    """Judges access tokens: keys and claims by the ring, the session by its check (R1.28, R1.29).

    Args:
        keys: verify access tokens; a ring that stays as it is, or keys that follow those of
            auth-service (R1.30).
        sessions: says whether a session is still open.
    """

    def __init__(self, keys: KeyRing | FreshKeys, sessions: SessionCheck) -> None:
        self._keys = keys
        self._sessions = sessions

    async def authenticate(self, authorization_header: str | None) -> Principal:
        """Return who sent this `Authorization` header.

        Raises:
            ApiError: 401 UNAUTHORIZED without header or with another scheme than Bearer;
                otherwise as `authenticate_token`.
        """
        scheme, _, token = (authorization_header or "").strip().partition(" ")
        if scheme.lower() != "bearer":
            raise errors.unauthorized()
        return await self.authenticate_token(token.strip())

    async def authenticate_token(self, token: str) -> Principal:
        """Return whom a bare access token stands for (WebSocket handshakes, `reauth`).

        Raises:
            ApiError: 401 TOKEN_INVALID, TOKEN_EXPIRED or TOKEN_REVOKED (R1.28);
                503 SERVICE_UNAVAILABLE if the session's state cannot be found out (R1.38).
        """
        if isinstance(self._keys, FreshKeys):
            claims = await self._keys.verify(token)
        else:
            claims = verify(token, self._keys, TokenType.ACCESS)
        await self._sessions.ensure_open(claims)
        return Principal(
            user_id=claims.user_id,
            email=claims.email,
            name=claims.name,
            role=claims.role,
            session_id=claims.session_id,
            claims=claims,
        )


def require_role(principal: Principal, *roles: str) -> None:
    """Let only these roles pass.

    Raises:
        ApiError: 403 FORBIDDEN.
    """
    if principal.role not in roles:
        raise errors.forbidden()


def require_internal(presented: str | None, expected: str) -> None:
    """Let only callers pass that know the internal token (R1.153).

    Args:
        presented: value of X-Internal-Token, None without the header.
        expected: INTERNAL_SERVICE_TOKEN.

    Raises:
        ApiError: 401 UNAUTHORIZED.
    """
    # compare_digest takes constant time for equal lengths; an empty secret admits nobody.
    if not expected or not hmac.compare_digest((presented or "").encode(), expected.encode()):
        raise errors.unauthorized()
