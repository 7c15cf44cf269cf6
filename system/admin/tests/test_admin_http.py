"""R1.17, R1.125-R1.132, R1.140, R1.143, R1.154: requests and answers of the other routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from system.admin.domain.users import Role, Sort, Status, UserQuery
from system.admin.entrypoints.http_health import PARTS
from system.admin.ports import Actor
from system.admin.tests.fakes import a_user
from system.admin.tests.house import ACTING, ADMIN, House
from system.platform.http.app import described_routes
from system.platform.http.errors import ApiError
from system.platform.http.openapi import document

USERS = "/api/admin/users"
CONFIG = "/api/admin/config"
HEALTH = "/api/admin/health"
ANN = a_user(2)
STRANGER = a_user(99)
ACTOR = Actor(ACTING.id, "203.0.113.7", "probe")
NEW = {"email": " New@X.test ", "password": "Harbour-Light-42", "name": " <b>New</b> "}


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
async def http(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with house.http() as client:
        client.headers.update(ADMIN)
        yield client


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", USERS + "?limit=0"),
        ("GET", USERS + "/x"),
        ("POST", USERS),
        ("PUT", USERS + "/x"),
        ("PUT", USERS + "/x/role"),
        ("PATCH", USERS + "/x/role"),
        ("PATCH", USERS + "/x/status"),
        ("DELETE", USERS + "/x"),
        ("GET", CONFIG),
        ("GET", CONFIG + "/-"),
        ("PUT", CONFIG + "/-"),
        ("GET", HEALTH),
    ],
)
async def test_administrators_only(
    house: House, http: httpx.AsyncClient, method: str, path: str
) -> None:
    """R1.17: token and role come before everything else."""
    del http.headers["authorization"]
    for headers, status, code in (
        ({}, 401, "UNAUTHORIZED"),
        ({"Authorization": "CUSTOMER"}, 403, "FORBIDDEN"),
        ({"Authorization": "VENDOR"}, 403, "FORBIDDEN"),
    ):
        answer = await http.request(method, path, headers=headers, content=b"{")
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert house.accounts.commands == []


async def test_a_page_of_users(http: httpx.AsyncClient, house: House) -> None:
    """R1.125, R1.126: exactly these fields, pagination, BYPASS, newest first by default."""
    answer = await http.get(USERS)

    assert answer.status_code == 200
    assert answer.headers["x-cache"] == "BYPASS"
    data = answer.json()["data"]
    assert data["pagination"] == {"page": 1, "limit": 10, "total": 2, "totalPages": 1}
    assert data["users"][1] == {
        "id": ANN.id,
        "email": "user2@x.test",
        "name": "User 2",
        "role": "CUSTOMER",
        "status": "active",
        "createdAt": "2026-01-17T10:00:00.000Z",
        "updatedAt": "2026-01-17T10:00:00.000Z",
    }
    assert house.store.asked == [UserQuery()]


async def test_every_filter_reaches_the_store(http: httpx.AsyncClient, house: House) -> None:
    """R1.126, R1.19: search is cleaned, and empty is none."""
    parameters = {
        "page": "3",
        "limit": "100",
        "sort": "name",
        "order": "asc",
        "role": "ADMIN",
        "status": "suspended",
        "search": " 50%_<b>x</b> ",
    }
    await http.get(USERS, params=parameters)
    await http.get(USERS, params={"search": "  "})

    assert house.store.asked == [
        UserQuery(3, 100, Sort.NAME, False, Role.ADMIN, Status.SUSPENDED, "50%_x"),
        UserQuery(),
    ]


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "limit=0",
        "limit=101",
        "sort=password",
        "order=up",
        "role=admin",
        "status=gone",
        "search=" + "x" * 256,
    ],
)
async def test_bad_lists(http: httpx.AsyncClient, house: House, query: str) -> None:
    """R1.8."""
    answer = await http.get(f"{USERS}?{query}")

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "VALIDATION_ERROR")
    assert house.store.asked == []


async def test_one_user(http: httpx.AsyncClient) -> None:
    """R1.127, R1.17: malformed 400, unknown 404."""
    known = await http.get(f"{USERS}/{ANN.id}")
    unknown = await http.get(f"{USERS}/{STRANGER.id}")
    malformed = await http.get(f"{USERS}/7")

    assert (known.status_code, known.json()["data"]["id"]) == (200, ANN.id)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "USER_NOT_FOUND")
    assert (malformed.status_code, malformed.json()["error"]["code"]) == (400, "VALIDATION_ERROR")


async def test_commands_in_normal_form(http: httpx.AsyncClient, house: House) -> None:
    """R1.128-R1.132, R1.142: what is asked, and for whom from where."""
    one = f"{USERS}/{ANN.id}"
    created = await http.post(USERS, json={**NEW, "role": "VENDOR"})
    answers = [
        await http.put(one, json={"name": "Anna"}),
        await http.put(one, json={"email": "ANNA@x.test"}),
        await http.put(f"{one}/role", json={"role": "ADMIN"}),
        await http.patch(f"{one}/role", json={"role": "VENDOR"}),
        await http.patch(f"{one}/status", json={"isActive": False, "reason": " <i>why</i> "}),
        await http.patch(f"{one}/status", json={"isActive": True}),
    ]
    gone = await http.delete(one)

    assert created.status_code == 201
    assert created.json()["data"]["email"] == "new@x.test"
    assert [answer.status_code for answer in answers] == [200] * 6
    assert answers[-1].json()["data"]["role"] == "VENDOR"
    assert (gone.status_code, gone.content) == (204, b"")
    assert house.accounts.commands == [
        ("create", ACTOR, ("new@x.test", "Harbour-Light-42", "New", Role.VENDOR)),
        ("change", ACTOR, (ANN.id, {"name": "Anna"})),
        ("change", ACTOR, (ANN.id, {"email": "anna@x.test"})),
        ("set_role", ACTOR, (ANN.id, Role.ADMIN)),
        ("set_role", ACTOR, (ANN.id, Role.VENDOR)),
        ("set_active", ACTOR, (ANN.id, False, "why")),
        ("set_active", ACTOR, (ANN.id, True, None)),
        ("delete", ACTOR, ANN.id),
    ]


@pytest.mark.parametrize(
    ("method", "path", "body", "paths"),
    [
        ("POST", "", {}, [["email"], ["password"], ["name"], ["role"]]),
        ("POST", "", {**NEW, "password": "short", "role": "ADMIN"}, [["password"]] * 4),
        ("POST", "", {**NEW, "name": "<b>", "role": "ADMIN"}, [["name"]]),
        ("POST", "", {**NEW, "role": "admin"}, [["role"]]),
        ("PUT", f"/{ANN.id}", {}, [[]]),
        ("PUT", f"/{ANN.id}", {"role": "ADMIN"}, [[]]),
        ("PUT", "/7", {"email": "x"}, [["id"], ["email"]]),
        ("PUT", f"/{ANN.id}/role", {"role": "KING"}, [["role"]]),
        ("PATCH", f"/{ANN.id}/role", {}, [["role"]]),
        ("PATCH", f"/{ANN.id}/status", {"isActive": "no"}, [["isActive"]]),
        ("PATCH", f"/{ANN.id}/status", {"isActive": True, "reason": "x" * 501}, [["reason"]]),
        ("DELETE", "/7", {}, [["id"]]),
    ],
)
async def test_bad_commands(
    http: httpx.AsyncClient,
    house: House,
    method: str,
    path: str,
    body: dict[str, Any],
    paths: list[list[str]],
) -> None:
    """R1.8, R1.16, R1.21: all issues at once, and auth-service hears nothing."""
    answer = await http.request(method, USERS + path, json=body)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "VALIDATION_ERROR")
    assert [issue["path"] for issue in error["details"]] == paths
    assert house.accounts.commands == []


async def test_a_refusal_is_passed_on(http: httpx.AsyncClient, house: House) -> None:
    """R1.135."""
    house.accounts.refusal = ApiError(403, "CANNOT_SUSPEND_LAST_ADMIN", "no")

    answer = await http.patch(f"{USERS}/{ANN.id}/status", json={"isActive": False})

    assert (answer.status_code, answer.json()["error"]["code"]) == (
        403,
        "CANNOT_SUSPEND_LAST_ADMIN",
    )


@pytest.mark.parametrize(
    "value", [None, True, 0, -1.5, "x", "", [], {}, {"a": [1, {"b": None}]}, "x" * 10_238]
)
async def test_any_json_value(http: httpx.AsyncClient, house: House, value: Any) -> None:
    """R1.140: up to 10 kB; set, shown, told."""
    path = f"{CONFIG}/a.b_c-1"

    answer = await http.put(path, json={"value": value, "description": "<b>What</b>"})

    shown = {
        "key": "a.b_c-1",
        "value": value,
        "description": "What",
        "updatedAt": "2026-01-17T10:00:01.000Z",
        "updatedBy": ACTING.id,
    }
    assert (answer.status_code, answer.json()["data"]) == (200, shown)
    assert (await http.get(path)).json()["data"] == shown
    everything = await http.get(CONFIG)
    assert everything.json()["data"] == {"config": [shown]}
    assert everything.headers["x-cache"] == "BYPASS"
    assert house.store.emitted == [("a.b_c-1", ACTING.id)]


async def test_a_value_is_replaced_as_a_whole(http: httpx.AsyncClient, house: House) -> None:
    """R1.140: with its description."""
    await http.put(f"{CONFIG}/a", json={"value": 1, "description": "x"})
    await http.put(f"{CONFIG}/a", json={"value": 2})

    setting = house.store.config["a"]
    assert (setting.value, setting.description) == (2, None)


@pytest.mark.parametrize(
    ("key", "body", "paths"),
    [
        ("a", {}, [["value"]]),
        ("a", {"value": "x" * 10_239}, [["value"]]),
        ("a", {"value": "\0"}, [["value"]]),
        ("a", {"value": 1, "description": "x" * 501}, [["description"]]),
        ("A", {"value": 1}, [["key"]]),
        ("1a", {"value": 1}, [["key"]]),
        ("a" * 129, {"value": 1}, [["key"]]),
        ("a%20b", {"description": 1}, [["key"], ["value"], ["description"]]),
    ],
)
async def test_bad_settings(
    http: httpx.AsyncClient, house: House, key: str, body: dict[str, Any], paths: list[list[str]]
) -> None:
    """R1.8: nothing is set and nothing told."""
    answer = await http.put(f"{CONFIG}/{key}", json=body)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "VALIDATION_ERROR")
    assert [issue["path"] for issue in error["details"]] == paths
    assert (house.store.config, house.store.emitted) == ({}, [])


async def test_a_number_as_long_as_you_like(http: httpx.AsyncClient) -> None:
    """R1.140: any JSON value is kept or refused, never a 500."""
    for number in ("1" * 40, "1e999", "-0.0", "1.25e-7"):
        answer = await http.put(
            f"{CONFIG}/a",
            content=f'{{"value": {number}}}',
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code in (200, 400), (number, answer.text)


async def test_unknown_settings(http: httpx.AsyncClient) -> None:
    """R1.140, R1.17: unknown 404, malformed 400."""
    unknown = await http.get(f"{CONFIG}/nothing")
    malformed = await http.get(f"{CONFIG}/No")

    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "CONFIG_NOT_FOUND")
    assert (malformed.status_code, malformed.json()["error"]["code"]) == (400, "VALIDATION_ERROR")


async def _well() -> None:
    return None


async def _sick() -> None:
    raise OSError("connection refused by 10.0.0.1")


async def _hanging() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("sick", "status", "code"),
    [(0, "healthy", 200), (1, "degraded", 200), (2, "degraded", 200), (3, "unhealthy", 503)],
)
async def test_health(
    http: httpx.AsyncClient, house: House, sick: int, status: str, code: int
) -> None:
    """R1.143: one entry a part; 503 with the same data when unhealthy; no reasons shown."""
    house.watch({part: _sick if n < sick else _well for n, part in enumerate(PARTS)})

    answer = await http.get(HEALTH)

    body = answer.json()
    data = body["data"] if code == 200 else body["error"]["details"]
    assert (answer.status_code, data["status"]) == (code, status)
    assert data["services"] == {
        part: "unhealthy" if n < sick else "healthy" for n, part in enumerate(PARTS)
    }
    assert set(data) == {"status", "timestamp", "services", "version", "uptime", "responseTime"}
    assert data["version"] == "9.9.9"
    assert "10.0.0.1" not in answer.text
    if code == 503:
        assert body["error"]["code"] == "HEALTH_CHECK_FAILED"


async def test_a_part_that_hangs_is_unhealthy(http: httpx.AsyncClient, house: House) -> None:
    """R1.143: each has its time, and all are asked together."""
    house.watch(dict.fromkeys(PARTS, _hanging), timeout_s=0.3)

    answer = await http.get(HEALTH)

    found = answer.json()["error"]["details"]
    assert set(found["services"].values()) == {"unhealthy"}
    assert 300 <= found["responseTime"] < 8 * 300


def test_the_routes_describe_themselves(house: House) -> None:
    """R1.154: every route of 1.12, with examples that are valid."""
    described = document(described_routes(house.app), "admin")

    assert {path: sorted(methods) for path, methods in described["paths"].items()} == {
        USERS: ["get", "post"],
        USERS + "/{id}": ["delete", "get", "put"],
        USERS + "/{id}/role": ["patch", "put"],
        USERS + "/{id}/status": ["patch"],
        "/api/admin/audit-logs": ["get"],
        "/api/admin/audit-logs/actions": ["get"],
        CONFIG: ["get"],
        CONFIG + "/{key}": ["get", "put"],
        HEALTH: ["get"],
    }
