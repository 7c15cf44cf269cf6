"""The routes that other services and the gateway ask auth-service by (1.14)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from litestar import Request, Router, get

from system.auth.domain.accounts import User
from system.auth.entrypoints import internal_commands
from system.auth.entrypoints.internal_user import internal_user
from system.auth.service.reading import AccountReads
from system.platform.http import errors
from system.platform.http.numeric_fields import Integer
from system.platform.http.replies import Reply, success
from system.platform.http.requests import query
from system.platform.http.text_fields import Email, Uuid
from system.platform.http.validation import Schema
from system.platform.moments import timestamp
from system.platform.security.litestar import internal_only
from system.platform.security.tokens import KeyRing, SigningKey, TokenType

AnyRequest = Request[Any, Any, Any]

# Lower than every UUID, so the first page begins with the first user.
_BEGINNING = ""
USER_PAGE = Schema(
    {"after": Uuid(optional=True), "limit": Integer(minimum=1, maximum=1000, default=500)}
)
BY_EMAIL = Schema({"email": Email()})
USER_ID = Schema({"id": Uuid()})
SESSION_ID = Schema({"sid": Uuid()})


@get("/users")
async def users(request: AnyRequest) -> Reply:
    """All accounts, a page at a time: the next one begins `after` the last id of this one."""
    page = USER_PAGE.parse(query(request))
    found = await _reads(request).users(after=page.get("after", _BEGINNING), limit=page["limit"])
    return success([internal_user(user) for user in found])


@get("/users/by-email")
async def user_by_email(request: AnyRequest) -> Reply:
    """The account with an e-mail address."""
    wanted = BY_EMAIL.parse(query(request))
    return _user_answer(await _reads(request).user_by_email(wanted["email"]))


@get("/users/{id:str}")
async def user(request: AnyRequest) -> Reply:
    """The account with an id."""
    wanted = USER_ID.parse(request.path_params)
    return _user_answer(await _reads(request).user(wanted["id"]))


@get("/sessions/{sid:str}")
async def session(request: AnyRequest) -> Reply:
    """Whether tokens of a session count at this moment (R1.38)."""
    wanted = SESSION_ID.parse(request.path_params)
    state = await _reads(request).session_state(wanted["sid"])
    if state is None:
        raise errors.missing("SESSION_NOT_FOUND", "Session not found")
    found, is_open = state
    return success(
        {
            "id": found.id,
            "userId": found.user_id,
            "open": is_open,
            "expiresAt": timestamp(found.expires_at),
        }
    )


@get("/keys")
async def verification_keys(request: AnyRequest) -> Reply:
    """The keys that verify access tokens; refresh keys never leave auth-service (R1.30)."""
    keys = cast("KeyRing", request.app.state.ring).keys(TokenType.ACCESS)
    if not keys:
        # The stored ring was not read yet: to name none would empty the rings of all others.
        raise errors.service_unavailable()
    return success({"access": _keys(keys)})


def routes(internal_token: str) -> Router:
    """Return the internal routes behind their guard (R1.153)."""
    return Router(
        "/internal",
        route_handlers=[
            users,
            user_by_email,
            user,
            session,
            verification_keys,
            *internal_commands.COMMANDS,
        ],
        guards=[internal_only(internal_token)],
    )


def _user_answer(account: User | None) -> Reply:
    if account is None:
        raise errors.missing("USER_NOT_FOUND", "User not found")
    return success(internal_user(account))


def _keys(keys: Sequence[SigningKey]) -> list[dict[str, Any]]:
    return [
        {
            "kid": key.kid,
            "secret": key.secret.decode(),
            "createdAt": timestamp(key.created_at) if key.created_at else None,
            "expiresAt": timestamp(key.expires_at) if key.expires_at else None,
            "isActive": key.is_active,
            "canVerify": key.can_verify,
        }
        for key in keys
        if key.can_verify
    ]


def _reads(request: AnyRequest) -> AccountReads:
    return cast("AccountReads", request.app.state.reads)
