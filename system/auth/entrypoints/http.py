"""The public routes of auth-service (1.10): reads requests, calls the use cases, writes answers."""

from __future__ import annotations

from typing import Any, cast

import msgspec
from litestar import get, post

from system.auth.domain.accounts import User, UserRole
from system.auth.entrypoints.caller import (
    DEVICE_HEADER,
    HEADERS,
    TRANSPORT,
    AnyRequest,
    caller,
    headers_of,
)
from system.auth.entrypoints.cookies import CookieTransport
from system.auth.service.passwords import PasswordChange
from system.auth.service.reading import AccountReads
from system.auth.service.signing_in import SigningIn
from system.auth.service.tokens import TokenPair
from system.platform.cache import keys
from system.platform.cache.answers import Loaded
from system.platform.cache.cache import Cache
from system.platform.http import errors
from system.platform.http.json_fields import Boolean
from system.platform.http.openapi import PUBLIC, operation
from system.platform.http.replies import Reply, success
from system.platform.http.requests import json_body, wants_fresh
from system.platform.http.shapes import EMAIL, ID, MOMENT, TEXT, message, one_of, shape
from system.platform.http.text_fields import Email, NewPassword, Text
from system.platform.http.validation import Schema, parse_all
from system.platform.moments import timestamp
from system.platform.observability.metrics import AUTH_LOGIN_TOTAL, AUTH_REGISTER_TOTAL
from system.platform.security.litestar import authenticated
from system.platform.security.tokens import REFRESH_TOKEN_LIMIT

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
PASSWORD = Schema(
    {
        "currentPassword": Text(minimum=1, maximum=255, clean=False, example="TestPassword123!"),
        "newPassword": NewPassword(),
    }
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
# With the cookie transport the refresh token is no part of the body (R1.71).
SESSION_ANSWER = shape("SessionAnswer", {"user": USER, **TOKENS}, optional=["refreshToken"])
TOKEN_PAIR = shape("TokenPair", TOKENS, optional=["refreshToken"])


@post("/auth/register")
@operation(
    "Open an account",
    who=PUBLIC,
    headers=HEADERS,
    body=REGISTRATION,
    answers={201: SESSION_ANSWER},
    errors={409: ["EMAIL_EXISTS"]},
)
async def register(request: AnyRequest) -> Reply:
    """R1.59."""
    headers, given = parse_all(
        (HEADERS, headers_of(request)), (REGISTRATION, await json_body(request))
    )
    try:
        signed_in = await _signing_in(request).register(
            email=given["email"],
            password=given["password"],
            name=given["name"],
            caller=caller(headers.get(DEVICE_HEADER)),
        )
    except errors.ApiError:
        AUTH_REGISTER_TOTAL.labels("failure").inc()
        raise
    AUTH_REGISTER_TOTAL.labels("success").inc()
    return _with_tokens(request, signed_in.tokens, user_json(signed_in.user), status=201)


@post("/auth/login")
@operation(
    "Log in",
    who=PUBLIC,
    headers=HEADERS,
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
    headers, given = parse_all((HEADERS, headers_of(request)), (LOGIN, await json_body(request)))
    try:
        signed_in = await _signing_in(request).login(
            email=given["email"],
            password=given["password"],
            caller=caller(headers.get(DEVICE_HEADER)),
        )
    except errors.ApiError:
        AUTH_LOGIN_TOTAL.labels("failure").inc()
        raise
    AUTH_LOGIN_TOTAL.labels("success").inc()
    return _with_tokens(request, signed_in.tokens, user_json(signed_in.user))


@post("/auth/refresh")
@operation(
    "Exchange a refresh token for a new pair",
    who=PUBLIC,
    headers=TRANSPORT,
    body=REFRESH,
    answers={200: TOKEN_PAIR},
    errors={
        401: [
            "UNAUTHORIZED",
            "TOKEN_INVALID",
            "TOKEN_EXPIRED",
            "TOKEN_REVOKED",
            "TOKEN_REUSE_DETECTED",
        ],
        403: ["ORIGIN_NOT_ALLOWED"],
    },
)
async def refresh(request: AnyRequest) -> Reply:
    """R1.61."""
    token = REFRESH.parse(await json_body(request)).get("refreshToken")
    cookies = _cookies(request)
    try:
        pair = await _signing_in(request).refresh(token or cookies.read(request), caller())
    except errors.ApiError as refused:
        if refused.status == 401:
            refused.headers |= cookies.clear(request)
        raise
    return _with_tokens(request, pair)


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
    headers=TRANSPORT,
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
        caller=caller(),
    )
    return success({"message": "Logged out successfully"}, headers=_cookies(request).clear(request))


@post("/auth/password")
@operation(
    "Change the own password, which ends every session",
    headers=HEADERS,
    body=PASSWORD,
    answers={200: message("Password changed successfully")},
    errors={401: ["INVALID_PASSWORD"], 429: ["TOO_MANY_ATTEMPTS", "ACCOUNT_LOCKED"]},
)
async def change_password(request: AnyRequest) -> Reply:
    """R1.64."""
    principal = await authenticated(request)
    headers, given = parse_all((HEADERS, headers_of(request)), (PASSWORD, await json_body(request)))
    await cast("PasswordChange", request.app.state.passwords).change(
        principal.claims,
        current=given["currentPassword"],
        new=given["newPassword"],
        caller=caller(headers.get(DEVICE_HEADER)),
    )
    return success(
        {"message": "Password changed successfully"}, headers=_cookies(request).clear(request)
    )


ROUTES = (register, login, refresh, me, logout, change_password)


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


def _with_tokens(
    request: AnyRequest, tokens: TokenPair, user: dict[str, str] | None = None, status: int = 200
) -> Reply:
    """R1.58, R1.61; the refresh token in body or cookie (R1.71)."""
    data: dict[str, Any] = {"user": user} if user is not None else {}
    data |= {"accessToken": tokens.access_token, "expiresIn": tokens.expires_in}
    cookies = _cookies(request)
    if cookies.asked_for(request):
        return success(data, status, cookies.set(tokens.refresh_token))
    return success(data | {"refreshToken": tokens.refresh_token}, status)


def _cookies(request: AnyRequest) -> CookieTransport:
    return cast("CookieTransport", request.app.state.cookies)


def _signing_in(request: AnyRequest) -> SigningIn:
    return cast("SigningIn", request.app.state.signing_in)
