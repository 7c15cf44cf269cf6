"""Tests of the envelope and the catalogue (R3.11-R3.15, R3.22-R3.40)."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
import pytest

from system.platform.events import catalogue
from system.platform.events.envelope import Event, Malformed, causing, new_event, now, parse
from system.platform.events.publisher import properties
from system.platform.observability import correlation

USER = "3f0c3c5e-6a2f-4b0e-9a39-0d6b3c1c4f10"
OTHER = "6d1de8a0-2f0b-4b7c-8a55-5f6d1f2c9b11"
AT = "2026-01-17T10:00:00.000Z"

PAYMENT: dict[str, Any] = {
    "paymentId": USER,
    "senderId": USER,
    "recipientId": OTHER,
    "amount": "100.50",
    "currency": "USD",
    "type": "instant",
    "description": "x",
    "status": "pending",
    "createdAt": AT,
}
GOOD: dict[str, Any] = {
    "id": "0b0f7f4e-0d3e-4c39-8f57-61a1c7d0a001",
    "type": "payment.created",
    "version": "1.0",
    "timestamp": AT,
    "source": "payments-service",
    "data": PAYMENT,
    "metadata": {
        "correlationId": "abc",
        "eventType": "payment_lifecycle",
        "actorId": USER,
        "ipAddress": "203.0.113.7",
        "userAgent": "curl",
    },
}


def changed(**changes: Any) -> dict[str, Any]:
    """GOOD with some values replaced; `data__x=…` reaches inside, `...` deletes."""
    made = copy.deepcopy(GOOD)
    for path, value in changes.items():
        *outer, last = path.split("__")
        place = made
        for name in outer:
            place = place[name]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return made


def test_a_good_envelope_is_read_and_written_without_change() -> None:
    """What is parsed and encoded again is the same document."""
    assert json.loads(parse(json.dumps(GOOD).encode()).encode()) == GOOD


@pytest.mark.parametrize(
    "accepted",
    [
        changed(type="nobody.knows", data={"anything": 1}),
        changed(version="1.7"),
        changed(metadata__actorId=None, metadata__ipAddress=None, metadata__userAgent=None),
        changed(metadata__causationId=USER, metadata__actor="psp"),
        changed(data__more=True, extra="further fields are nobody's business"),
        changed(data__recipientId=None, data__description=None),
        changed(type="diagnostics.probe", data={}),
    ],
)
def test_accepted(accepted: dict[str, Any]) -> None:
    """What R3.15 does not call malformed is an event."""
    assert parse(json.dumps(accepted).encode()).type == accepted["type"]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", "envelope"),
        (b"not json", "envelope"),
        (b"[1]", "envelope"),
        (b"null", "envelope"),
        (b"\xff\xfe{}", "envelope"),
        (b"[" * 100_000, "envelope"),
        *(
            (json.dumps(changed(**{name: ...})).encode(), name)
            for name in ("id", "type", "version", "timestamp", "source", "data", "metadata")
        ),
        (json.dumps(changed(id=7)).encode(), "id"),
        (json.dumps(changed(id="x")).encode(), "id"),
        (json.dumps(changed(type="")).encode(), "type"),
        (json.dumps(changed(version="2.0")).encode(), "version"),
        (json.dumps(changed(version="10.0")).encode(), "version"),
        (json.dumps(changed(version=1.0)).encode(), "version"),
        (json.dumps(changed(timestamp="yesterday")).encode(), "timestamp"),
        (json.dumps(changed(data=[])).encode(), "data"),
        (json.dumps(changed(metadata=None)).encode(), "metadata"),
        *(
            (json.dumps(changed(**{f"metadata__{name}": ...})).encode(), name)
            for name in ("correlationId", "eventType", "actorId", "ipAddress", "userAgent")
        ),
        (json.dumps(changed(metadata__correlationId=5)).encode(), "correlationId"),
        (json.dumps(changed(data__paymentId=...)).encode(), "data.paymentId"),
        (json.dumps(changed(data__paymentId="42")).encode(), "data.paymentId"),
        (json.dumps(changed(data__amount="100.5")).encode(), "data.amount"),
        (json.dumps(changed(data__amount=100.5)).encode(), "data.amount"),
        (json.dumps(changed(data__currency="usd")).encode(), "data.currency"),
        (json.dumps(changed(data__status="paid")).encode(), "data.status"),
        (json.dumps(changed(data__status=["pending"])).encode(), "data.status"),
        (json.dumps(changed(data__createdAt="2026-13-01T00:00:00Z")).encode(), "data.createdAt"),
    ],
)
def test_malformed(body: bytes, place: str) -> None:
    """Everything R3.15 names is refused, and the text says where."""
    with pytest.raises(Malformed, match=place):
        parse(body)


def test_all_faults_are_named_at_once() -> None:
    """Two faults make one refusal that names both."""
    body = json.dumps(changed(data__amount="1", data__status="x")).encode()

    with pytest.raises(Malformed, match=r"data\.amount.*data\.status"):
        parse(body)


def test_a_probe_has_a_rule_only_while_diagnostics_are_on() -> None:
    """R3.52: off, the type is unknown; on, its data is judged."""
    body = json.dumps(changed(type="diagnostics.probe", data={"nonce": "n"})).encode()
    parse(body)

    with pytest.raises(Malformed, match=r"data\.seq"):
        parse(body, probes=True)


def test_a_new_event_carries_the_request() -> None:
    """R3.12: correlation id, address and agent are those of the running request."""
    token = correlation.bind(correlation.RequestContext("corr-1", "203.0.113.9", "agent"))
    try:
        event = new_event("payment.created", PAYMENT, source="payments", actor_id=USER)
    finally:
        correlation.unbind(token)

    assert event.source == "payments-service"
    assert event.routing_key == "payments.payment.created"
    assert event.metadata["correlationId"] == "corr-1"
    assert event.metadata["ipAddress"] == "203.0.113.9"
    assert event.metadata["userAgent"] == "agent"
    assert event.metadata["eventType"] == "payment_lifecycle"
    assert parse(event.encode()) == event


def test_an_event_made_in_a_handler_names_its_cause() -> None:
    """R3.12: causationId is the causing event's id, and the correlation goes on."""
    cause = parse(json.dumps(GOOD).encode())

    with causing(cause, "payments.events.queue"):
        event = new_event("payment.created", PAYMENT, source="payments", actor_id=None)

    assert event.metadata["causationId"] == cause.id
    assert event.metadata["correlationId"] == "abc"


