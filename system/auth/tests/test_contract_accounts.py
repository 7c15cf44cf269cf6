"""Registration, login and the own account through the gateway (R1.57-R1.68)."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from system.auth.tests.platform_client import PASSWORD, Client, claims_of
from system.conftest import RunningStack

pytestmark = pytest.mark.platform

USER = {"id", "email", "name", "role", "createdAt", "updatedAt"}
SESSION = {"user", "accessToken", "refreshToken", "expiresIn"}


async def post(client: Client, path: str, body: Any, token: str | None = None) -> Any:
    return await client.send("gateway", "POST", f"/api/auth{path}", token, json=body)


def newcomer(**changes: Any) -> dict[str, Any]:
    return {"email": f"{uuid.uuid4()}@x.test", "password": PASSWORD, "name": "C", **changes}


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def paths(answer: Any) -> list[list[Any]]:
    assert refusal(answer) == (400, "VALIDATION_ERROR"), answer.text
    return [issue["path"] for issue in answer.json()["error"]["details"]]


async def test_r1_57_r1_58_r1_62_the_user_object(client: Client, auth_db: Any) -> None:
    """The same six fields at register, login and /me; nothing that is answered tells the hash."""
    body = newcomer()

    opened = await post(client, "/register", body)
    login = await post(client, "/login", body)
    token = login.json()["data"]["accessToken"]
    own = await client.send("gateway", "GET", "/api/auth/me", token)

    assert [answer.status_code for answer in (opened, login, own)] == [201, 200, 200]
    user = own.json()["data"]
    assert set(user) == USER
    assert (user["email"], user["name"], user["role"]) == (body["email"], "C", "CUSTOMER")
    for answer in (opened, login):
        assert set(answer.json()["data"]) == SESSION
        assert answer.json()["data"]["user"] == user
    stored = await auth_db.fetchval("SELECT password_hash FROM users WHERE id = $1", user["id"])
    admin = client.stack.account("admin")
    boss = (await client.login(admin["email"], admin["password"]))["accessToken"]
    shown = [
        await client.send("gateway", "GET", path, boss)
        for path in (f"/api/admin/users/{user['id']}", "/api/admin/users?limit=100")
    ]
    told = await client.internal("GET", f"/users/{user['id']}")
    for answer in (opened, login, own, told, *shown):
        assert answer.is_success
        assert stored not in answer.text
        assert "argon2" not in answer.text.lower()
        assert "passwordHash" not in answer.text


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"email": "x"}, ["email"]),
        ({"email": None}, ["email"]),
        ({"email": 1}, ["email"]),
        ({"email": "a" * 250 + "@x.test"}, ["email"]),
        ({"password": "Short 1!"}, ["password"]),
        ({"password": 123456789012}, ["password"]),
        ({"name": ""}, ["name"]),
        ({"name": " <b></b> "}, ["name"]),
        ({"name": "x" * 256}, ["name"]),
        ({"email": "x", "password": "x", "name": None}, ["email", "password", "name"]),
    ],
)
async def test_r1_59_registration_is_refused(
    client: Client, changes: dict[str, Any], wanted: list[str]
) -> None:
    """400 naming all that is wrong, and no account."""
    body = newcomer(**changes)

    answer = await post(client, "/register", body)

    assert {path[0] for path in paths(answer)} == set(wanted)
    if "email" not in wanted:
        assert refusal(await post(client, "/login", newcomer(email=body["email"])))[0] == 401


async def test_r1_59_r1_65_registration_opens_a_customer_account(
    client: Client, auth_db: Any
) -> None:
    """Whatever role is asked for: an active, unverified CUSTOMER, a session, one event."""
    body = newcomer(name=" <i>New</i> ", role="ADMIN", status="suspended", emailVerified=True)
    longest = newcomer(name=f"<b>{'n' * 255}</b>")

    answer = await post(client, "/register", body)
    again = await post(client, "/register", {**body, "email": body["email"].upper()})

    assert answer.status_code == 201
    assert refusal(again) == (409, "EMAIL_EXISTS")
    assert (await post(client, "/register", longest)).json()["data"]["user"]["name"] == "n" * 255
    data = answer.json()["data"]
    assert (data["user"]["name"], data["user"]["role"]) == ("New", "CUSTOMER")
    claims = claims_of(data["accessToken"])
    assert claims["role"] == "CUSTOMER"
    row = await auth_db.fetchrow(
        "SELECT role::text, status::text, email_verified FROM users WHERE id = $1",
        data["user"]["id"],
    )
    assert tuple(row) == ("CUSTOMER", "active", False)
    sessions = await client.send("gateway", "GET", "/api/auth/sessions", data["accessToken"])
    assert [session["id"] for session in sessions.json()["data"]] == [claims["sid"]]
    events = await auth_db.fetch(
        "SELECT envelope FROM outbox WHERE envelope->'data'->>'userId' = $1", data["user"]["id"]
    )
    (event,) = [json.loads(row["envelope"]) for row in events]
    assert (event["type"], event["data"]["origin"]) == ("user.created", "registration")
    assert (event["data"]["role"], event["data"]["emailVerified"]) == ("CUSTOMER", False)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"email": "x"}, ["email"]),
        ({"email": None}, ["email"]),
        ({"password": ""}, ["password"]),
        ({"password": "x" * 256}, ["password"]),
        ({"email": None, "password": None}, ["email", "password"]),
    ],
)
async def test_r1_60_login_is_refused(
    client: Client, changes: dict[str, Any], wanted: list[str]
) -> None:
    """What cannot be an address or a password is 400."""
    assert paths(await post(client, "/login", newcomer(**changes))) == [[name] for name in wanted]


async def test_r1_60_r1_68_login(client: Client) -> None:
    """200 for the right password, 401 for another, however long; 403 once it is suspended."""
    body = newcomer()
    account = (await post(client, "/register", body)).json()["data"]
    good = await post(client, "/login", body)
    wrong = await post(client, "/login", {**body, "password": "w" * 255})
    assert (good.status_code, set(good.json()["data"])) == (200, SESSION)
    assert refusal(wrong) == (401, "INVALID_CREDENTIALS")

    path = f"/users/{account['user']['id']}/status"
    assert (await client.internal("PUT", path, {"isActive": False})).is_success

    # The owner is told; who does not know the password learns nothing.
    assert refusal(await post(client, "/login", body)) == (403, "ACCOUNT_SUSPENDED")
    guess = await post(client, "/login", {**body, "password": "wrong"})
    nobody = await post(client, "/login", newcomer(password="wrong"))
    assert refusal(guess) == (401, "INVALID_CREDENTIALS")
    # It is the second failure of the account and the first of nobody: neither has details.
    assert guess.content == nobody.content


async def test_r1_27_the_lifetime_is_told_as_configured(
    stack: RunningStack, client: Client
) -> None:
    """`15m` without any setting, else what is set; the token lives as long."""
    seen = []
    try:
        for configured in (None, "5m"):
            if configured is not None:
                stack.restart_with("auth", {"JWT_EXPIRES_IN": configured})
                stack.until_ready()
            body = newcomer()
            opened = (await post(client, "/register", body)).json()["data"]
            login = (await post(client, "/login", body)).json()["data"]
            token = {"refreshToken": login["refreshToken"]}
            refreshed = (await post(client, "/refresh", token)).json()["data"]
            for data in (opened, login, refreshed):
                claims = claims_of(data["accessToken"])
                seen.append((data["expiresIn"], claims["exp"] - claims["iat"]))
    finally:
        stack.restart("auth")
        stack.until_ready()

    assert seen == [("15m", 900)] * 3 + [("5m", 300)] * 3
