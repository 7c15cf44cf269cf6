"""Audit log, configuration and health in the running platform (R1.138-R1.143, R3.40-R3.45)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pika
import pytest

from system.admin.tests.platform_client import Person, Stack, client, rows, until
from system.platform.events.envelope import new_event

pytestmark = pytest.mark.platform

AUDIT = "/api/admin/audit-logs"
CONFIG = "/api/admin/config"
HEALTH = "/api/admin/health"
Newcomer = Callable[[], Person]


def logged(admin: Person, **query: Any) -> list[dict[str, Any]]:
    """The rows of a page of the audit log."""
    found: list[dict[str, Any]] = admin.good("GET", AUDIT, query=query)["auditLogs"]
    return found


def key() -> str:
    return f"test.{uuid.uuid4().hex}"


def test_r1_138_every_filter(admin: Person, newcomer: Newcomer) -> None:
    """Each one alone and all together give the same row; newest first."""
    person = newcomer()
    person.good("PUT", "/api/profile", {"bio": "x"})
    until(lambda: logged(admin, userId=person.id, action="PROFILE_UPDATED"))

    rows = logged(admin, userId=person.id)
    assert [row["action"] for row in rows] == ["PROFILE_UPDATED", "USER_LOGIN", "USER_REGISTERED"]
    moments = [row["timestamp"] for row in rows]
    assert moments == sorted(moments, reverse=True)
    newest = rows[0]
    now = datetime.now(UTC)
    earlier, later = now - timedelta(minutes=5), now + timedelta(minutes=5)
    everything = {
        "userId": person.id,
        "action": "PROFILE_UPDATED",
        "resourceType": "user",
        "startDate": earlier.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "endDate": later.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    assert logged(admin, **everything) == [newest]
    for name, value in everything.items():
        assert newest["id"] in [row["id"] for row in logged(admin, limit=100, **{name: value})]
    for name, value in (
        ("action", "USER_DELETED"),
        ("resourceType", "payment"),
        ("endDate", everything["startDate"]),
        ("userId", str(uuid.uuid4())),
    ):
        assert logged(admin, **{**everything, "startDate": "2020-01-01", name: value}) == []


def test_r1_142_a_row_tells_who_did_what_from_where(
    stack: Stack, admin: Person, newcomer: Newcomer
) -> None:
    """Actor with name and address, client address, agent, correlation id, data and source."""
    person = newcomer()
    headers: dict[str, Any] = {"User-Agent": "probe/1", "X-Correlation-ID": f"c-{person.id}"}
    person.ask("PUT", "/api/profile", {"bio": "x"}, **headers)
    [row] = until(lambda: logged(admin, userId=person.id, action="PROFILE_UPDATED"))

    assert {**row, "id": "", "timestamp": "", "details": {}} == {
        "id": "",
        "userId": person.id,
        "userName": "New",
        "userEmail": person.email,
        "action": "PROFILE_UPDATED",
        "resourceType": "user",
        "resourceId": person.id,
        "details": {},
        "ipAddress": stack.exempt,
        "userAgent": "probe/1",
        "correlationId": f"c-{person.id}",
        "timestamp": "",
    }
    assert row["details"]["fields"] == ["bio"]
    assert row["details"]["source"] == "profile_service_event"


def test_r1_142_nobody_changes_rows(admin: Person) -> None:
    """There is no route for it."""
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in (AUDIT, f"{AUDIT}/{uuid.uuid4()}"):
            assert admin.code(method, path, {}) == (404, "NOT_FOUND")


def test_r3_44_the_same_event_twice_leaves_one_row(stack: Stack, admin: Person) -> None:
    """And one of a type nobody knows leaves none."""
    user = str(uuid.uuid4())
    data = {"userId": user, "changedAt": "2026-01-17T10:00:00.000Z"}
    event = new_event("user.password_changed", data, source="auth-service", actor_id=user)
    unknown = new_event("thing.happened", {"userId": user}, source="auth-service", actor_id=user)
    last = new_event("user.password_changed", data, source="auth-service", actor_id=user)
    connection = pika.BlockingConnection(pika.URLParameters(stack.target["access"]["amqp"]["url"]))
    channel = connection.channel()
    for sent in (event, unknown, event, last):
        channel.basic_publish("events", sent.routing_key, sent.encode())
    connection.close()
    count = "SELECT event_id FROM audit_logs WHERE user_id = %s ORDER BY created_at, event_id"
    until(lambda: (last.id,) in rows(stack, "admin", count, user))

    assert sorted(rows(stack, "admin", count, user)) == sorted([(event.id,), (last.id,)])


def test_r1_139_r1_141_the_actions(admin: Person) -> None:
    """22 names, sorted."""
    names = admin.good("GET", f"{AUDIT}/actions")

    assert (len(names), names) == (22, sorted(names))


@pytest.mark.parametrize("value", ["1.0", None, False, 12.5, [1, None], {"a": {"b": "ü"}}])
def test_r1_140_a_value_is_set_and_read(admin: Person, value: Any) -> None:
    """Any JSON value; created, shown by GET and in the list."""
    path = f"{CONFIG}/{key()}"
    assert admin.code("GET", path) == (404, "CONFIG_NOT_FOUND")

    made = admin.good("PUT", path, {"value": value, "description": "What"})

    assert set(made) == {"key", "value", "description", "updatedAt", "updatedBy"}
    assert (made["value"], made["description"], made["updatedBy"]) == (value, "What", admin.id)
    assert admin.good("GET", path) == made
    listed = admin.good("GET", CONFIG)["config"]
    assert made in listed
    assert [one["key"] for one in listed] == sorted(one["key"] for one in listed)


def test_r1_140_r3_40_a_value_is_replaced_and_told(stack: Stack, admin: Person) -> None:
    """One `config.updated` and one audit row for each change."""
    name = key()
    first = admin.good("PUT", f"{CONFIG}/{name}", {"value": 1, "description": "x"})
    second = admin.good("PUT", f"{CONFIG}/{name}", {"value": 2})

    assert (second["value"], second["description"]) == (2, None)
    assert second["updatedAt"] > first["updatedAt"]
    events = rows(
        stack,
        "admin",
        "SELECT routing_key, envelope->'data' FROM outbox "
        "WHERE envelope->'data'->>'key' = %s ORDER BY seq",
        name,
    )
    assert events == [
        ("admin.config.updated", {"key": name, "updatedBy": admin.id, "updatedAt": at})
        for at in (first["updatedAt"], second["updatedAt"])
    ]
    audited = "SELECT action, resource_type, user_id FROM audit_logs WHERE resource_id = %s"
    until(lambda: len(rows(stack, "admin", audited, name)) == 2)
    assert set(rows(stack, "admin", audited, name)) == {
        ("SYSTEM_CONFIG_CHANGED", "system_config", admin.id)
    }


def test_r2_25_the_seed(admin: Person) -> None:
    """Two values."""
    assert admin.good("GET", f"{CONFIG}/app.version")["value"] == "1.0.0"
    assert admin.good("GET", f"{CONFIG}/payment.min_amount")["value"] == "0.01"


def test_r1_143_everything_is_well(admin: Person) -> None:
    """Eight parts; the answer is never cached."""
    answer = admin.ask("GET", HEALTH)

    data = answer.json()["data"]
    assert (answer.status_code, answer.headers["X-Cache"]) == (200, "BYPASS")
    assert data["status"] == "healthy"
    assert data["services"] == dict.fromkeys(
        (
            "database",
            "redis",
            "rabbitmq",
            "gateway",
            "authService",
            "paymentsService",
            "adminService",
            "profileService",
        ),
        "healthy",
    )
    assert data["uptime"] > 0
    assert isinstance(data["version"], str)


def test_r1_143_one_two_and_three_parts_down(stack: Stack, admin: Person) -> None:
    """Degraded, degraded, then 503 with the same data; healthy again when they are back."""
    down = ("profile", "payments", "redis")
    seen = []
    try:
        for part in down:
            stack.control(part, "stop")
            answer = admin.ask("GET", HEALTH)
            body = answer.json()
            data = body["data"] if answer.is_success else body["error"]["details"]
            bad = sorted(name for name, state in data["services"].items() if state == "unhealthy")
            seen.append((answer.status_code, data["status"], bad))
        code = body["error"]["code"]
    finally:
        for part in reversed(down):
            stack.control(part, "start")
    stack.until_ready()

    assert seen == [
        (200, "degraded", ["profileService"]),
        (200, "degraded", ["paymentsService", "profileService"]),
        (503, "unhealthy", ["paymentsService", "profileService", "redis"]),
    ]
    assert code == "HEALTH_CHECK_FAILED"
    until(lambda: admin.good("GET", HEALTH)["status"] == "healthy", 15)


def test_r1_50_the_health_of_the_system_is_for_administrators(stack: Stack) -> None:
    """The route exists at the gateway, and asks for a token."""
    with client(stack) as http:
        began = time.monotonic()
        answer = http.get(HEALTH)

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHORIZED")
    assert time.monotonic() - began < 2
