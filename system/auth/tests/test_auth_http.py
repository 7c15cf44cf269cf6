"""The routes of auth-service with faked ports: statuses, bodies, order of checks."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from system.auth.adapters.session_check import StoreSessionCheck
from system.auth.entrypoints import devices, events, http, internal, lockout, secrets
from system.auth.entrypoints.cookies import CookieTransport
from system.auth.tests.fakes import FakeMirror
from system.auth.tests.house import PASSWORD, House
from system.platform.cache.answers import Answer, Loader, Outcome
from system.platform.cache.keys import Entry
from system.platform.config.loading import load
from system.platform.events.envelope import new_event
from system.platform.http.app import create_app
from system.platform.observability.metrics import AUTH_LOGIN_TOTAL, AUTH_REGISTER_TOTAL
from system.platform.security.principal import Authenticator

INTERNAL = {"X-Internal-Token": "internal-token-of-the-tests"}


class NullCache:
    """Keeps nothing and says so."""

    async def read(self, entry: Entry, loader: Loader, *, bypass: bool = False) -> Answer:
        loaded = await loader()
        return Answer(loaded.body, loaded.note, Outcome.BYPASS if bypass else Outcome.MISS)


class Front:
    """The routes of a house, asked over ASGI."""

    def __init__(self, house: House) -> None:
        self.house = house
        settings = load("auth", {"AUTH_DATABASE_URL": "postgresql://a:b@127.0.0.1:1/auth_db"})

        async def up() -> None:
            pass

        app = create_app(
            settings,
            [
                *http.ROUTES,
                *devices.ROUTES,
                *lockout.ROUTES,
                *secrets.ROUTES,
                internal.routes(INTERNAL["X-Internal-Token"]),
            ],
            checks={"database": up},
            state={
                "signing_in": house.service,
                "reads": house.reads,
                "accounts": house.accounts,
                "own_sessions": house.own,
                "passwords": house.passwords,
                "lockouts": house.lockouts,
                "cookies": CookieTransport(["https://localhost"], 604800),
                "authenticator": Authenticator(
                    house.keeper.fresh, StoreSessionCheck(house.store, house.clock)
                ),
                "cache": NullCache(),
                "ring": house.ring,
                "keeper": house.keeper,
            },
        )
        transport = httpx.ASGITransport(app=app, client=("203.0.113.7", 1))  # type: ignore[arg-type]  # Litestar's narrower ASGI types
        self.http = httpx.AsyncClient(transport=transport, base_url="http://auth")

    async def post(self, path: str, body: Any = None, token: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return await self.http.post(path, json=body, headers=headers)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.http.get(path, headers=headers)

    async def session(self) -> dict[str, Any]:
        body = {"email": f"{uuid.uuid4()}@x.test", "password": PASSWORD, "name": "C"}
        data: dict[str, Any] = (await self.post("/auth/register", body)).json()["data"]
        return data


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    made = Front(House())
    yield made
    await made.http.aclose()


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def paths(answer: httpx.Response) -> set[str]:
    assert code(answer) == (400, "VALIDATION_ERROR")
    return {issue["path"][0] for issue in answer.json()["error"]["details"]}


async def test_registration_answers_with_a_session(front: Front) -> None:
    """201, exactly the user's agreed fields, e-mail and name in normal form, role ignored."""
    counted = AUTH_REGISTER_TOTAL.labels("success")._value.get()

    answer = await front.post(
        "/auth/register",
        {"email": " C@X.test ", "password": PASSWORD, "name": " <b>C</b> ", "role": "ADMIN"},
    )

    assert answer.status_code == 201
    data = answer.json()["data"]
    assert set(data) == {"user", "accessToken", "refreshToken", "expiresIn"}
    assert set(data["user"]) == {"id", "email", "name", "role", "createdAt", "updatedAt"}
    assert (data["user"]["email"], data["user"]["name"]) == ("c@x.test", "C")
    assert (data["user"]["role"], data["expiresIn"]) == ("CUSTOMER", "15m")
    assert AUTH_REGISTER_TOTAL.labels("success")._value.get() == counted + 1
    again = await front.post(
        "/auth/register", {"email": "C@x.TEST", "password": PASSWORD, "name": "C"}
    )
    assert code(again) == (409, "EMAIL_EXISTS")


