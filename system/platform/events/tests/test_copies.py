"""Tests of the copies made of failed messages (R3.46-R3.50, R3.55)."""

from __future__ import annotations

from typing import Any, cast

import pytest
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp import commands
from pamqp.header import ContentHeader

from system.platform.events import copies
from system.platform.events.backoff import Backoff

QUEUE = "payments.events.queue"
FIRST = "2026-01-17T10:00:00.000Z"
LATER = "2026-01-17T10:00:07.000Z"


def message(
    headers: dict[str, Any] | None = None, *, exchange: str = "events", **properties: Any
) -> DeliveredMessage:
    """A delivery as the client library hands it over."""
    return DeliveredMessage(
        delivery=commands.Basic.Deliver("c", 1, False, exchange, "auth.user.created"),
        header=ContentHeader(
            properties=commands.Basic.Properties(headers=headers, message_id="m", **properties)
        ),
        body=b"body",
        channel=cast("AbstractChannel", None),
    )


def fail(
    failed: DeliveredMessage, kind: copies.FailureKind = "handler", at: str = FIRST
) -> copies.Copy:
    """The copy after one more failure."""
    return copies.after_failure(
        failed, queue=QUEUE, error=ValueError("no"), kind=kind, at=at, user="app"
    )


@pytest.mark.parametrize(
    ("done", "queue", "expiration"),
    [
        (0, "payments.events.retry.1", "1000"),
        (1, "payments.events.retry.2", "2000"),
        (2, "payments.events.retry.3", "4000"),
    ],
)
def test_retry_levels(done: int, queue: str, expiration: str) -> None:
    """R3.46, R3.47: the level follows the attempts that ended, with its own expiration."""
    copied = fail(message({"x-attempts": done} if done else None))

    assert (copied.exchange, copied.routing_key) == ("", queue)
    assert copied.properties.expiration == expiration
    assert (copied.properties.headers or {})["x-attempts"] == done + 1
    assert copied.retried


def test_the_fourth_failure_is_dead_with_the_agreed_headers() -> None:
    """R3.50: exactly these headers beside the message's own, no expiration, no x-death."""
    failed = message(
        {
            "source": "auth-service",
            "x-attempts": 3,
            "x-first-failure-at": FIRST,
            "x-original-routing-key": "auth.user.created",
            "x-original-queue": QUEUE,
            "x-death": [{"count": 3}],
            "x-first-death-queue": "q",
        },
        exchange="",
        expiration="4000",
        priority=4,
        delivery_mode=2,
    )

    copied = fail(failed, at=LATER)

    assert (copied.exchange, copied.routing_key) == ("events.dlx", "dead-letter")
    assert copied.properties.headers == {
        "source": "auth-service",
        "x-original-queue": QUEUE,
        "x-original-routing-key": "auth.user.created",
        "x-error": "ValueError: no",
        "x-failure-kind": "handler",
        "x-attempts": 4,
        "x-first-failure-at": FIRST,
        "x-last-failure-at": LATER,
    }
    assert copied.properties.expiration is None
    assert (copied.properties.priority, copied.properties.delivery_mode) == (4, 2)
    assert copied.body == b"body"
    assert not copied.retried


def test_a_malformed_message_is_dead_at_once() -> None:
    """R3.48, R3.50: one attempt, both times the same."""
    copied = fail(message(None), "malformed")

    headers = copied.properties.headers or {}
    assert copied.routing_key == "dead-letter"
    assert headers["x-attempts"] == 1
    assert headers["x-failure-kind"] == "malformed"
    assert headers["x-first-failure-at"] == headers["x-last-failure-at"] == FIRST


@pytest.mark.parametrize("value", ["3", None, True, -5, 2.5, {}, 10**9])
def test_strange_attempt_counts_do_no_harm(value: Any) -> None:
    """A sender's own x-attempts never makes a copy for a level that does not exist."""
    copied = fail(message({"x-attempts": value}))

    assert copied.routing_key in ("payments.events.retry.1", "dead-letter")


def test_a_senders_routing_headers_do_not_route_the_copy() -> None:
    """R3.47: a retry returns to the failing queue only, whatever CC says."""
    copied = fail(message({"CC": ["admin.events.queue"], "BCC": ["x"]}))

    assert not {"CC", "BCC"} & set(copied.properties.headers or {})


def test_the_original_routing_key_is_believed_only_after_a_retry() -> None:
    """A sender cannot choose it: a message that came by the exchange has its own key."""
    copied = fail(message({"x-original-routing-key": "forged"}))

    assert (copied.properties.headers or {})["x-original-routing-key"] == "auth.user.created"


def test_a_foreign_user_id_is_left_out() -> None:
    """The broker would refuse the copy, and the message would come back for ever."""
    assert fail(message(user_id="somebody")).properties.user_id is None
    assert fail(message(user_id="app")).properties.user_id == "app"


def test_the_message_itself_is_not_changed() -> None:
    """The copy is a copy."""
    failed = message({"a": 1}, expiration="9")
    fail(failed)

    assert failed.header.properties.headers == {"a": 1}
    assert failed.header.properties.expiration == "9"


def test_error_texts_are_one_bounded_line() -> None:
    """R3.50: at most 1,024 characters, no stack trace."""
    text = copies.error_text(ValueError("a\n  b" + "x" * 5000))

    assert text.startswith("ValueError: a b")
    assert len(text) == 1024


def test_a_replayed_copy_starts_again() -> None:
    """R3.55: to its queue, attempts reset, x-replayed-at added."""
    dead = message(
        {
            "source": "auth-service",
            "x-original-queue": QUEUE,
            "x-original-routing-key": "auth.user.created",
            "x-error": "e",
            "x-failure-kind": "handler",
            "x-attempts": 4,
            "x-first-failure-at": FIRST,
            "x-last-failure-at": LATER,
        },
        exchange="events.dlx",
    )

    copied = copies.replayed(dead, at=LATER, user="app")

    assert copied is not None
    assert (copied.exchange, copied.routing_key) == ("", QUEUE)
    assert copied.properties.headers == {
        "source": "auth-service",
        "x-original-queue": QUEUE,
        "x-original-routing-key": "auth.user.created",
        "x-replayed-at": LATER,
    }
    assert copies.replayed(message({}), at=LATER, user="app") is None


def test_delays_double_up_to_a_bound() -> None:
    """R3.20: 1, 2, 4, 8, 10, 10 s, each ±25 %, never above 10 s; reset starts again."""
    for _ in range(50):
        backoff = Backoff(1.0, 10.0)
        for nominal in (1.0, 2.0, 4.0, 8.0, 10.0, 10.0):
            delay = backoff.next()
            assert nominal * 0.75 <= delay <= min(10.0, nominal * 1.25)
        backoff.reset()
        assert backoff.next() <= 1.25
