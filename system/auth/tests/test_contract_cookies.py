"""The cookie transport of refresh tokens in the running platform (R1.71, R1.72)."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import Any

import pytest

from system.auth.tests.platform_client import PASSWORD, Client

pytestmark = pytest.mark.platform

ASKING = {"X-Token-Transport": "cookie"}


async def post(
    client: Client, path: str, body: Any = None, token: str | None = None, **headers: str
) -> Any:
    """Post through the gateway, as a browser's requests come."""
    client.http.cookies.clear()
    return await client.send(
        "gateway", "POST", f"/api/auth{path}", token, json=body or {}, headers=headers
    )


def cookie(answer: Any) -> tuple[str, dict[str, Any]]:
    """The value and the attributes that were set."""
    (header,) = answer.headers.get_list("set-cookie")
    parsed = SimpleCookie(header)["refresh_token"]
    return parsed.value, {name: value for name, value in parsed.items() if value}


async def signed_in(client: Client) -> tuple[dict[str, Any], str]:
    account = await client.register()
    body = {"email": account["user"]["email"], "password": PASSWORD}
    answer = await post(client, "/login", body, **ASKING)
    return answer.json()["data"], cookie(answer)[0]


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_r1_71_refresh_token_goes_into_the_cookie(client: Client) -> None:
    """Login and refresh set the cookie with its attributes and leave the token out of the body."""
    account = await client.register()
    body = {"email": account["user"]["email"], "password": PASSWORD}

    login = await post(client, "/login", body, **ASKING)
    value, attributes = cookie(login)
    refreshed = await post(client, "/refresh", Cookie=f"refresh_token={value}", **ASKING)
    plain = await post(client, "/login", body)

    for answer, members in (
        (login, {"user", "accessToken", "expiresIn"}),
        (refreshed, {"accessToken", "expiresIn"}),
    ):
        assert answer.status_code == 200
        assert set(answer.json()["data"]) == members
        assert cookie(answer)[1] == {
            "path": "/api/auth",
            "max-age": "604800",
            "samesite": "Strict",
            "secure": True,
            "httponly": True,
        }
    assert attributes["max-age"] == "604800"
    assert cookie(refreshed)[0] != value
    assert "set-cookie" not in plain.headers
    assert "refreshToken" in plain.json()["data"]


async def test_r1_71_registration_sets_the_cookie(client: Client) -> None:
    """Registration does as login does."""
    body = {"email": "c" + (await client.register())["user"]["email"], "password": PASSWORD}

    answer = await post(client, "/register", {**body, "name": "C"}, **ASKING)

    assert set(answer.json()["data"]) == {"user", "accessToken", "expiresIn"}
    again = await post(client, "/refresh", Cookie=f"refresh_token={cookie(answer)[0]}", **ASKING)
    assert again.status_code == 200


async def test_r1_72_cookie_is_read_only_when_asked_for_from_home(client: Client) -> None:
    """Without the header 401, from a foreign origin 403, from an own one 200; the body wins."""
    session, value = await signed_in(client)
    sent = {"Cookie": f"refresh_token={value}"}

    assert refusal(await post(client, "/refresh", **sent)) == (401, "UNAUTHORIZED")
    foreign = await post(client, "/refresh", **sent, **ASKING, Origin="https://evil.test")
    assert refusal(foreign) == (403, "ORIGIN_NOT_ALLOWED")
    assert "set-cookie" not in foreign.headers
    other = await client.register()
    by_body = await post(
        client, "/refresh", {"refreshToken": other["refreshToken"]}, **sent, **ASKING
    )
    assert by_body.status_code == 200
    home = await post(client, "/refresh", **sent, **ASKING, Origin=client.stack.origin)
    assert home.status_code == 200
    assert await client.code("auth", "/auth/me", session["accessToken"]) == "open"


async def test_r1_72_failed_refresh_and_logout_clear_the_cookie(client: Client) -> None:
    """`Max-Age=0` after a refused token, a logout and a password change."""
    session, value = await signed_in(client)
    changing, _ = await signed_in(client)
    change = {"currentPassword": PASSWORD, "newPassword": "Another horse 2?"}

    logout = await post(client, "/logout", {}, session["accessToken"], **ASKING)
    refused = await post(client, "/refresh", Cookie=f"refresh_token={value}", **ASKING)
    none = await post(client, "/refresh", **ASKING)
    changed = await post(client, "/password", change, changing["accessToken"], **ASKING)

    assert refusal(refused) == (401, "TOKEN_REVOKED")
    assert refusal(none) == (401, "UNAUTHORIZED")
    assert (logout.status_code, changed.status_code) == (200, 200)
    for answer in (logout, refused, none, changed):
        assert cookie(answer) == (
            "",
            {
                "path": "/api/auth",
                "max-age": "0",
                "samesite": "Strict",
                "secure": True,
                "httponly": True,
            },
        )
    plain = await post(client, "/logout", {}, (await signed_in(client))[0]["accessToken"])
    assert "set-cookie" not in plain.headers