def test_a_publisher_cannot_make_a_malformed_event() -> None:
    """A fault is seen where it is made, not in somebody's dead letters."""
    with pytest.raises(Malformed, match=r"data\.paymentId"):
        new_event("payment.created", {}, source="payments", actor_id=None)


def test_the_catalogue_lists_the_contract() -> None:
    """The types are those of R3.23-R3.40, each with an event type of R3.12."""
    assert len(catalogue.KINDS) == 21
    assert {
        "user_lifecycle",
        "user_activity",
        "session_management",
        "payment_lifecycle",
        "profile_lifecycle",
        "system",
    } == catalogue.EVENT_TYPES


def test_an_event_is_frozen() -> None:
    """A handler cannot change what the next one sees at the top level."""
    event: Event = parse(json.dumps(GOOD).encode())

    with pytest.raises(AttributeError):
        event.type = "x"  # type: ignore[misc]  # the point of the test


def test_r7_18_the_callers_trace_reaches_the_event() -> None:
    """R7.18, R3.13: traceparent and tracestate of the request are in the event's metadata."""
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    token = correlation.bind(
        correlation.RequestContext("c-1", traceparent=parent, tracestate="vendor=1")
    )
    try:
        event = new_event(
            "config.updated",
            {"key": "a", "updatedBy": None, "updatedAt": now()},
            source="admin",
            actor_id=None,
        )
    finally:
        correlation.unbind(token)

    assert (event.metadata["traceparent"], event.metadata["tracestate"]) == (parent, "vendor=1")
    headers = properties(msgspec.to_builtins(event)).headers
    assert headers is not None
    assert (headers["traceparent"], headers["tracestate"]) == (parent, "vendor=1")


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("vendor=1,other=2", "vendor=1,other=2"),
        ("x" * 513, None),
        ("caf\u00e9", None),
        ("\udcff", None),
        ("", None),
        (None, None),
    ],
)
def test_r7_18_a_tracestate_that_cannot_be_passed_on_is_dropped(
    given: str | None, taken: str | None
) -> None:
    """W3C's characters, at most 512 of them."""
    assert correlation.tracestate(given) == taken
