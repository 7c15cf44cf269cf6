"""Audit log, configuration and health in the running platform (R1.138-R1.143, R3.40-R3.45)."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pika
import pytest

from system.admin.tests.platform_client import PASSWORD, Person, Stack, client, rows, until
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


def test_r3_43_acts_of_users_leave_their_rows(
    stack: Stack, admin: Person, newcomer: Newcomer
) -> None:
    """Registration, login, failed login, password, logout, commands: one row an act, in order."""
    person = newcomer()
    other = Person(stack, person.email, PASSWORD)
    wrong = {"email": person.email, "password": "Wrong-Pass-123!"}
    assert other.ask("POST", "/api/auth/login", wrong).status_code == 401
    assert other.ask("POST", "/api/auth/logout", {}).status_code == 200
    other.close()
    changed = {"currentPassword": PASSWORD, "newPassword": PASSWORD + "x"}
    person.good("POST", "/api/auth/password", changed)
    path = f"/api/admin/users/{person.id}"
    admin.good("PUT", path, {"name": "Other"})
    admin.good("PUT", f"{path}/role", {"role": "VENDOR"})
    admin.good("PATCH", f"{path}/status", {"isActive": False, "reason": "why"})
    admin.good("DELETE", path)
    about = "SELECT action, user_id, details->>'source' FROM audit_logs WHERE resource_id = %s"
    in_order = about + " ORDER BY created_at"
    until(lambda: "USER_DELETED" in [row[0] for row in rows(stack, "admin", about, person.id)])
    seen = rows(stack, "admin", in_order, person.id)

    assert [(action, actor) for action, actor, _ in seen] == [
        ("USER_REGISTERED", person.id),
        ("USER_LOGIN", person.id),
        ("USER_LOGIN", person.id),
        ("USER_LOGIN_FAILED", person.id),
        ("USER_LOGOUT", person.id),
        ("USER_PASSWORD_CHANGED", person.id),
        ("USER_UPDATED", admin.id),
        ("USER_ROLE_CHANGED", admin.id),
        ("USER_STATUS_CHANGED", admin.id),
        ("USER_DELETED", admin.id),
    ]
    assert {source for _, _, source in seen} == {"auth_service_event"}
    closed = rows(
        stack,
        "admin",
        "SELECT resource_type, details->>'reason' FROM audit_logs "
        "WHERE action = 'SESSION_REVOKED' AND details->>'userId' = %s",
        person.id,
    )
    # Registration and login opened one session each besides the one that logged out.
    assert closed == [("session", "password_changed")] * 2


def test_r3_43_a_failed_login_of_an_unknown_account(stack: Stack, admin: Person) -> None:
    """No actor; the resource is the hash of the address."""
    email = f"{uuid.uuid4()}@unknown.test"
    with client(stack) as http:
        http.post("/api/auth/login", json={"email": email.upper(), "password": "x"})
    digest = hashlib.sha256(email.encode()).hexdigest()
    about = "SELECT id FROM audit_logs WHERE resource_id = %s"
    until(lambda: rows(stack, "admin", about, digest))
    [row] = [
        row
        for row in logged(admin, action="USER_LOGIN_FAILED", limit=100)
        if row["resourceId"] == digest
    ]

    assert (row["userId"], row["resourceType"], row["ipAddress"]) == ("", "user", stack.exempt)
    assert "userName" not in row


def test_r1_139_r1_141_the_actions(admin: Person) -> None:
    """22 names, sorted."""
    names = admin.good("GET", f"{AUDIT}/actions")

    assert (len(names), names) == (22, sorted(names))


@pytest.mark.parametrize(
    "value", ["1.0", None, False, 12.5, 2**53, -1e-7, 1e20, [1, None], {"a": {"b": "ü"}}]
)
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


def test_r1_140_numbers_of_any_length_are_no_failure(admin: Person) -> None:
    """Kept or refused, and what is kept can be read, the list too."""
    path = f"{CONFIG}/{key()}"
    for number in ("1" * 60, "1e400", "-0.0", "18446744073709551616", "0.1" + "0" * 40 + "1"):
        answer = admin.http.put(
            path,
            content=f'{{"value": {number}}}',
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code in (200, 400), (number, answer.text)
        assert admin.ask("GET", path).status_code in (200, 404), number
        assert admin.ask("GET", CONFIG).status_code == 200, number


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


def test_r1_143_a_part_that_hangs_is_found(stack: Stack, admin: Person) -> None:
    """In time for the gateway, and without harm to what is said of the others."""
    stack.control("payments", "pause")
    try:
        answer = admin.ask("GET", HEALTH)
    finally:
        stack.control("payments", "resume")
    stack.until_ready()

    data = answer.json()["data"]
    assert (answer.status_code, data["status"]) == (200, "degraded")
    bad = [name for name, state in data["services"].items() if state == "unhealthy"]
    assert bad == ["paymentsService"]


def test_r1_50_the_health_of_the_system_is_for_administrators(stack: Stack) -> None:
    """The route exists at the gateway, and asks for a token."""
    with client(stack) as http:
        began = time.monotonic()
        answer = http.get(HEALTH)

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHORIZED")
    assert time.monotonic() - began < 2
