"""R3.43, R1.141, R1.142, R2.21: which event leaves which row, and which changes the copy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from system.admin.domain.audit import Occurrence, audit_entry
from system.admin.domain.health import overall
from system.admin.domain.users import LAST_VERSION, user_of
from system.admin.entrypoints.events import EVENT_HANDLERS
from system.admin.service import audit
from system.admin.tests.fakes import FakeStore
from system.platform.events import catalogue

USER = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
OTHER = "9b2c1f0e-0d5a-4c3b-8f4e-2a6d7b8c9d01"
SNAPSHOT = {
    "userId": USER,
    "email": "ann@x.test",
    "name": "Ann",
    "role": "CUSTOMER",
    "status": "active",
    "emailVerified": False,
    "userVersion": 1,
}
AT = datetime(2026, 1, 17, 10, tzinfo=UTC)


def happened(
    type: str, data: Mapping[str, Any], *, actor: str | None = USER, source: str = "auth-service"
) -> Occurrence:
    """Return an event of the given type."""
    metadata = {
        "actorId": actor,
        "ipAddress": "203.0.113.7",
        "userAgent": "probe",
        "correlationId": "c-1",
    }
    return Occurrence("e-" + type, type, source, AT, data, metadata)


PAYMENT = {"paymentId": OTHER, "senderId": USER, "amount": "1.00", "currency": "EUR"}


@pytest.mark.parametrize(
    ("type", "data", "action", "resource", "resource_id"),
    [
        (
            "user.created",
            {**SNAPSHOT, "origin": "registration"},
            "USER_REGISTERED",
            "user",
            USER,
        ),
        ("user.created", {**SNAPSHOT, "origin": "admin"}, "USER_CREATED", "user", USER),
        ("user.created", {**SNAPSHOT, "origin": "seed"}, "USER_CREATED", "user", USER),
        ("user.updated", SNAPSHOT, "USER_UPDATED", "user", USER),
        ("user.deleted", SNAPSHOT, "USER_DELETED", "user", USER),
        ("user.role_changed", SNAPSHOT, "USER_ROLE_CHANGED", "user", USER),
        ("user.status_changed", SNAPSHOT, "USER_STATUS_CHANGED", "user", USER),
        ("user.password_changed", {"userId": USER}, "USER_PASSWORD_CHANGED", "user", USER),
        ("user.login", {"userId": USER}, "USER_LOGIN", "user", USER),
        ("user.logout", {"userId": USER}, "USER_LOGOUT", "user", USER),
        ("user.login_failed", {"userId": USER}, "USER_LOGIN_FAILED", "user", USER),
        (
            "user.login_failed",
            {"userId": None, "email": "No@x.test"},
            "USER_LOGIN_FAILED",
            "user",
            hashlib.sha256(b"no@x.test").hexdigest(),
        ),
        ("user.locked", {"userId": USER}, "ACCOUNT_LOCKED", "user", USER),
        ("user.unlocked", {"userId": USER}, "ACCOUNT_UNLOCKED", "user", USER),
        (
            "session.revoked",
            {"userId": USER, "sessionId": OTHER, "reason": "password_changed"},
            "SESSION_REVOKED",
            "session",
            OTHER,
        ),
        ("token.reuse_detected", {"sessionId": OTHER}, "TOKEN_REUSE_DETECTED", "session", OTHER),
        ("secrets.rotated", {"newKid": "k2"}, "SECRETS_ROTATED", "system_config", "k2"),
        ("payment.created", PAYMENT, "PAYMENT_CREATED", "payment", OTHER),
        ("payment.updated", PAYMENT, "PAYMENT_UPDATED", "payment", OTHER),
        ("payment.completed", PAYMENT, "PAYMENT_COMPLETED", "payment", OTHER),
        ("payment.failed", PAYMENT, "PAYMENT_FAILED", "payment", OTHER),
        ("payment.cancelled", PAYMENT, "PAYMENT_CANCELLED", "payment", OTHER),
        ("profile.updated", {"userId": USER}, "PROFILE_UPDATED", "user", USER),
        (
            "config.updated",
            {"key": "app.version"},
            "SYSTEM_CONFIG_CHANGED",
            "system_config",
            "app.version",
        ),
    ],
)
def test_each_event_has_its_row(
    type: str, data: dict[str, Any], action: str, resource: str, resource_id: str
) -> None:
    """R3.43: action, resource and its id."""
    entry = audit_entry(happened(type, data))

    assert entry is not None
    assert (entry.action, entry.resource, entry.resource_id) == (action, resource, resource_id)


def test_a_logout_leaves_one_row() -> None:
    """R3.43: the session that a logout closes is not told twice."""
    data = {"userId": USER, "sessionId": OTHER, "reason": "logout"}

    assert audit_entry(happened("session.revoked", data)) is None


def test_unknown_events_leave_none() -> None:
    """R3.9: neither a row nor a failure."""
    assert audit_entry(happened("thing.happened", {})) is None


def test_a_row_carries_the_request_that_caused_it() -> None:
    """R1.142: actor, address, agent, correlation id, and where the event came from."""
    entry = audit_entry(happened("payment.created", PAYMENT, source="payments-service"))

    assert entry is not None
    assert (entry.actor_id, entry.ip_address, entry.user_agent, entry.correlation_id) == (
        USER,
        "203.0.113.7",
        "probe",
        "c-1",
    )
    assert entry.details == {**PAYMENT, "source": "payments_service_event"}
    assert entry.at == AT


def test_there_are_22_actions() -> None:
    """R1.139, R1.141: the closed set, sorted."""
    assert len(audit.actions()) == 22
    assert audit.actions() == sorted(audit.actions())


def test_every_event_of_the_catalogue_is_handled() -> None:
    """R3.42: admin writes rows for all of 3.5."""
    assert set(EVENT_HANDLERS) == set(catalogue.KINDS)


def updated(version: int, **changes: Any) -> Occurrence:
    """Return an event that tells of a change."""
    data = {**SNAPSHOT, "userVersion": version, "updatedAt": "2026-01-18T10:00:00.000Z", **changes}
    return happened("user.updated", data)


async def record(store: FakeStore, *events: Occurrence) -> None:
    """Let events take effect, each in its transaction."""
    for event in events:
        async with store.transaction() as unit:
            await audit.record(event, unit)


async def test_the_copy_follows_versions() -> None:
    """R2.21: an older event changes nothing, a newer one everything."""
    store = FakeStore()

    for version, name in ((1, "one"), (3, "three"), (2, "two"), (3, "again")):
        await record(store, updated(version, name=name))

    assert (store.users_by_id[USER].name, store.users_by_id[USER].version) == ("three", 3)


async def test_a_late_event_does_not_bring_a_user_back() -> None:
    """R2.21, R2.22: deletion is the last word."""
    store = FakeStore()
    gone = happened("user.deleted", {"userId": USER, "email": "a@x.test", "userVersion": 3})

    await record(store, updated(1), gone, updated(2), gone, updated(4))

    assert store.users_by_id == {}


async def test_a_deletion_older_than_the_copy_changes_nothing() -> None:
    """R2.21."""
    store = FakeStore()
    gone = happened("user.deleted", {"userId": USER, "email": "a@x.test", "userVersion": 3})

    await record(store, updated(4), gone)

    assert store.users_by_id[USER].version == 4


async def test_an_event_leaves_one_row_however_often_it_comes() -> None:
    """R1.142: exactly one row per event."""
    store = FakeStore()
    event = happened("user.login", {"userId": USER})

    await record(store, event, event)

    assert len(store.rows) == 1


def test_a_copy_keeps_the_times_of_its_owner() -> None:
    """R1.125: created when the account was made, updated when it was last changed."""
    created = {**SNAPSHOT, "origin": "seed", "createdAt": "2026-01-17T09:00:00.000Z"}
    new = user_of(happened("user.created", created))
    changed = user_of(updated(2))

    assert new.created_at == new.updated_at == datetime(2026, 1, 17, 9, tzinfo=UTC)
    assert (changed.created_at, changed.updated_at) == (None, datetime(2026, 1, 18, 10, tzinfo=UTC))


@pytest.mark.parametrize(
    ("bad", "status"),
    [(0, "healthy"), (1, "degraded"), (2, "degraded"), (3, "unhealthy"), (8, "unhealthy")],
)
def test_the_whole_by_its_bad_parts(bad: int, status: str) -> None:
    """R1.143."""
    assert overall({str(number): number >= bad for number in range(8)}) == status


def test_no_version_comes_after_a_deletion() -> None:
    """R2.15: the column is an integer of four bytes."""
    assert LAST_VERSION == 2**31 - 1