async def test_bad_registration_names_every_fault(front: Front) -> None:
    """All broken rules are told at once (R1.16)."""
    bad = {"email": "x", "password": "short", "name": "<b></b>"}

    assert paths(await front.post("/auth/register", bad)) == {"email", "password", "name"}
    assert paths(await front.post("/auth/register")) == {"email", "password", "name"}


async def test_login_answers(front: Front) -> None:
    """200 with a session, 401 for a wrong password, 400 for none; each try is counted."""
    user = (await front.session())["user"]
    failures = AUTH_LOGIN_TOTAL.labels("failure")._value.get()

    good = await front.post("/auth/login", {"email": user["email"], "password": PASSWORD})
    wrong = await front.post("/auth/login", {"email": user["email"], "password": "wrong"})

    assert good.status_code == 200
    assert good.json()["data"]["user"] == user
    assert code(wrong) == (401, "INVALID_CREDENTIALS")
    assert wrong.json()["error"]["message"] == "Invalid email or password"
    assert paths(await front.post("/auth/login", {"email": user["email"]})) == {"password"}
    assert AUTH_LOGIN_TOTAL.labels("failure")._value.get() == failures + 1


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (401, "UNAUTHORIZED")),
        (None, (401, "UNAUTHORIZED")),
        ({"refreshToken": ""}, (400, "VALIDATION_ERROR")),
        ({"refreshToken": None}, (400, "VALIDATION_ERROR")),
        ({"refreshToken": 1}, (400, "VALIDATION_ERROR")),
        ({"refreshToken": "x" * 2049}, (400, "VALIDATION_ERROR")),
        ({"refreshToken": "x" * 2048}, (401, "TOKEN_INVALID")),
        ([], (400, "INVALID_JSON")),
    ],
)
async def test_refresh_refuses(front: Front, body: Any, expected: tuple[int, str]) -> None:
    """No token is 401, a token of the wrong form 400, a bad one 401 (R1.61, R1.69)."""
    assert code(await front.post("/auth/refresh", body)) == expected


async def test_refresh_answers_with_a_pair(front: Front) -> None:
    """200 with exactly a new pair and its lifetime."""
    session = await front.session()

    answer = await front.post("/auth/refresh", {"refreshToken": session["refreshToken"]})

    assert answer.status_code == 200
    assert set(answer.json()["data"]) == {"accessToken", "refreshToken", "expiresIn"}


async def test_me_answers_with_the_user(front: Front) -> None:
    """The caller's own account, with an honest X-Cache."""
    session = await front.session()
    bearer = f"Bearer {session['accessToken']}"

    fresh = await front.get("/auth/me", Authorization=bearer)
    bypassed = await front.get("/auth/me", **{"Authorization": bearer, "Cache-Control": "no-cache"})

    assert fresh.json() == {"success": True, "data": session["user"]}
    assert (fresh.headers["X-Cache"], bypassed.headers["X-Cache"]) == ("MISS", "BYPASS")
    assert code(await front.get("/auth/me")) == (401, "UNAUTHORIZED")


async def test_logout_checks_the_token_before_the_body(front: Front) -> None:
    """A bad body of nobody is 401, of somebody 400 without effect, then 200 and 401 (R1.17)."""
    session = await front.session()
    token = session["accessToken"]

    assert code(await front.post("/auth/logout", {"logoutAll": 1})) == (401, "UNAUTHORIZED")
    assert paths(await front.post("/auth/logout", {"logoutAll": 1}, token)) == {"logoutAll"}
    done = await front.post("/auth/logout", None, token)
    assert done.json()["data"] == {"message": "Logged out successfully"}
    assert code(await front.post("/auth/logout", None, token)) == (401, "TOKEN_REVOKED")


