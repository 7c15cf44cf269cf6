"""R3.42-R3.45 on the running platform: every event leaves its one row, in order."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from typing import Any

import pika
import pytest

from system.admin.tests.platform_client import Stack, rows, until
from system.platform.events import catalogue
from system.platform.events.envelope import Event, new_event

pytestmark = pytest.mark.platform

AT = "2026-01-17T10:00:00.000Z"
USER, SESSION, PAYMENT = (str(uuid.uuid4()) for _ in range(3))
EMAIL = f"{USER}@rows.test"
NOBODY = hashlib.sha256(f"nobody-{USER}@rows.test".encode()).hexdigest()
KEY = f"rows.{uuid.uuid4().hex}"
SNAPSHOT = {
    "userId": USER,
    "email": EMAIL,
    "name": "Rows",
    "role": "CUSTOMER",
    "status": "active",
    "emailVerified": False,
}
PARTIES = {
    "paymentId": PAYMENT,
    "senderId": USER,
    "recipientId": None,
    "amount": "1.00",
    "currency": "EUR",
    "status": "pending",
}
SEEN = {"userId": USER, "email": EMAIL, "sessionId": SESSION, "ipAddress": "203.0.113.7"}
UNKNOWN = {"userId": None, "email": f"Nobody-{USER}@rows.test", "ipAddress": None}
REVOKED = {"userId": USER, "sessionId": SESSION, "deviceId": None, "timestamp": AT}

# Type, data, and the row: action, resource type, resource id; None for no row.
Row = tuple[str, str, str] | None
EVENTS: tuple[tuple[str, dict[str, Any], Row], ...] = (
    (
        "user.created",
        {**SNAPSHOT, "userVersion": 1, "origin": "registration", "createdAt": AT},
        ("USER_REGISTERED", "user", USER),
    ),
    (
        "user.created",
        {**SNAPSHOT, "userVersion": 1, "origin": "admin", "createdAt": AT},
        ("USER_CREATED", "user", USER),
    ),
    (
        "user.updated",
        {**SNAPSHOT, "userVersion": 2, "changes": ["name"], "updatedAt": AT},
        ("USER_UPDATED", "user", USER),
    ),
    (
        "user.role_changed",
        {
            **SNAPSHOT,
            "userVersion": 3,
            "oldRole": "VENDOR",
            "newRole": "CUSTOMER",
            "updatedAt": AT,
        },
        ("USER_ROLE_CHANGED", "user", USER),
    ),
    (
        "user.status_changed",
        {**SNAPSHOT, "userVersion": 4, "updatedAt": AT},
        ("USER_STATUS_CHANGED", "user", USER),
    ),
    ("user.login", {**SEEN, "loginAt": AT}, ("USER_LOGIN", "user", USER)),
    ("user.logout", {**SEEN, "logoutAt": AT}, ("USER_LOGOUT", "user", USER)),
    ("user.login_failed", {**UNKNOWN, "attemptedAt": AT}, ("USER_LOGIN_FAILED", "user", NOBODY)),
    (
        "user.locked",
        {**UNKNOWN, "userId": USER, "scope": "pair", "lockedUntil": AT},
        ("ACCOUNT_LOCKED", "user", USER),
    ),
    (
        "user.locked",
        {**UNKNOWN, "scope": "pair", "lockedUntil": AT},
        ("ACCOUNT_LOCKED", "user", NOBODY),
    ),
    ("user.unlocked", {**UNKNOWN, "unlockedAt": AT}, ("ACCOUNT_UNLOCKED", "user", NOBODY)),
    (
        "user.password_changed",
        {"userId": USER, "changedAt": AT},
        ("USER_PASSWORD_CHANGED", "user", USER),
    ),
    *(
        (
            "session.revoked",
            {**REVOKED, "reason": reason},
            None if reason == "logout" else ("SESSION_REVOKED", "session", SESSION),
        )
        for reason in catalogue.REVOKE_REASONS
    ),
    (
        "token.reuse_detected",
        {"userId": USER, "sessionId": SESSION, "ipAddress": None, "detectedAt": AT},
        ("TOKEN_REUSE_DETECTED", "session", SESSION),
    ),
    (
        "secrets.rotated",
        {"kind": "jwt", "oldKid": None, "newKid": KEY, "reason": "x", "rotatedAt": AT},
        ("SECRETS_ROTATED", "system_config", KEY),
    ),
    (
        "payment.created",
        {**PARTIES, "type": "instant", "description": "x", "createdAt": AT},
        ("PAYMENT_CREATED", "payment", PAYMENT),
    ),
    (
        "payment.updated",
        {**PARTIES, "changes": ["amount"], "updatedAt": AT},
        ("PAYMENT_UPDATED", "payment", PAYMENT),
    ),
    (
        "payment.completed",
        {**PARTIES, "completedAt": AT},
        ("PAYMENT_COMPLETED", "payment", PAYMENT),
    ),
    (
        "payment.failed",
        {**PARTIES, "failureReason": "x", "failedAt": AT},
        ("PAYMENT_FAILED", "payment", PAYMENT),
    ),
    (
        "payment.cancelled",
        {**PARTIES, "cancelledAt": AT},
        ("PAYMENT_CANCELLED", "payment", PAYMENT),
    ),
    (
        "profile.updated",
        {"userId": USER, "fields": ["bio"], "updatedAt": AT},
        ("PROFILE_UPDATED", "user", USER),
    ),
    (
        "config.updated",
        {"key": KEY, "updatedBy": USER, "updatedAt": AT},
        ("SYSTEM_CONFIG_CHANGED", "system_config", KEY),
    ),
    (
        "user.deleted",
        {"userId": USER, "email": EMAIL, "userVersion": 5, "deletedAt": AT},
        ("USER_DELETED", "user", USER),
    ),
)


def made() -> Iterator[tuple[Event, Row]]:
    """Each event as its publisher would make it, with the row it has to leave."""
    for number, (type, data, row) in enumerate(EVENTS):
        [publisher] = catalogue.KINDS[type].publishers
        event = new_event(
            type,
            data,
            source=publisher,
            actor_id=USER,
            correlationId=f"c-{number}",
            ipAddress="203.0.113.7",
            userAgent="probe",
        )
        yield event, row


def test_every_type_is_tried() -> None:
    """R3.43: the table above leaves nothing out."""
    assert {type for type, _, _ in EVENTS} == set(catalogue.KINDS)


def test_r3_43_every_event_leaves_its_row(stack: Stack) -> None:
    """R1.142, R3.44, R3.45: sent twice, told once, in the order of sending."""
    sent = list(made())
    connection = pika.BlockingConnection(pika.URLParameters(stack.target["access"]["amqp"]["url"]))
    channel = connection.channel()
    for _ in range(2):
        for event, _row in sent:
            channel.basic_publish("events", event.routing_key, event.encode())
    data = {"userId": USER, "changedAt": AT}
    last = new_event("user.password_changed", data, source="auth", actor_id=USER)
    channel.basic_publish("events", last.routing_key, last.encode())
    connection.close()
    ids = [event.id for event, _ in sent]
    # The queue keeps its order, so with the last one all repetitions are over.
    handled = "SELECT event_id FROM inbox WHERE event_id = %s"
    until(lambda: rows(stack, "admin", handled, last.id))

    seen = rows(
        stack,
        "admin",
        "SELECT event_id, action, resource_type, resource_id, user_id, ip_address, user_agent, "
        "correlation_id, details FROM audit_logs WHERE event_id = ANY(%s) ORDER BY xmin::text::int",
        ids,
    )

    assert seen == [
        (
            event.id,
            *row,
            USER,
            "203.0.113.7",
            "probe",
            event.correlation_id,
            {**event.data, "source": event.source.replace("-", "_") + "_event"},
        )
        for event, row in sent
        if row is not None
    ]
    assert rows(stack, "admin", "SELECT id FROM users WHERE id = %s", USER) == []
