"""Sessions and the refresh tokens of each (R1.26, R1.31-R1.37, R1.61, R1.69)."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import httpx
import pytest

from system.auth.tests.platform_client import Client, claims_of
from system.platform.security.tokens import (
    KeyRing,
    TokenType,
    environment_keys,
    issue_access,
    issue_refresh,
)

pytestmark = pytest.mark.platform


async def send_refresh(client: Client, body: Any) -> httpx.Response:
    return await client.send("gateway", "POST", "/api/auth/refresh", json=body)


async def outcome(client: Client, token: str) -> str:
    """What a refresh with this token comes to."""
    answer = await send_refresh(client, {"refreshToken": token})
    return "pair" if answer.is_success else f"{answer.status_code} {answer.json()['error']['code']}"


def signed(client: Client, like: str, lifetime: int, **changes: str) -> str:
    """A refresh token that the platform never gave out, signed with its key.

    Args:
        like: the token whose claims it has.
        lifetime: seconds from now; negative for one that has expired.
        changes: another `sid`, or another `type`.
    """
    claims = {**claims_of(like), **changes}
    kind = TokenType(claims["type"])
    key = {**client.stack.target["access"]["keys"]["refresh"], "isActive": True}
    key["createdAt"] = "2026-01-01T00:00:00.000Z"
    ring = KeyRing({kind: environment_keys(json.dumps([key]), None)})
    issue = issue_refresh if kind is TokenType.REFRESH else issue_access
    return issue(
        ring,
        user_id=claims["userId"],
        email=claims["email"],
        name=claims["name"],
        role=claims["role"],
        session_id=claims["sid"],
        lifetime=lifetime,
    )


async def test_r1_26_no_two_tokens_are_equal(client: Client) -> None:
    """Also of one user, whose logins come together."""
    email = (await client.register())["user"]["email"]

    sessions = await asyncio.gather(*(client.login(email) for _ in range(10)))

    tokens = [session[name] for session in sessions for name in ("accessToken", "refreshToken")]
    assert len(set(tokens)) == 20
    claims = [claims_of(token) for token in tokens]
    assert len({claim["jti"] for claim in claims}) == 20
    assert len({(claim["iat"], claim["type"]) for claim in claims}) < 20, "no two in one second"


async def test_r1_31_each_login_has_a_session_of_its_own(client: Client, auth_db: Any) -> None:
    """With its own family of refresh tokens; opening and refreshing one leaves the others alone."""
    first = await client.register()
    others = [await client.login(first["user"]["email"]) for _ in range(3)]
    sessions = [first, *others]
    ids = [claims_of(session["accessToken"])["sid"] for session in sessions]
    assert len(set(ids)) == 4

    renewed = await client.refresh(others[0]["refreshToken"])

    assert claims_of(renewed["accessToken"])["sid"] == ids[1]
    for session in (*sessions, renewed):
        assert await client.code("gateway", "/api/auth/me", session["accessToken"]) == "open"
    for session in (first, others[1], others[2], renewed):
        assert await outcome(client, session["refreshToken"]) == "pair"
    families = await auth_db.fetch(
        "SELECT token_family, count(*) FROM refresh_tokens WHERE user_id = $1 GROUP BY 1",
        first["user"]["id"],
    )
    assert dict(map(tuple, families)) == dict(zip(ids, (2, 3, 2, 2), strict=True))


@pytest.mark.parametrize(
    ("when", "whom"),
    [("BEFORE INSERT", "NEW"), ("BEFORE UPDATE", "OLD")],
    ids=["storing the new one", "spending the old one"],
)
async def test_r1_34_a_rotation_that_fails_changes_nothing(
    client: Client, auth_db: Any, when: str, whom: str
) -> None:
    """If one of the two cannot be written, neither is: the presented token goes on."""
    session = await client.register()
    token, user = session["refreshToken"], session["user"]["id"]

    async def rows() -> list[Any]:
        return [
            tuple(row)
            for row in await auth_db.fetch(
                "SELECT token_hash, is_revoked, last_used_at FROM refresh_tokens WHERE user_id = $1"
                " ORDER BY created_at",
                user,
            )
        ]

    before = await rows()
    await auth_db.execute(
        f"""CREATE FUNCTION fail_for_a_test() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF {whom}.user_id = '{user}' THEN RAISE EXCEPTION 'of the test'; END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER fail_for_a_test {when} ON refresh_tokens
            FOR EACH ROW EXECUTE FUNCTION fail_for_a_test()"""
    )
    try:
        failed = await send_refresh(client, {"refreshToken": token})
    finally:
        await auth_db.execute("DROP FUNCTION fail_for_a_test CASCADE")

    assert (failed.status_code, failed.json()["error"]["code"]) == (500, "INTERNAL_ERROR")
    assert await rows() == before
    assert await outcome(client, token) == "pair"
    assert len(await rows()) == 2
    assert await outcome(client, token) == "401 TOKEN_REUSE_DETECTED"


async def test_r1_35_a_spent_token_ends_its_family(client: Client) -> None:
    """The newest token of the session is refused from then on; other sessions go on."""
    session = await client.register()
    other = await client.login(session["user"]["email"])
    newer = await client.refresh(session["refreshToken"])
    newest = await client.refresh(newer["refreshToken"])

    assert await outcome(client, session["refreshToken"]) == "401 TOKEN_REUSE_DETECTED"

    assert await outcome(client, newest["refreshToken"]) == "401 TOKEN_REVOKED"
    # Spent as well, but the session comes first (R1.69).
    assert await outcome(client, newer["refreshToken"]) == "401 TOKEN_REVOKED"
    assert await client.code("gateway", "/api/auth/me", newest["accessToken"]) == "TOKEN_REVOKED"
    assert await outcome(client, other["refreshToken"]) == "pair"


async def test_r1_37_a_refresh_may_come_from_anywhere(client: Client) -> None:
    """From another address by another agent, as a phone does that changes its network."""
    session = await client.register()
    transport = httpx.AsyncHTTPTransport(local_address="127.0.2.77")
    async with httpx.AsyncClient(transport=transport, headers={"User-Agent": "other"}) as other:
        url = client.stack.services["gateway"] + "/api/auth/refresh"
        answer = await other.post(url, json={"refreshToken": session["refreshToken"]})

    assert answer.status_code == 200, answer.text
    assert await outcome(client, answer.json()["data"]["refreshToken"]) == "pair"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (401, "UNAUTHORIZED")),
        ({"refreshToken": ""}, (400, "VALIDATION_ERROR")),
        ({"refreshToken": None}, (400, "VALIDATION_ERROR")),
        ({"refreshToken": 1}, (400, "VALIDATION_ERROR")),
        ({"refreshToken": "x" * 2049}, (400, "VALIDATION_ERROR")),
        ({"refreshToken": "x" * 2048}, (401, "TOKEN_INVALID")),
    ],
)
async def test_r1_61_what_is_no_token_is_refused(
    client: Client, body: Any, expected: tuple[int, str]
) -> None:
    """None at all is 401, one of another form 400."""
    answer = await send_refresh(client, body)

    assert (answer.status_code, answer.json()["error"]["code"]) == expected


async def test_r1_61_r1_69_a_refresh_gives_the_user_as_he_is_now(client: Client) -> None:
    """Exactly a pair and its lifetime; the access token has his present name and address."""
    session = await client.register()
    email = f"{uuid.uuid4()}@x.test"
    path = f"/users/{session['user']['id']}"
    change = await client.internal("PATCH", path, {"email": email, "name": "Renamed"})
    assert change.is_success

    answer = await send_refresh(client, {"refreshToken": session["refreshToken"]})

    assert (answer.status_code, answer.json()["success"]) == (200, True)
    data = answer.json()["data"]
    assert set(data) == {"accessToken", "refreshToken", "expiresIn"}
    claims = claims_of(data["accessToken"])
    assert (claims["email"], claims["name"], claims["role"]) == (email, "Renamed", "CUSTOMER")
    assert (claims["type"], claims_of(data["refreshToken"])["type"]) == ("access", "refresh")
    for token in data["accessToken"], session["accessToken"]:
        assert await client.code("gateway", "/api/auth/me", token) == "open"


async def test_r1_69_refresh_refuses_in_order(client: Client) -> None:
    """Signature, type, time, session, user, spent, unknown: what comes first is what is told."""
    session, over, leaver, banned = [await client.register() for _ in range(4)]
    own = session["refreshToken"]
    head, body, signature = own.split(".")
    spoilt = f"{head}.{body}.{signature[:-4]}{'AAAA' if signature[-4:] != 'AAAA' else 'BBBB'}"
    late = signed(client, own, -60)
    head_late, body_late, _ = late.split(".")
    spent = over["refreshToken"]
    newest = (await client.refresh(spent))["refreshToken"]
    assert await client.auth("/auth/logout", {}, over["accessToken"]) != "TOKEN_REVOKED"
    gone = await client.internal("DELETE", f"/users/{leaver['user']['id']}")
    stopped = await client.internal(
        "PUT", f"/users/{banned['user']['id']}/status", {"isActive": False}
    )
    assert gone.is_success
    assert stopped.is_success
    elsewhere = str(uuid.uuid4())

    seen = {
        "no JWT": await outcome(client, "x"),
        "bad signature": await outcome(client, spoilt),
        "bad signature, late": await outcome(client, f"{head_late}.{body_late}.{signature}"),
        "an access token": await outcome(client, session["accessToken"]),
        "access type, refresh key": await outcome(client, signed(client, own, 60, type="access")),
        "late": await outcome(client, late),
        "late, session over": await outcome(client, signed(client, newest, -60)),
        "session over": await outcome(client, newest),
        "session over, spent": await outcome(client, spent),
        "session over, never stored": await outcome(client, signed(client, newest, 60)),
        "no such session": await outcome(client, signed(client, own, 60, sid=elsewhere)),
        "user gone": await outcome(client, leaver["refreshToken"]),
        "user suspended": await outcome(client, banned["refreshToken"]),
        "never stored": await outcome(client, signed(client, own, 60)),
        "good": await outcome(client, own),
        "spent": await outcome(client, own),
    }

    assert seen == {
        "no JWT": "401 TOKEN_INVALID",
        "bad signature": "401 TOKEN_INVALID",
        "bad signature, late": "401 TOKEN_INVALID",
        "an access token": "401 TOKEN_INVALID",
        "access type, refresh key": "401 TOKEN_INVALID",
        "late": "401 TOKEN_EXPIRED",
        "late, session over": "401 TOKEN_EXPIRED",
        "session over": "401 TOKEN_REVOKED",
        "session over, spent": "401 TOKEN_REVOKED",
        "session over, never stored": "401 TOKEN_REVOKED",
        "no such session": "401 TOKEN_REVOKED",
        "user gone": "401 TOKEN_REVOKED",
        "user suspended": "401 TOKEN_REVOKED",
        "never stored": "401 TOKEN_INVALID",
        "good": "pair",
        "spent": "401 TOKEN_REUSE_DETECTED",
    }
