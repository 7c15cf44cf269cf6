"""3.2, 3.3 and 3.5: each act of a client is told by exactly its events, read from the exchange."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from system.conftest import RunningStack
from system.tests.acts import ACTS
from system.tests.desks import Desk
from system.tests.listening import Ear
from system.tests.scene import AGENT, LATER, NOW, Json, Scene, Theatre, Told

pytestmark = pytest.mark.platform

PROJECT = Path(__file__).resolve().parents[2]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
EVENT_TYPES = {
    "user_lifecycle": {"user.created", "user.updated", "user.role_changed", "user.deleted"}
    | {"user.status_changed"},
    "user_activity": {"user.login", "user.logout", "user.login_failed", "user.locked"}
    | {"user.unlocked", "user.password_changed"},
    "session_management": {"session.revoked", "token.reuse_detected"},
    "payment_lifecycle": {
        f"payment.{kind}" for kind in ("created", "updated", "completed", "failed", "cancelled")
    },
    "profile_lifecycle": {"profile.updated"},
    "system": {"secrets.rotated", "config.updated"},
}


@pytest.fixture(scope="module")
def theatre(stack: RunningStack) -> Iterator[Theatre]:
    """Acts are played when they are first asked for."""
    stack.until_ready()
    desk, ear = Desk(stack), Ear(stack)
    yield Theatre(Scene(stack, desk, ear), desk)
    ear.close()
    desk.close()


def publisher_of(kind: str) -> str:
    """The short name of the service that tells of it."""
    others = {"payment": "payments", "profile": "profile", "config": "admin"}
    return others.get(kind.partition(".")[0], "auth")


def moment(text: str) -> str:
    """What a moment of an event stands for; R0.4 is its form."""
    assert TIME.fullmatch(text), text
    age = (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
    if -1 <= age < 120:
        return NOW
    return LATER if -901 <= age < -780 else text


def timeless(data: Mapping[str, Any], expected: Mapping[str, Any]) -> Json:
    """An event's data, moments written as in what is expected."""
    return {
        name: moment(value) if expected.get(name) in (NOW, LATER) else value
        for name, value in data.items()
    }


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_r3_22_to_r3_41_an_act_is_told_by_its_events(
    theatre: Theatre, act: Callable[[Scene], Told]
) -> None:
    """By these and no others, each field as it must be and no more of them, by who acted."""
    done = theatre.done(act)
    told = done.told

    expected = [(kind, json.dumps(data, sort_keys=True)) for kind, data in told.events]
    seen, left = [], list(told.events)
    for heard in done.heard:
        kind = heard.event["type"]
        model = next((data for name, data in left if name == kind), {})
        seen.append((kind, json.dumps(timeless(heard.event["data"], model), sort_keys=True)))
    # Sessions of one user end together, in no order.
    assert sorted(seen) == sorted(expected)
    for heard in done.heard:
        assert heard.event["metadata"]["actorId"] == told.actor
        assert heard.event["metadata"].get("actor") == ("psp" if told.psp else None)


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_r3_10_to_r3_13_the_envelope_and_what_carries_it(
    theatre: Theatre, act: Callable[[Scene], Told]
) -> None:
    """Names, fields, metadata of the request that caused it, AMQP properties and headers."""
    done = theatre.done(act)

    assert len(done.heard) == len(done.told.events)
    for heard in done.heard:
        event, metadata = heard.event, heard.event["metadata"]
        assert set(event) == {
            "id", "type", "version", "timestamp", "source", "data", "metadata",
        }  # fmt: skip
        assert UUID.fullmatch(event["id"])
        assert moment(event["timestamp"]) == NOW
        assert event["version"] == "1.0"
        publisher = publisher_of(event["type"])
        assert event["source"] == f"{publisher}-service"
        assert heard.routing_key == f"{publisher}.{event['type']}"
        assert event["type"] in EVENT_TYPES[metadata["eventType"]]
        assert metadata["correlationId"] == done.key
        assert metadata["ipAddress"] == theatre.scene.stack.exempt
        assert metadata["userAgent"] == AGENT
        assert "causationId" not in metadata  # a request caused it, no event

        properties = heard.properties
        assert properties.delivery_mode == 2
        assert (properties.content_type, properties.content_encoding) == (
            "application/json",
            "utf-8",
        )
        assert (properties.message_id, properties.type) == (event["id"], event["type"])
        assert (properties.correlation_id, properties.app_id) == (done.key, event["source"])
        assert abs(properties.timestamp - time.time()) < 120
        headers = properties.headers
        assert (headers["source"], headers["version"]) == (event["source"], "1.0")
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", headers["traceparent"])


def test_r3_13_the_trace_of_the_request_goes_on(theatre: Theatre) -> None:
    """Its id in `traceparent`, its `tracestate` as it came."""
    scene, trace = theatre.scene, uuid.uuid4().hex
    person = scene.register()
    scene.act()
    key, parent = scene.key, f"00-{trace}-b7ad6b7169203331-01"
    scene.good("PUT", "/api/profile", {"bio": "b"}, person, traceparent=parent, tracestate="a=b")

    [heard] = scene.ear.of(key, 1)

    assert heard.properties.headers["traceparent"].split("-")[1] == trace
    assert heard.properties.headers["tracestate"] == "a=b"


def test_r3_14_no_event_carries_a_secret(theatre: Theatre) -> None:
    """After every act: no password, hash, token or key that occurred is in any message."""
    for act in ACTS:
        theatre.done(act)
    heard = theatre.scene.ear.all()

    assert {message.event["type"] for message in heard} >= set().union(*EVENT_TYPES.values())
    assert len(theatre.scene.secrets) > len(ACTS)
    for message in heard:
        whole = message.body.decode() + str(message.properties)
        assert not [secret for secret in theatre.scene.secrets if secret in whole], whole
        assert not re.search(r"\$argon2|\$2[aby]\$|eyJ[\w-]+\.eyJ|password\"", whole), whole


def test_r3_10_documents_name_events_as_they_travel() -> None:
    """What looks like a type is one, and stands behind its publisher's name or behind none."""
    documents = [PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")]
    types = set().union(*EVENT_TYPES.values())
    heads = "|".join(sorted({kind.partition(".")[0] for kind in types}))
    named = {
        (publisher, kind)
        for document in documents
        for publisher, kind in re.findall(
            rf"(?:\b(\w+)\.)?\b((?:{heads})\.(?!py\b)[a-z_]+)\b",
            document.read_text(encoding="utf-8"),
        )
    }

    assert {kind for _, kind in named} <= types
    assert {publisher for publisher, kind in named if publisher != publisher_of(kind)} <= {""}
    assert named, "no document names one: this test reads the wrong files"