async def test_internal_routes_are_closed_without_the_token(front: Front) -> None:
    """Every internal route asks for the internal token first (R1.153)."""
    for path in ("/users", "/users/x", "/users/by-email", "/sessions/x", "/keys"):
        assert code(await front.get(f"/internal{path}")) == (401, "UNAUTHORIZED")


async def test_internal_users(front: Front) -> None:
    """Accounts are found by id and address, and listed page by page."""
    accounts = [(await front.session())["user"] for _ in range(3)]
    wanted = accounts[0]

    by_id = await front.get(f"/internal/users/{wanted['id']}", **INTERNAL)
    by_email = await front.get(f"/internal/users/by-email?email={wanted['email']}", **INTERNAL)

    assert by_id.json() == by_email.json()
    assert by_id.json()["data"] == {
        **wanted,
        "status": "active",
        "emailVerified": False,
        "version": 1,
    }
    listed: list[str] = []
    page = (await front.get("/internal/users?limit=2", **INTERNAL)).json()["data"]
    while page:
        listed += [user["id"] for user in page]
        next_page = f"/internal/users?limit=2&after={listed[-1]}"
        page = (await front.get(next_page, **INTERNAL)).json()["data"]
    assert listed == sorted(user["id"] for user in accounts)
    nobody = await front.get(f"/internal/users/{uuid.uuid4()}", **INTERNAL)
    assert code(nobody) == (404, "USER_NOT_FOUND")
    assert paths(await front.get("/internal/users/x", **INTERNAL)) == {"id"}
    stranger = await front.get("/internal/users/by-email?email=nobody@x.test", **INTERNAL)
    assert code(stranger) == (404, "USER_NOT_FOUND")


async def test_internal_session_state(front: Front) -> None:
    """A session is open, then closed by logout; an unknown one is not found."""
    session = await front.session()
    sid = next(iter(front.house.store.tables.sessions))

    before = (await front.get(f"/internal/sessions/{sid}", **INTERNAL)).json()["data"]
    await front.post("/auth/logout", None, session["accessToken"])
    after = (await front.get(f"/internal/sessions/{sid}", **INTERNAL)).json()["data"]

    assert (before["id"], before["userId"], before["open"]) == (sid, session["user"]["id"], True)
    assert after["open"] is False
    unknown = await front.get(f"/internal/sessions/{uuid.uuid4()}", **INTERNAL)
    assert code(unknown) == (404, "SESSION_NOT_FOUND")


async def test_internal_keys_are_those_of_access_tokens(front: Front) -> None:
    """Verifiers get the access keys and never the refresh keys (R1.30)."""
    unread = await front.get("/internal/keys", **INTERNAL)
    assert code(unread) == (503, "SERVICE_UNAVAILABLE")
    await front.house.keeper.fresh.look()
    data = (await front.get("/internal/keys", **INTERNAL)).json()["data"]

    assert [key["kid"] for key in data["access"]] == ["a"]
    assert "r" * 40 not in str(data)


async def test_revocation_event_reaches_the_mirror() -> None:
    """`session.revoked` makes sure that the revocation stands in Redis (R3.42)."""
    mirror = FakeMirror()
    sid = str(uuid.uuid4())
    data = {
        "userId": str(uuid.uuid4()),
        "sessionId": sid,
        "deviceId": None,
        "reason": "logout",
        "timestamp": "2026-01-17T10:00:00.000Z",
    }
    event = new_event("session.revoked", data, source="auth-service", actor_id=None)

    await events.handlers(mirror)["session.revoked"](event, None)  # type: ignore[arg-type]  # needs no transaction

    assert mirror.states == {sid: "revoked"}
