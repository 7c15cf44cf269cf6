"""Rooms, messages, deadlines and limiter arithmetic: the pure half of section 4 and 1.6."""

from __future__ import annotations

import json
from typing import Any

import pytest

from system.gateway.domain import messages, rooms
from system.gateway.domain.lifetime import Due, Lifetime
from system.gateway.domain.limits import MessageRate, admit, quota
from system.gateway.tests.stand_ins import ADMIN, ALICE, BOB, PAYMENT


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (f"user:{ALICE}", rooms.RoomKind.USER),
        ("role:admin", rooms.RoomKind.ROLE),
        ("role:vendor", rooms.RoomKind.ROLE),
        ("broadcast", rooms.RoomKind.BROADCAST),
        (f"payment:{PAYMENT}", rooms.RoomKind.PAYMENT),
    ],
)
def test_rooms_have_four_forms(name: str, kind: rooms.RoomKind) -> None:
    """R4.17-R4.20."""
    room = rooms.read_room(name)
    assert room is not None
    assert (room.name, room.kind) == (name, kind)


@pytest.mark.parametrize(
    "name",
    [
        None,
        7,
        [],
        {},
        True,
        "",
        "x",
        "user",
        "user:",
        "user:x",
        "role:",
        "role:root",
        "role:ADMIN",
        "broadcast:x",
        "payment:",
        "payment:x",
        f"payment:{PAYMENT} ",
        f"payment:{PAYMENT.upper()}x",
        f"payment:{PAYMENT}\n",
        f"payment:{PAYMENT}:x",
        "payment:" + "a" * 200,
    ],
)
def test_other_names_are_invalid(name: object) -> None:
    """R4.21."""
    assert rooms.read_room(name) is None


def _payment(**more: Any) -> dict[str, Any]:
    return {"paymentId": PAYMENT, "senderId": ALICE, "recipientId": BOB, **more}


@pytest.mark.parametrize(
    ("type", "data", "expected"),
    [
        *(
            (
                f"payment.{verb}",
                _payment(),
                {f"user:{ALICE}", f"user:{BOB}", f"payment:{PAYMENT}", "role:admin"},
            )
            for verb in ("created", "updated", "completed", "failed", "cancelled")
        ),
        *(
            (f"user.{verb}", {"userId": ALICE}, {f"user:{ALICE}", "role:admin"})
            for verb in (
                "created",
                "updated",
                "role_changed",
                "status_changed",
                "deleted",
                "login",
                "logout",
                "password_changed",
            )
        ),
        ("user.login_failed", {"userId": ALICE}, {"role:admin"}),
        ("user.login_failed", {"userId": None}, {"role:admin"}),
        ("user.locked", {"userId": ALICE}, {"role:admin"}),
        ("user.unlocked", {"userId": None}, {"role:admin"}),
        ("secrets.rotated", {}, {"role:admin"}),
        ("session.revoked", {"userId": ALICE}, {f"user:{ALICE}"}),
        ("token.reuse_detected", {"userId": ALICE}, {f"user:{ALICE}"}),
        ("profile.updated", {"userId": ALICE}, {f"user:{ALICE}"}),
        ("config.updated", {"key": "limits.max"}, {"role:admin"}),
        ("config.updated", {"key": "public.banner"}, {"role:admin", "broadcast"}),
        ("config.updated", {"key": "publicity"}, {"role:admin"}),
        ("config.updated", {}, {"role:admin"}),
        ("diagnostics.probe", {"userId": ALICE}, set()),
        ("unknown.type", {"userId": ALICE}, set()),
        ("user.login", {}, set()),
        ("user.login", {"userId": 7}, set()),
        ("payment.created", {"paymentId": PAYMENT}, set()),
        ("payment.created", _payment(senderId=None), set()),
    ],
)
def test_events_go_to_their_rooms(type: str, data: dict[str, Any], expected: set[str]) -> None:
    """The table of R4.23; what cannot be routed goes nowhere (R4.24)."""
    assert set(rooms.rooms_of_event(type, data)) == expected


def test_payment_events_tell_the_parties() -> None:
    """R4.22 is judged by every payment event."""
    assert rooms.parties_of_event("payment.updated", _payment()) == (
        PAYMENT,
        frozenset({ALICE, BOB}),
    )
    assert rooms.parties_of_event("user.login", _payment()) is None
    assert rooms.parties_of_event("payment.updated", {"paymentId": PAYMENT}) is None


def test_membership_is_kept_both_ways() -> None:
    """Joining twice is once; a member of several rooms is found once; empty rooms vanish."""
    house: rooms.Rooms[str] = rooms.Rooms()
    for room in ("a", "b", "a"):
        house.join("x", room)
    house.join("y", "b")
    assert house.members_of(("a", "b", "c")) == ["x", "y"]
    assert house.rooms_of("x") == ("a", "b")
    assert house.has("x", "a")
    house.leave("x", "a")
    house.leave("x", "a")
    house.leave("z", "b")
    assert not house.has("x", "a")
    house.leave_all("x")
    house.leave_all("y")
    assert house.count() == 0
    assert house.rooms_of("x") == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "null",
        "7",
        "[]",
        '"ping"',
        "{}",
        '{"type":7}',
        '{"type":null}',
        "{",
        "[" * 60_000,
    ],
)
def test_unreadable_messages_are_invalid(text: str) -> None:
    """R4.16."""
    assert messages.read(text) is None


