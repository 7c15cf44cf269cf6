"""Signing keys in the running platform: rotation, history, restarts (R1.30, R1.95-R1.99)."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
import uuid
from typing import Any

import pytest

from system.auth.tests.platform_client import Client

pytestmark = pytest.mark.platform

# R0.4.
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
KID = re.compile(r"key-\d{4}-\d{2}-\d{2}-[0-9a-f]{8}")
SURFACES = (
    ("auth", "/auth/me"),
    ("payments", "/payments"),
    ("profile", "/api/profile"),
    ("gateway", "/api/auth/me"),
)


def header(token: str) -> dict[str, Any]:
    part = token.split(".")[0]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded


async def admin(client: Client) -> dict[str, Any]:
    account = client.stack.account("admin")
    session: dict[str, Any] = await client.login(account["email"], account["password"])
    return session


async def call(client: Client, method: str, path: str, token: str, body: Any = None) -> Any:
    # Through the gateway, whose patience a rotation must not exhaust (R0.16).
    path = f"/api/auth/admin/secrets{path}"
    answer = await client.send("gateway", method, path, token, json=body)
    return answer.json()["data"] if answer.is_success else answer.json()["error"]["code"]


async def rotate(client: Client, token: str, **body: Any) -> dict[str, str]:
    data = await call(client, "POST", "/rotate", token, {"reason": "test", **body})
    assert set(data) == {"message", "rotated", "warning"}
    return {kind: key["kid"] for kind, key in data["rotated"].items()}


async def test_r1_96_rotation_is_in_force_everywhere_at_once(client: Client, auth_db: Any) -> None:
    """The next token names the new key and is good at every process; older tokens go on."""
    session = await admin(client)
    account = await client.register()

    kids = await rotate(client, session["accessToken"])

    later = await client.login(account["user"]["email"])
    codes = await asyncio.gather(
        *(
            client.code(service, path, token)
            for service, path in SURFACES
            for token in (later["accessToken"], account["accessToken"])
        )
    )
    assert codes == ["open"] * 2 * len(SURFACES)
    assert header(later["accessToken"])["kid"] == kids["jwt"]
    assert header(later["refreshToken"])["kid"] == kids["refresh"]
    assert all(KID.fullmatch(kid) for kid in kids.values())
    refreshed = await client.refresh(account["refreshToken"])
    assert header(refreshed["accessToken"])["kid"] == kids["jwt"]
    rows = await auth_db.fetch(
        """SELECT envelope FROM outbox WHERE event_type = 'secrets.rotated'
           AND envelope->'data'->>'newKid' = ANY($1::text[])""",
        list(kids.values()),
    )
    events = [json.loads(row["envelope"]) for row in rows]
    assert {event["data"]["kind"] for event in events} == {"jwt", "refresh"}
    assert {event["metadata"]["actorId"] for event in events} == {session["user"]["id"]}


async def test_r1_97_each_rotation_is_in_the_history(client: Client) -> None:
    """One entry for each kind: when, from which key to which, by whom and why."""
    session = await admin(client)
    token = session["accessToken"]
    reason = f"because {uuid.uuid4()}"

    first = await rotate(client, token, reason=f" <b>{reason}</b> ")
    second = await rotate(client, token, reason=reason, type="refresh")

    data = await call(client, "GET", "/rotation-history", token)
    assert set(data) == {"rotations"}
    found = [entry for entry in data["rotations"] if entry["reason"] == reason]
    assert all(MOMENT.fullmatch(entry.pop("rotatedAt")) for entry in found)
    status = await call(client, "GET", "/status", token)
    known = {key["kid"] for keys in status.values() for key in keys}
    replaced = {entry["newKid"]: entry["oldKid"] for entry in found}
    assert set(replaced) == {*first.values(), *second.values()}
    assert replaced[second["refresh"]] == first["refresh"]
    assert set(replaced.values()) <= known
    for entry in found:
        assert entry == {
            "oldKid": replaced[entry["newKid"]],
            "newKid": entry["newKid"],
            "triggeredBy": session["user"]["id"],
            "reason": reason,
        }


async def test_r1_98_keys_that_expire_within_thirty_days(client: Client) -> None:
    """One of 30 days is told with its days, one of 31 or of no end is not."""
    token = (await admin(client))["accessToken"]
    try:
        soon = (await rotate(client, token, type="jwt", expiresInDays=30))["jwt"]
        later = (await rotate(client, token, type="refresh", expiresInDays=31))["refresh"]

        data = await call(client, "POST", "/check-expiring", token)

        status = await call(client, "GET", "/status", token)
        ends = {key["kid"]: key["expiresAt"] for keys in status.values() for key in keys}
        assert set(data) == {"message", "expiringSecrets"}
        assert isinstance(data["message"], str)
        told = {entry["kid"]: entry for entry in data["expiringSecrets"]}
        assert told[soon] == {"kid": soon, "expiresAt": ends[soon], "daysUntilExpiry": 30}
        assert ends[later] is not None
        assert later not in told
    finally:
        endless = await rotate(client, token)
    after = await call(client, "POST", "/check-expiring", token)
    assert not {entry["kid"] for entry in after["expiringSecrets"]} & {*endless.values(), later}


async def test_r1_95_status_and_history_tell_no_key(client: Client, auth_db: Any) -> None:
    """One active key of each kind, the newest rotation first; nothing tells a key."""
    token = (await admin(client))["accessToken"]
    before = await call(client, "GET", "/status", token)
    (old,) = [key["kid"] for key in before["jwtSecrets"] if key["isActive"]]

    kids = await rotate(client, token, type="jwt", expiresInDays=10)

    assert set(kids) == {"jwt"}
    status = await call(client, "GET", "/status", token)
    assert status["refreshSecrets"] == before["refreshSecrets"]
    found = {key["kid"]: key for key in status["jwtSecrets"]}
    assert [kid for kid, key in found.items() if key["isActive"]] == [kids["jwt"]]
    for key in found.values():
        assert set(key) == {"kid", "createdAt", "expiresAt", "isActive", "canVerify"}
    assert found[old]["canVerify"]
    rotation = (await call(client, "GET", "/rotation-history", token))["rotations"][0]
    assert (rotation["oldKid"], rotation["newKid"]) == (old, kids["jwt"])
    assert (rotation["reason"], set(rotation)) == (
        "test",
        {"rotatedAt", "oldKid", "newKid", "triggeredBy", "reason"},
    )
    expiring = await call(client, "POST", "/check-expiring", token)
    assert {entry["kid"]: entry["daysUntilExpiry"] for entry in expiring["expiringSecrets"]} == {
        kids["jwt"]: 10
    }
    stored = await auth_db.fetch("SELECT secret_encrypted FROM signing_keys")
    assert all(row["secret_encrypted"].startswith("ENC[local:") for row in stored)
    listed = await client.internal("GET", "/keys")
    for key in listed.json()["data"]["access"]:
        assert key["secret"] not in json.dumps([status, rotation, expiring])
        assert all(key["secret"] not in row["secret_encrypted"] for row in stored)


async def test_r1_30_ring_survives_restarts(client: Client) -> None:
    """After restarts the latest rotation decides, and tokens of before go on."""
    token = (await admin(client))["accessToken"]
    account = await client.register()
    kids = await rotate(client, token)
    later = await client.login(account["user"]["email"])

    client.stack.control("auth", "restart")
    client.stack.control("payments", "restart")
    client.stack.until_ready()

    for session in (account, later):
        assert await client.code("payments", "/payments", session["accessToken"]) == "open"
        assert await client.code("auth", "/auth/me", session["accessToken"]) == "open"
    anew = await client.login(account["user"]["email"])
    assert header(anew["accessToken"])["kid"] == kids["jwt"]
    assert await client.code("gateway", "/api/payments", anew["accessToken"]) == "open"


async def test_r1_23_unknown_kid_is_refused_and_costs_one_look_a_second(client: Client) -> None:
    """A token of a key that nobody has is TOKEN_INVALID, also when many come at once."""
    session = await client.register()
    head, rest = session["accessToken"].split(".", 1)
    forged = json.dumps({**header(session["accessToken"]), "kid": "key-2020-01-01-00000000"})
    head = base64.urlsafe_b64encode(forged.encode()).decode().rstrip("=")

    started = time.monotonic()
    codes = await asyncio.gather(
        *(client.code("payments", "/payments", f"{head}.{rest}") for _ in range(30))
    )

    assert codes == ["TOKEN_INVALID"] * 30
    assert time.monotonic() - started < 10
    assert await client.code("payments", "/payments", session["accessToken"]) == "open"


async def test_r1_99_keys_are_for_admins(client: Client) -> None:
    """Other roles 403, a bad rotation 400, without a token 401."""
    token = (await client.register())["accessToken"]
    for method, path in (
        ("GET", "/status"),
        ("POST", "/rotate"),
        ("GET", "/rotation-history"),
        ("POST", "/check-expiring"),
    ):
        assert await call(client, method, path, token, {}) == "FORBIDDEN"
    token = (await admin(client))["accessToken"]
    for bad in (
        {},
        {"reason": ""},
        {"reason": "x" * 501},
        {"reason": "x", "type": "all"},
        {"reason": "x", "expiresInDays": 0},
        {"reason": "x", "expiresInDays": 366},
    ):
        assert await call(client, "POST", "/rotate", token, bad) == "VALIDATION_ERROR"
