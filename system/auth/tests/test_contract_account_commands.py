"""The commands of admin-service in the running platform (R1.126-R1.137, 1.14)."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import Any

import pytest

from system.auth.tests.platform_client import PASSWORD, Client

pytestmark = pytest.mark.platform

ACTOR = {
    "X_Actor_Id": "11111111-1111-4111-8111-111111111111",
    "X_Actor_IP": "203.0.113.9",
    "X_Actor_User_Agent": "admin's browser",
}
RACES = 5


async def created(client: Client, role: str = "VENDOR") -> dict[str, Any]:
    body = {"email": f"{uuid.uuid4()}@x.test", "password": PASSWORD, "name": "V", "role": role}
    answer = await client.internal("POST", "/users", body, **ACTOR)
    assert answer.status_code == 201
    user: dict[str, Any] = answer.json()["data"]
    return user


async def events_of(auth_db: Any, user_id: str) -> list[dict[str, Any]]:
    rows = await auth_db.fetch(
        "SELECT envelope FROM outbox WHERE envelope->'data'->>'userId' = $1 ORDER BY seq", user_id
    )
    return [json.loads(row["envelope"]) for row in rows]


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_r1_128_created_user_logs_in(client: Client, auth_db: Any) -> None:
    """The account works at once; its event names the administrator and his client."""
    user = await created(client)

    assert (user["role"], user["status"], user["version"]) == ("VENDOR", "active", 1)
    assert (await client.login(user["email"]))["user"]["id"] == user["id"]
    event = (await events_of(auth_db, user["id"]))[0]
    assert (event["type"], event["data"]["origin"]) == ("user.created", "admin")
    metadata = event["metadata"]
    assert [metadata[name] for name in ("actorId", "ipAddress", "userAgent")] == [*ACTOR.values()]
    body = {"email": user["email"], "password": PASSWORD, "name": "V", "role": "VENDOR"}
    assert refusal(await client.internal("POST", "/users", body)) == (409, "EMAIL_EXISTS")


async def test_r1_129_update_is_in_force_in_the_next_token(client: Client) -> None:
    """Another name and address; the old one is free, one that is taken is refused."""
    user, other = await created(client), await created(client)
    path, email = f"/users/{user['id']}", f"{uuid.uuid4()}@x.test"

    answer = await client.internal("PATCH", path, {"email": email.upper(), "name": "W"}, **ACTOR)

    changed = answer.json()["data"]
    assert (changed["email"], changed["name"], changed["version"]) == (email, "W", 2)
    assert (await client.login(email))["user"]["name"] == "W"
    assert await client.login(user["email"]) == "INVALID_CREDENTIALS"
    taken = await client.internal("PATCH", path, {"email": other["email"]})
    assert refusal(taken) == (409, "EMAIL_ALREADY_EXISTS")
    assert refusal(await client.internal("PATCH", path, {})) == (400, "VALIDATION_ERROR")


async def test_r1_133_new_role_ends_sessions(client: Client, auth_db: Any) -> None:
    """Tokens with the old role are refused everywhere; the next login has the new role."""
    user = await created(client)
    session = await client.login(user["email"])

    answer = await client.internal("PUT", f"/users/{user['id']}/role", {"role": "ADMIN"}, **ACTOR)
    await asyncio.sleep(1.0)  # R1.32 allows a second

    assert answer.json()["data"]["role"] == "ADMIN"
    for service, path in (("auth", "/auth/me"), ("payments", "/payments")):
        assert await client.code(service, path, session["accessToken"]) == "TOKEN_REVOKED"
    assert await client.refresh(session["refreshToken"]) == "TOKEN_REVOKED"
    again = await client.login(user["email"])
    assert again["user"]["role"] == "ADMIN"
    assert await client.code("auth", "/auth/me", again["accessToken"]) == "open"
    types = [event["type"] for event in await events_of(auth_db, user["id"])]
    assert types[-3:] == ["user.role_changed", "session.revoked", "user.login"]


async def test_r1_135_of_two_racing_demotions_one_admin_stays(client: Client, auth_db: Any) -> None:
    """Two administrators demote each other at once, with no third: exactly one succeeds."""
    seeded = client.stack.account("admin")["email"]
    others = await auth_db.fetch(
        "SELECT id FROM users WHERE role = 'ADMIN' AND status = 'active' AND email <> $1", seeded
    )
    first, second = await created(client, "ADMIN"), await created(client, "ADMIN")
    # Everybody else steps aside for a moment, without events: the test puts them back.
    aside = [row["id"] for row in others]
    try:
        await auth_db.execute(
            "UPDATE users SET status = 'suspended' WHERE email = $1 OR id = ANY($2::text[])",
            seeded,
            aside,
        )
        for _ in range(RACES):
            answers = await asyncio.gather(
                client.internal(
                    "PUT",
                    f"/users/{first['id']}/role",
                    {"role": "VENDOR"},
                    X_Actor_Id=second["id"],
                ),
                client.internal(
                    "PUT",
                    f"/users/{second['id']}/status",
                    {"isActive": False},
                    X_Actor_Id=first["id"],
                ),
            )

            assert sorted(answer.status_code for answer in answers) == [200, 403]
            (refused,) = (answer for answer in answers if answer.status_code == 403)
            assert refused.json()["error"]["code"] in (
                "CANNOT_DEMOTE_LAST_ADMIN",
                "CANNOT_SUSPEND_LAST_ADMIN",
            )
            await auth_db.execute(
                "UPDATE users SET role = 'ADMIN', status = 'active' WHERE id = ANY($1::text[])",
                [first["id"], second["id"]],
            )
    finally:
        await auth_db.execute(
            "UPDATE users SET status = 'active' WHERE email = $1 OR id = ANY($2::text[])",
            seeded,
            aside,
        )
        for user in (first, second):
            await client.internal("DELETE", f"/users/{user['id']}")


async def test_r1_136_present_state_again_gives_no_event(client: Client, auth_db: Any) -> None:
    """Setting what is set is 200 without event, version or revocation."""
    user = await created(client)
    session = await client.login(user["email"])
    before = await events_of(auth_db, user["id"])

    answers = [
        await client.internal("PUT", f"/users/{user['id']}/role", {"role": "VENDOR"}, **ACTOR),
        await client.internal("PUT", f"/users/{user['id']}/status", {"isActive": True}, **ACTOR),
        await client.internal("PATCH", f"/users/{user['id']}", {"name": "V"}, **ACTOR),
    ]

    assert [(answer.status_code, answer.json()["data"]["version"]) for answer in answers] == [
        (200, 1)
    ] * 3
    assert await events_of(auth_db, user["id"]) == before
    assert await client.code("auth", "/auth/me", session["accessToken"]) == "open"


async def test_r1_137_deleted_user_is_gone(client: Client, auth_db: Any) -> None:
    """Account, sessions and tokens are gone, other services refuse, the address is free."""
    user = await created(client)
    session = await client.login(user["email"])
    assert await client.code("payments", "/payments", session["accessToken"]) == "open"

    answer = await client.internal("DELETE", f"/users/{user['id']}", **ACTOR)
    deleted_at = time.monotonic()

    assert (answer.status_code, answer.content) == (204, b"")
    again = await client.internal("DELETE", f"/users/{user['id']}", **ACTOR)
    assert refusal(again) == (404, "USER_NOT_FOUND")
    await asyncio.sleep(max(0.0, deleted_at + 1.0 - time.monotonic()))
    assert await client.code("payments", "/payments", session["accessToken"]) == "TOKEN_REVOKED"
    assert await client.refresh(session["refreshToken"]) == "TOKEN_REVOKED"
    assert await client.login(user["email"]) == "INVALID_CREDENTIALS"
    for table in ("sessions", "refresh_tokens", "devices"):
        count = f"SELECT count(*) FROM {table} WHERE user_id = $1"
        assert await auth_db.fetchval(count, user["id"]) == 0
    anew = await client.auth(
        "/auth/register", {"email": user["email"], "password": PASSWORD, "name": "V"}
    )
    assert anew["user"]["id"] != user["id"]
