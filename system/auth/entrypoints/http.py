"""The public routes of auth-service (1.10): reads requests, calls the use cases, writes answers."""

from __future__ import annotations

from typing import Any, cast

import msgspec
from litestar import Request, get, post

from system.auth.domain.accounts import User, UserRole
from system.auth.ports import Caller
from system.auth.service.reading import AccountReads
from system.auth.service.signing_in import SignedIn, SigningIn
from system.platform.cache import keys
from system.platform.cache.cache import Cache, Loaded
from system.platform.http import errors
from system.platform.http.app import Reply, created, json_body, success, wants_fresh
from system.platform.http.openapi import PUBLIC, operation
from system.platform.http.shapes import EMAIL, ID, MOMENT, TEXT, message, one_of, shape
from system.platform.http.validation import Boolean, Email, NewPassword, Schema, Text
from system.platform.moments import timestamp
from system.platform.observability import correlation
from system.platform.observability.metrics import AUTH_LOGIN_TOTAL, AUTH_REGISTER_TOTAL
from system.platform.security.litestar import authenticated
from system.platform.security.tokens import REFRESH_TOKEN_LIMIT

AnyRequest = Request[Any, Any, Any]

REGISTRATION = Schema(
    {
        "email": Email(),
        "password": NewPassword(),
        "name": Text(minimum=1, maximum=255, example="Customer User"),
    }
)
LOGIN = Schema(
    {
        "email": Email(),
        "password": Text(minimum=1, maximum=255, clean=False, example="TestPassword123!"),
    }
)
REFRESH = Schema(
    {"refreshToken": Text(minimum=1, maximum=REFRESH_TOKEN_LIMIT, clean=False, optional=True)}
)
LOGOUT = Schema({**REFRESH.fields, "logoutAll": Boolean(default=False)})

USER = shape(
    "User",
    {
        "id": ID,
        "email": EMAIL,
        "name": TEXT,
        "role": one_of(*UserRole),
        "createdAt": MOMENT,
        "updatedAt": MOMENT,
    },
)
TOKENS = {"accessToken": TEXT, "refreshToken": TEXT, "expiresIn": TEXT}
SESSION_ANSWER = shape("SessionAnswer", {"user": USER, **TOKENS})
TOKEN_PAIR = shape("TokenPair", TOKENS)


@post("/auth/register")
@operation(
    "Open an account",
    who=PUBLIC,
    body=REGISTRATION,
    answers={201: SESSION_ANSWER},
    errors={409: ["EMAIL_EXISTS"]},
)
async def register(request: AnyRequest) -> Reply:
    """R1.59."""
    given = REGISTRATION.parse(await json_body(request))
    try:
        signed_in = await _signing_in(request).register(
            email=given["email"],
            password=given["password"],
            name=given["name"],
            caller=_caller(),
        )
    except errors.ApiError:
        AUTH_REGISTER_TOTAL.labels("failure").inc()
        raise
    AUTH_REGISTER_TOTAL.labels("success").inc()
    return created(_session_answer(signed_in))


@post("/auth/login")
@operation(
    "Log in",
    who=PUBLIC,
    body=LOGIN,
    answers={200: SESSION_ANSWER},
    errors={
        401: ["INVALID_CREDENTIALS"],
        403: ["ACCOUNT_SUSPENDED"],
        429: ["TOO_MANY_ATTEMPTS", "ACCOUNT_LOCKED"],
    },
)
async def login(request: AnyRequest) -> Reply:
    """R1.60."""
    given = LOGIN.parse(await json_body(request))
    try:
        signed_in = await _signing_in(request).login(
            email=given["email"], password=given["password"], caller=_caller()
        )
    except errors.ApiError:
        AUTH_LOGIN_TOTAL.labels("failure").inc()
        raise
    AUTH_LOGIN_TOTAL.labels("success").inc()
    return success(_session_answer(signed_in))


@post("/auth/refresh")
@operation(
    "Exchange a refresh token for a new pair",
    who=PUBLIC,
    body=REFRESH,
    answers={200: TOKEN_PAIR},
    errors={
        401: [
            "UNAUTHORIZED",
            "TOKEN_INVALID",
            "TOKEN_EXPIRED",
            "TOKEN_REVOKED",
            "TOKEN_REUSE_DETECTED",
        ]
    },
)
async def refresh(request: AnyRequest) -> Reply:
    """R1.61."""
    token = REFRESH.parse(await json_body(request)).get("refreshToken")
    if token is None:
        raise errors.unauthorized()
    pair = await _signing_in(request).refresh(token, _caller())
    return success(
        {
            "accessToken": pair.access_token,
            "refreshToken": pair.refresh_token,
            "expiresIn": pair.expires_in,
        }
    )


@get("/auth/me")
@operation("Show the own account", answers={200: USER})
async def me(request: AnyRequest) -> Reply:
    """R1.62, from the cache where it may (R6.1, R6.13)."""
    principal = await authenticated(request)

    async def load() -> Loaded:
        user = await cast("AccountReads", request.app.state.reads).user(principal.user_id)
        if user is None:
            raise errors.token_revoked()
        return Loaded(msgspec.json.encode(user_json(user)))

    cache = cast("Cache", request.app.state.cache)
    answer = await cache.read(keys.user(principal.user_id), load, bypass=wants_fresh(request))
    return success(msgspec.Raw(answer.body), headers={"X-Cache": answer.outcome.value})


@post("/auth/logout")
@operation(
    "End the calling session, or all of the user",
    body=LOGOUT,
    answers={200: message("Logged out successfully")},
)
async def logout(request: AnyRequest) -> Reply:
    """R1.63."""
    principal = await authenticated(request)
    given = LOGOUT.parse(await json_body(request))
    await _signing_in(request).logout(
        claims=principal.claims,
        refresh_token=given.get("refreshToken"),
        everywhere=given["logoutAll"],
        caller=_caller(),
    )
    return success({"message": "Logged out successfully"})


ROUTES = (register, login, refresh, me, logout)


def user_json(user: User) -> dict[str, str]:
    """The user object, exactly these fields (R1.57)."""
    return {
        "id": user.id,
        "email": user.email,
        "name": user.name,
        "role": str(user.role),
        "createdAt": timestamp(user.created_at),
        "updatedAt": timestamp(user.updated_at),
    }


def _session_answer(signed_in: SignedIn) -> dict[str, Any]:
    """R1.58."""
    return {
        "user": user_json(signed_in.user),
        "accessToken": signed_in.tokens.access_token,
        "refreshToken": signed_in.tokens.refresh_token,
        "expiresIn": signed_in.tokens.expires_in,
    }


def _signing_in(request: AnyRequest) -> SigningIn:
    return cast("SigningIn", request.app.state.signing_in)


def _caller() -> Caller:
    context = correlation.current()
    return Caller(context.client_address, context.user_agent)
