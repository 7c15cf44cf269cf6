"""auth-service in the running platform: real races, real revocations, real events."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import uuid
from collections import Counter
from typing import Any

import pytest

from system.auth.tests.platform_client import Client
from system.conftest import RunningStack

pytestmark = pytest.mark.platform

RACES = 20
RACERS = 10


async def a_second_after(moment: float) -> None:
    """Wait until the second is over in which a revocation has to come into force (R1.32)."""
    await asyncio.sleep(max(0.0, moment + 1.0 - time.monotonic()))


async def test_r1_35_one_refresh_of_ten_wins_every_race(client: Client) -> None:
    """Ten simultaneous uses of a token: one succeeds, nine count as reuse, family revoked."""
    account = await client.register()
    bystander = await client.login(account["user"]["email"])
    for _ in range(RACES):
        session = await client.login(account["user"]["email"])
        results = await asyncio.gather(
            *(client.refresh(session["refreshToken"]) for _ in range(RACERS))
        )

        pairs = [result for result in results if isinstance(result, dict)]
        codes = Counter(result for result in results if isinstance(result, str))
        assert len(pairs) == 1
        assert set(codes) <= {"TOKEN_REUSE_DETECTED", "TOKEN_REVOKED"}
        assert codes["TOKEN_REUSE_DETECTED"] >= 1
        assert await client.refresh(pairs[0]["refreshToken"]) == "TOKEN_REVOKED"
        assert await client.code("auth", "/auth/me", pairs[0]["accessToken"]) == "TOKEN_REVOKED"
    assert await client.code("auth", "/auth/me", bystander["accessToken"]) == "open"


async def test_r1_26_r1_34_chain_of_refreshes_in_one_second(client: Client) -> None:
    """Refreshing again and again within the second of issue works, and no two tokens are equal."""
    session = await client.register()
    seen = {session["accessToken"], session["refreshToken"]}
    for number in range(1, 11):
        session = await client.refresh(session["refreshToken"])
        seen |= {session["accessToken"], session["refreshToken"]}
        assert len(seen) == 2 + 2 * number

    assert await client.code("auth", "/auth/me", session["accessToken"]) == "open"


async def test_logout_is_in_force_everywhere_within_a_second(client: Client) -> None:
    """After logout gateway and services refuse the token within 1 s; another session goes on."""
    account = await client.register()
    other = await client.login(account["user"]["email"])
    surfaces = [
        ("auth", "/auth/me"),
        ("gateway", "/api/auth/me"),
        ("payments", "/payments"),
        ("gateway", "/api/payments"),
    ]
    token = account["accessToken"]
    for service, path in surfaces:
        assert await client.code(service, path, token) == "open"

    assert await client.auth("/auth/logout", {}, token) == {"message": "Logged out successfully"}
    await a_second_after(time.monotonic())

    codes = await asyncio.gather(*(client.code(service, path, token) for service, path in surfaces))
    assert codes == ["TOKEN_REVOKED"] * len(surfaces)
    assert await client.refresh(account["refreshToken"]) == "TOKEN_REVOKED"
    for service, path in surfaces:
        assert await client.code(service, path, other["accessToken"]) == "open"


async def test_r1_39_revocation_holds_with_redis_down_and_after_its_return(
    stack: RunningStack, client: Client
) -> None:
    """A logout while Redis is down counts within 1 s and survives Redis' old contents (R1.39)."""
    account = await client.register()
    other = await client.login(account["user"]["email"])
    token = account["accessToken"]
    assert await client.code("payments", "/payments", token) == "open"
    stack.control("redis", "kill")
    try:
        await client.auth("/auth/logout", {}, token)
        await a_second_after(time.monotonic())

        assert await client.code("payments", "/payments", token) == "TOKEN_REVOKED"
        assert await client.code("payments", "/payments", other["accessToken"]) == "open"
    finally:
        stack.control("redis", "start")
    give_up = time.monotonic() + 7
    while time.monotonic() < give_up:
        assert await client.code("payments", "/payments", token) == "TOKEN_REVOKED"
        await asyncio.sleep(0.2)
    assert await client.code("payments", "/payments", other["accessToken"]) == "open"


