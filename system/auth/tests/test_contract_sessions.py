"""Sessions, devices, logout and password change in the running platform (R1.63-R1.94)."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from system.auth.tests.platform_client import PASSWORD, Client, claims_of

pytestmark = pytest.mark.platform

NEW_PASSWORD = "Another horse 2?"
# R0.4.
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def login(client: Client, email: str, device: str | None = None) -> dict[str, Any]:
    headers = {"X-Device-ID": device} if device is not None else {}
    answer = await client.send(
        "auth", "POST", "/auth/login", headers=headers, json={"email": email, "password": PASSWORD}
    )
    session: dict[str, Any] = answer.json()["data"]
    return session


async def get(client: Client, path: str, session: dict[str, Any]) -> Any:
    return (await client.send("auth", "GET", path, session["accessToken"])).json()["data"]


async def refused_everywhere(client: Client, sessions: Sequence[dict[str, Any]]) -> None:
    """All these sessions are over within a second, at two services and for a refresh (R1.32)."""
    deadline = time.monotonic() + 1.0
    await asyncio.sleep(max(0.0, deadline - time.monotonic()))
    for session in sessions:
        assert await client.code("auth", "/auth/me", session["accessToken"]) == "TOKEN_REVOKED"
        assert await client.code("payments", "/payments", session["accessToken"]) == "TOKEN_REVOKED"
        assert await client.refresh(session["refreshToken"]) == "TOKEN_REVOKED"


async def revocations(auth_db: Any, user_id: str) -> list[tuple[str, str | None]]:
    rows = await auth_db.fetch(
        """SELECT envelope FROM outbox WHERE event_type = 'session.revoked'
           AND envelope->'data'->>'userId' = $1 ORDER BY seq""",
        user_id,
    )
    found = [json.loads(row["envelope"])["data"] for row in rows]
    return [(data["reason"], data["deviceId"]) for data in found]


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_r1_67_login_binds_the_session_to_its_device(client: Client, auth_db: Any) -> None:
    """A new device is created, a known one is used again; the event names it."""
    account = await client.register()
    email = account["user"]["email"]
    first, again = await login(client, email, "phone-1"), await login(client, email, "phone-1")

    devices = await get(client, "/auth/devices", again)

    assert [(device["deviceId"], device["current"]) for device in devices] == [("phone-1", True)]
    assert set(devices[0]) == {
        "id",
        "userId",
        "deviceId",
        "deviceName",
        "deviceType",
        "userAgent",
        "lastActiveAt",
        "createdAt",
        "current",
    }
    sessions = await get(client, "/auth/sessions", first)
    assert [session["deviceId"] for session in sessions] == ["phone-1", "phone-1", None]
    assert [session["current"] for session in sessions] == [False, True, False]
    event = await auth_db.fetchval(
        """SELECT envelope FROM outbox WHERE event_type = 'user.login'
           AND envelope->'data'->>'userId' = $1 ORDER BY seq DESC LIMIT 1""",
        account["user"]["id"],
    )
    assert json.loads(event)["data"]["deviceId"] == "phone-1"
    bad = await client.send(
        "auth",
        "POST",
        "/auth/login",
        headers={"X-Device-ID": "a b"},
        json={"email": email, "password": PASSWORD},
    )
    assert refusal(bad) == (400, "VALIDATION_ERROR")


async def test_r1_70_logout_revokes_what_it_was_given(client: Client, auth_db: Any) -> None:
    """The calling session and that of an own refresh token; a foreign token is ignored."""
    account, stranger = await client.register(), await client.register()
    email = account["user"]["email"]
    second, third, bystander = [await client.login(email) for _ in range(3)]

    body = {"refreshToken": second["refreshToken"]}
    assert isinstance(await client.auth("/auth/logout", body, account["accessToken"]), dict)
    body = {"refreshToken": stranger["refreshToken"]}
    assert isinstance(await client.auth("/auth/logout", body, third["accessToken"]), dict)

    await refused_everywhere(client, [account, second, third])
    for open_one in (bystander, stranger):
        assert await client.code("auth", "/auth/me", open_one["accessToken"]) == "open"
    assert await client.auth("/auth/logout", {}, third["accessToken"]) == "TOKEN_REVOKED"
    assert await revocations(auth_db, account["user"]["id"]) == [("logout", None)] * 3


async def test_r1_63_logout(client: Client) -> None:
    """A bad body is 400 and ends nothing; a good one or none is 200; `logoutAll` ends all."""
    account = await client.register()
    email, token = account["user"]["email"], account["accessToken"]
    second, third = await client.login(email), await client.login(email)
    path = "/api/auth/logout"
    for bad in (
        {"refreshToken": 1},
        {"refreshToken": ""},
        {"refreshToken": "x" * 2049},
        {"logoutAll": "yes"},
        {"logoutAll": 1},
    ):
        answer = await client.send("gateway", "POST", path, token, json=bad)
        assert refusal(answer) == (400, "VALIDATION_ERROR"), bad
    nobody = await client.send("gateway", "POST", path, json={})
    assert refusal(nobody) == (401, "UNAUTHORIZED")
    for session in (account, second, third):
        assert await client.code("auth", "/auth/me", session["accessToken"]) == "open"

    alone = await client.send("gateway", "POST", path, third["accessToken"])
    assert await client.code("auth", "/auth/me", second["accessToken"]) == "open"
    whole = await client.send("gateway", "POST", path, token, json={"logoutAll": True})

    for answer in (alone, whole):
        assert answer.status_code == 200
        assert answer.json() == {
            "success": True,
            "data": {"message": "Logged out successfully"},
        }
    await refused_everywhere(client, [account, second, third])


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({}, {"currentPassword", "newPassword"}),
        ({"currentPassword": "", "newPassword": NEW_PASSWORD}, {"currentPassword"}),
        ({"currentPassword": "x" * 256, "newPassword": NEW_PASSWORD}, {"currentPassword"}),
        ({"currentPassword": PASSWORD, "newPassword": "no digit or sign"}, {"newPassword"}),
        ({"currentPassword": PASSWORD, "newPassword": 1}, {"newPassword"}),
        ({"currentPassword": PASSWORD, "newPassword": PASSWORD}, {"newPassword"}),
    ],
)
async def test_r1_64_bad_password_changes(client: Client, body: Any, wanted: set[str]) -> None:
    """400 naming the member; the password stays, and so does the session."""
    account = await client.register()
    token = account["accessToken"]

    answer = await client.send("gateway", "POST", "/api/auth/password", token, json=body)

    assert refusal(answer) == (400, "VALIDATION_ERROR")
    assert {issue["path"][0] for issue in answer.json()["error"]["details"]} == wanted
    assert await client.code("auth", "/auth/me", token) == "open"
    assert isinstance(await client.login(account["user"]["email"]), dict)


async def test_r1_64_r1_73_password_change_ends_every_session(client: Client, auth_db: Any) -> None:
    """The old password is refused, the new one works; every session is revoked, with events."""
    account = await client.register()
    email = account["user"]["email"]
    second = await client.login(email)
    change = {"currentPassword": PASSWORD, "newPassword": NEW_PASSWORD}

    answer = await client.auth("/auth/password", change, account["accessToken"])

    assert answer == {"message": "Password changed successfully"}
    await refused_everywhere(client, [account, second])
    assert await client.login(email) == "INVALID_CREDENTIALS"
    assert isinstance(await client.login(email, NEW_PASSWORD), dict)
    assert await revocations(auth_db, account["user"]["id"]) == [("password_changed", None)] * 2
    assert (
        await auth_db.fetchval(
            """SELECT count(*) FROM outbox WHERE event_type = 'user.password_changed'
           AND envelope->'data'->>'userId' = $1""",
            account["user"]["id"],
        )
        == 1
    )


async def test_r1_64_r1_73_wrong_current_password_counts_as_a_failed_login(client: Client) -> None:
    """401 twice, then the back-off of the pair; equal passwords are 400, nothing is changed."""
    account = await client.register()
    token = account["accessToken"]

    async def change(current: str, new: str = NEW_PASSWORD) -> Any:
        return await client.auth(
            "/auth/password", {"currentPassword": current, "newPassword": new}, token
        )

    assert await change(PASSWORD, PASSWORD) == "VALIDATION_ERROR"
    assert await change(PASSWORD, "short") == "VALIDATION_ERROR"
    assert [await change("wrong") for _ in range(2)] == ["INVALID_PASSWORD"] * 2
    assert await change(PASSWORD) == "TOO_MANY_ATTEMPTS"
    assert await client.login(account["user"]["email"]) == "TOO_MANY_ATTEMPTS"
    assert await client.code("auth", "/auth/me", token) == "open"


async def test_r1_86_r1_88_devices_are_listed(client: Client) -> None:
    """With all that is known of each, latest activity first; a login or a refresh is activity."""
    account = await client.register()
    email = account["user"]["email"]
    register, devices = "/auth/devices/register", "/auth/devices"
    names = {"browser": "b.1", "mobile": "m-1", "desktop": "d_1"}
    sessions = {}
    for kind, device in names.items():
        sessions[kind] = await client.login(email)
        body = {"deviceId": device, "deviceName": f"My {kind}", "deviceType": kind}
        token = sessions[kind]["accessToken"]
        assert isinstance(await client.auth(register, body, token), dict)
    caller = sessions["mobile"]

    async def listed() -> list[dict[str, Any]]:
        answer = await client.send("gateway", "GET", f"/api{devices}", caller["accessToken"])
        found: list[dict[str, Any]] = answer.json()["data"]
        return found

    shown = await listed()
    assert [device["deviceId"] for device in shown] == ["d_1", "m-1", "b.1"]
    for entry, kind in zip(shown, ("desktop", "mobile", "browser"), strict=True):
        assert str(uuid.UUID(entry.pop("id"), version=4))
        created, active = entry.pop("createdAt"), entry.pop("lastActiveAt")
        assert MOMENT.fullmatch(created)
        assert MOMENT.fullmatch(active)
        assert created <= active
        assert entry == {
            "userId": account["user"]["id"],
            "deviceId": names[kind],
            "deviceName": f"My {kind}",
            "deviceType": kind,
            "userAgent": client.http.headers["User-Agent"],
            "current": kind == "mobile",
        }
    await client.refresh(sessions["browser"]["refreshToken"])
    assert [device["deviceId"] for device in await listed()] == ["b.1", "d_1", "m-1"]
    await login(client, email, "m-1")
    assert [device["deviceId"] for device in await listed()] == ["m-1", "b.1", "d_1"]


async def test_r1_87_a_session_is_shown(client: Client) -> None:
    """What it was opened with, how long it lasts, and when it was last used."""
    account = await client.register()
    session = await login(client, account["user"]["email"], "d1")
    body = {"deviceId": "d1", "deviceName": "Mine"}
    await client.auth("/auth/devices/register", body, session["accessToken"])

    async def shown() -> dict[str, Any]:
        answer = await client.send("gateway", "GET", "/api/auth/sessions", session["accessToken"])
        (found,) = [entry for entry in answer.json()["data"] if entry["current"]]
        return dict(found)

    first = await shown()
    times = {name: first.pop(name) for name in ("createdAt", "lastUsedAt", "expiresAt")}
    assert first == {
        "id": claims_of(session["accessToken"])["sid"],
        "deviceId": "d1",
        "deviceName": "Mine",
        "ipAddress": client.stack.exempt,
        "userAgent": client.http.headers["User-Agent"],
        "current": True,
    }
    assert all(MOMENT.fullmatch(moment) for moment in times.values())
    opened, ends = (datetime.fromisoformat(times[name]) for name in ("createdAt", "expiresAt"))
    assert abs(ends - opened - timedelta(days=7)) < timedelta(seconds=2)
    assert times["lastUsedAt"] == times["createdAt"]
    session |= await client.refresh(session["refreshToken"])
    later = await shown()
    assert later["createdAt"] == times["createdAt"]
    assert later["lastUsedAt"] > times["lastUsedAt"]
    assert later["expiresAt"] > times["expiresAt"]


async def test_r1_89_device_is_registered_and_updated(client: Client) -> None:
    """A device belongs to its user; a repeated call updates it and binds the calling session."""
    account, other = await client.register(), await client.register()
    body = {"deviceId": "laptop.1", "deviceName": " <b>Mine</b> ", "deviceType": "desktop"}
    path = "/auth/devices/register"

    first = await client.auth(path, body, account["accessToken"])
    again = await client.auth(path, {"deviceId": "laptop.1"}, account["accessToken"])
    foreign = await client.auth(path, {"deviceId": "laptop.1"}, other["accessToken"])

    assert (first["deviceName"], first["deviceType"], first["current"]) == ("Mine", "desktop", True)
    assert {**again, "lastActiveAt": ""} == {**first, "lastActiveAt": ""}
    assert (foreign["deviceName"], foreign["deviceType"]) == (None, "browser")
    assert foreign["id"] != first["id"]
    for bad, code in (
        ({}, "DEVICE_ID_REQUIRED"),
        ({"deviceId": "a b"}, "VALIDATION_ERROR"),
        ({"deviceId": "a" * 129}, "VALIDATION_ERROR"),
        ({"deviceId": "a", "deviceType": "fridge"}, "VALIDATION_ERROR"),
    ):
        assert await client.auth(path, bad, account["accessToken"]) == code


async def test_r1_90_device_is_named(client: Client) -> None:
    """200 with the device; an unknown or foreign one is 404, a bad name 400."""
    account = await client.register()
    session = await login(client, account["user"]["email"], "d1")
    stranger = await client.register()

    async def rename(device: str, body: Any, token: str) -> Any:
        return await client.send("auth", "PATCH", f"/auth/devices/{device}", token, json=body)

    good = await rename("d1", {"deviceName": "Work"}, account["accessToken"])
    assert (good.status_code, good.json()["data"]["deviceName"]) == (200, "Work")
    assert good.json()["data"]["current"] is False
    own = await rename("d1", {"deviceName": "Work"}, session["accessToken"])
    assert own.json()["data"]["current"] is True
    sessions = await get(client, "/auth/sessions", session)
    assert [session["deviceName"] for session in sessions] == ["Work", None]
    assert refusal(await rename("d1", {}, session["accessToken"])) == (400, "VALIDATION_ERROR")
    for device, token in (("d2", session["accessToken"]), ("d1", stranger["accessToken"])):
        answer = await rename(device, {"deviceName": "X"}, token)
        assert refusal(answer) == (404, "DEVICE_NOT_FOUND")


async def test_r1_91_removed_device_loses_its_sessions(client: Client, auth_db: Any) -> None:
    """Its sessions are revoked with events that name it; others go on; a second call is 404."""
    account = await client.register()
    email = account["user"]["email"]
    on_device = [await login(client, email, "d1") for _ in range(2)]
    elsewhere = await login(client, email, "d2")

    path, token = "/auth/devices/d1", elsewhere["accessToken"]
    answer = await client.send("auth", "DELETE", path, token)

    assert (answer.status_code, answer.content) == (204, b"")
    await refused_everywhere(client, on_device)
    assert await revocations(auth_db, account["user"]["id"]) == [("device_revoked", "d1")] * 2
    devices = await get(client, "/auth/devices", elsewhere)
    assert [device["deviceId"] for device in devices] == ["d2"]
    assert refusal(await client.send("auth", "DELETE", path, token)) == (404, "DEVICE_NOT_FOUND")


async def test_r1_92_logout_of_all_others(client: Client, auth_db: Any) -> None:
    """Every other session ends, bound or not; every other device goes; the count is told."""
    account = await client.register()
    email = account["user"]["email"]
    others = [account, await login(client, email, "d2"), await login(client, email, "d1")]
    own = await login(client, email, "d1")
    path = "/auth/devices/logout-others"

    assert await client.auth(path, {}, own["accessToken"]) == "DEVICE_ID_REQUIRED"
    wrong = {"currentDeviceId": "d2"}
    assert await client.auth(path, wrong, own["accessToken"]) == "DEVICE_NOT_FOUND"
    answer = await client.auth(path, {"currentDeviceId": "d1"}, own["accessToken"])

    assert answer == {"loggedOutCount": 3}
    await refused_everywhere(client, others)
    devices = await get(client, "/auth/devices", own)
    assert [(device["deviceId"], device["current"]) for device in devices] == [("d1", True)]
    found = await revocations(auth_db, account["user"]["id"])
    assert sorted(found, key=str) == [
        ("logout_others", "d1"),
        ("logout_others", "d2"),
        ("logout_others", None),
    ]


async def test_r1_93_session_is_listed_and_ended(client: Client, auth_db: Any) -> None:
    """Only open sessions of the caller; a foreign or closed one is 404."""
    account, stranger = await client.register(), await client.register()
    second = await client.login(account["user"]["email"])
    sessions = await get(client, "/auth/sessions", second)
    assert set(sessions[0]) == {
        "id",
        "deviceId",
        "deviceName",
        "ipAddress",
        "userAgent",
        "createdAt",
        "lastUsedAt",
        "expiresAt",
        "current",
    }
    assert sessions[0]["ipAddress"] == client.stack.exempt
    (first_id,) = [session["id"] for session in sessions if not session["current"]]
    foreign_id = (await get(client, "/auth/sessions", stranger))[0]["id"]

    async def end(session_id: str) -> Any:
        path = f"/auth/sessions/{session_id}"
        return await client.send("auth", "DELETE", path, second["accessToken"])

    assert (await end(first_id)).status_code == 204
    await refused_everywhere(client, [account])
    for unknown in (first_id, foreign_id, str(uuid.uuid4())):
        assert refusal(await end(unknown)) == (404, "SESSION_NOT_FOUND")
    assert refusal(await end("no-uuid")) == (400, "VALIDATION_ERROR")
    assert len(await get(client, "/auth/sessions", second)) == 1
    assert await client.code("auth", "/auth/me", stranger["accessToken"]) == "open"
    assert await revocations(auth_db, account["user"]["id"]) == [("session_revoked", None)]