@pytest.mark.parametrize(
    ("text", "kind", "payload", "identifier"),
    [
        ('{"type":"ping"}', "ping", {}, None),
        ('{"type":"ping","id":"7"}', "ping", {}, "7"),
        ('{"type":"ping","id":""}', "ping", {}, ""),
        ('{"type":"ping","id":7}', "ping", {}, None),
        ('{"type":"ping","id":"%s"}' % ("x" * 64), "ping", {}, "x" * 64),
        ('{"type":"ping","id":"%s"}' % ("x" * 65), "ping", {}, None),
        ('{"type":"subscribe","payload":{"room":"a"}}', "subscribe", {"room": "a"}, None),
        ('{"type":"subscribe","payload":[1]}', "subscribe", {}, None),
        ('{"type":"anything","more":1}', "anything", {}, None),
    ],
)
def test_messages_are_read(
    text: str, kind: str, payload: dict[str, Any], identifier: str | None
) -> None:
    """R4.7."""
    message = messages.read(text)
    assert message == messages.ClientMessage(kind, payload, identifier)


def test_server_messages_have_their_form() -> None:
    """R4.7, R4.14, R4.15; a reply repeats the id, even a strange one."""
    frame = messages.write("pong", None, "2026-01-17T10:00:00.000Z", "\ud800")
    assert json.loads(frame[2:]) == {
        "type": "pong",
        "timestamp": "2026-01-17T10:00:00.000Z",
        "id": "\ud800",
    }
    data = {"amount": "100.50", "nested": {"a": [1, 2.5, None, True, "ä"]}}
    frame = messages.write_event("payment.created", "e", "c", "t", data)
    assert json.loads(frame[4:]) == {
        "type": "event",
        "payload": {
            "eventType": "payment.created",
            "eventId": "e",
            "correlationId": "c",
            "data": data,
        },
        "timestamp": "t",
    }
    error = json.loads(messages.write_error(messages.INVALID_MESSAGE, "t")[2:])
    assert error["payload"] == {"code": "INVALID_MESSAGE", "message": "Invalid message format"}
    assert messages.iso(1768644000.1239) == "2026-01-17T10:00:00.123Z"


def test_r4_31_pings_come_every_thirty_seconds_and_a_missing_pong_ends() -> None:
    """R4.31."""
    life = Lifetime(now_s=100.0, expires_s=10_000.0)
    assert life.next() == 130.0
    assert life.due(129.9) == []
    assert life.due(130.0) == [Due.PING]
    assert life.next() == 140.0
    life.pong()
    assert life.next() == 160.0
    assert life.due(160.0) == [Due.PING]
    assert life.due(169.9) == []
    assert life.due(170.0) == [Due.TERMINATE]


def test_r4_13_r4_26_a_token_is_warned_of_once_and_then_ends() -> None:
    """R4.13, R4.26; a new token starts over (R4.12)."""
    life = Lifetime(now_s=0.0, expires_s=80.0)
    assert life.next() == 20.0
    assert life.due(20.0) == [Due.WARN]
    assert life.due(21.0) == []
    life.renew(200.0)
    assert life.due(80.0) == [Due.PING]
    life.pong()
    assert life.due(140.0) == [Due.WARN, Due.PING]
    life.pong()
    assert life.due(200.0) == [Due.EXPIRE]


def test_a_short_token_is_warned_of_at_once() -> None:
    """R4.13: after the handshake if less than 60 s remain."""
    life = Lifetime(now_s=0.0, expires_s=30.0)
    assert life.next() <= 0.0
    assert life.due(0.0) == [Due.WARN]


def test_six_attempts_at_once_then_one_every_six_seconds() -> None:
    """R1.43."""
    full, now = 0.0, 1_000.0
    verdicts = []
    for _ in range(8):
        judged = admit(full, now)
        full = judged.full_until_s
        verdicts.append(judged.allowed)
    assert verdicts == [True] * 6 + [False] * 2
    refused = admit(full, now)
    assert refused.retry_after_s == 6
    assert not admit(full, now + 5.9).allowed
    assert admit(full, now + refused.retry_after_s).allowed
    passed = 0
    for second in range(600):
        judged = admit(full, now + 60 + second)
        full = judged.full_until_s
        passed += judged.allowed
    assert 100 <= passed <= 106


@pytest.mark.parametrize(
    ("used", "left_ms", "exceeded", "remaining", "reset"),
    [
        (1, 900_000, False, 1999, 900),
        (2000, 1_500, False, 0, 2),
        (2001, 1, True, 0, 1),
        (1, 0, False, 1999, 1),
        (1, 2_000_000, False, 1999, 900),
    ],
)
def test_the_general_window_is_told_in_headers(
    used: int, left_ms: int, exceeded: bool, remaining: int, reset: int
) -> None:
    """R1.41, R1.42."""
    state = quota(2000, 900_000, used, left_ms)
    assert state.exceeded is exceeded
    assert state.headers() == (
        ("RateLimit-Policy", "2000;w=900"),
        ("RateLimit-Limit", "2000"),
        ("RateLimit-Remaining", str(remaining)),
        ("RateLimit-Reset", str(reset)),
    )


def test_fifty_messages_in_a_second_are_the_most() -> None:
    """R4.28."""
    rate = MessageRate()
    assert not any(rate.exceeded(10.0 + number / 100) for number in range(50))
    assert rate.exceeded(10.6)
    rate = MessageRate()
    assert not any(rate.exceeded(number / 49.9) for number in range(500))
    assert ADMIN