async def test_known_sessions_go_on_without_auth_service(
    stack: RunningStack, client: Client
) -> None:
    """With auth-service down and Redis up, open sessions work on other services."""
    account = await client.register()
    stack.control("auth", "stop")
    try:
        assert await client.code("payments", "/payments", account["accessToken"]) == "open"
    finally:
        stack.control("auth", "start")


async def test_r1_68_unknown_address_and_wrong_password_give_the_same_bytes(client: Client) -> None:
    """Apart from the correlation id and the clock the two answers are equal (R1.68)."""
    account = await client.register()
    answers = []
    for email in (account["user"]["email"], f"{uuid.uuid4()}@x.test"):
        body = {"email": email, "password": "wrong"}
        answer = await client.send("auth", "POST", "/auth/login", json=body)
        headers = {
            name: value
            for name, value in answer.headers.items()
            if name not in ("x-correlation-id", "date")
        }
        answers.append((answer.status_code, headers, answer.content))

    assert answers[0] == answers[1]
    assert answers[0][0] == 401


async def test_me_is_cached_and_says_so(client: Client) -> None:
    """The second read is a HIT with the same body; no-cache reads the database (R6.1-R6.3)."""
    account = await client.register()
    seen = [
        await client.send("auth", "GET", "/auth/me", account["accessToken"], headers=headers)
        for headers in ({}, {}, {"Cache-Control": "no-cache"})
    ]

    assert [answer.headers["X-Cache"] for answer in seen] == ["MISS", "HIT", "BYPASS"]
    assert len({answer.content for answer in seen}) == 1
    assert seen[0].json()["data"] == account["user"]


async def test_each_act_writes_its_events(client: Client, auth_db: Any) -> None:
    """Every act is in the outbox with its actor and client address, without any token (3.5)."""
    account = await client.register()
    user = account["user"]
    await client.login(user["email"], "wrong")
    session = await client.login(user["email"])
    await client.refresh(session["refreshToken"])
    await client.refresh(session["refreshToken"])
    await client.auth("/auth/logout", {"logoutAll": True}, account["accessToken"])

    rows = await auth_db.fetch(
        """SELECT event_type, routing_key, envelope FROM outbox
           WHERE envelope->'data'->>'userId' = $1 ORDER BY seq""",
        user["id"],
    )

    assert [row["event_type"] for row in rows] == [
        "user.created",
        "user.login_failed",
        "user.login",
        "token.reuse_detected",
        "session.revoked",
        "user.logout",
        "session.revoked",
    ]
    for row in rows:
        envelope = json.loads(row["envelope"])
        assert row["routing_key"] == f"auth.{row['event_type']}"
        assert envelope["metadata"]["actorId"] == user["id"]
        assert envelope["metadata"]["ipAddress"] == client.stack.exempt
        for token in itertools.chain(account.values(), session.values()):
            assert not (isinstance(token, str) and token.count(".") == 2 and token in str(envelope))
    assert await auth_db.fetchval(
        "SELECT bool_and(token_hash ~ '^[0-9a-f]{64}$') FROM refresh_tokens WHERE user_id = $1",
        user["id"],
    )


async def test_demonstration_accounts_can_sign_in(client: Client) -> None:
    """The three seeded accounts work and have their roles (R2.23)."""
    for role in ("admin", "customer", "vendor"):
        account = client.stack.account(role)
        session = await client.login(account["email"], account["password"])
        assert session["user"]["role"] == role.upper()


async def test_internal_routes_need_the_internal_token(client: Client) -> None:
    """Without the token 401, with it the data; through the gateway they do not exist (R1.153)."""
    account = await client.register()
    token = client.stack.target["access"]["internal"]["token"]
    path = f"/internal/users/{account['user']['id']}"

    known = await client.send("auth", "GET", path, headers={"X-Internal-Token": token})
    assert known.json()["data"]["email"] == account["user"]["email"]
    for headers in ({}, {"X-Internal-Token": token + "x"}):
        refused = await client.send("auth", "GET", path, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "UNAUTHORIZED")
    through = await client.send(
        "gateway", "GET", f"/api/auth{path}", headers={"X-Internal-Token": token}
    )
    assert through.status_code == 404
