"""Tests of the hub's names and of what is rendered and declared from them (R3.1-R3.8)."""

from __future__ import annotations

import base64
import hashlib

import pytest

from system.broker.definitions import User, password_hash, render
from system.platform.events.topology import retry_queue, service_queue, topology

SERVICES = ("auth", "payments", "admin", "profile")


def test_the_queues_are_those_of_the_contract() -> None:
    """R3.3-R3.5, with exactly the arguments named there."""
    queues = {queue.name: dict(queue.arguments) for queue in topology().queues}

    assert len(queues) == 17
    for service in SERVICES:
        assert queues[f"{service}.events.queue"] == {
            "x-dead-letter-exchange": "events.dlx",
            "x-dead-letter-routing-key": "dead-letter",
            "x-single-active-consumer": True,
        }
        for level in (1, 2, 3):
            assert queues[f"{service}.events.retry.{level}"] == {
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": f"{service}.events.queue",
            }
    assert queues["events.dlq"] == {}


def test_the_bindings_are_those_of_the_contract() -> None:
    """R3.4 and R3.7, and no other."""
    assert {(b.exchange, b.routing_key, b.queue) for b in topology().bindings} == {
        ("events", "auth.#", "auth.events.queue"),
        ("events", "payments.#", "payments.events.queue"),
        ("events", "auth.user.#", "payments.events.queue"),
        ("events", "#", "admin.events.queue"),
        ("events", "auth.user.#", "profile.events.queue"),
        ("events.dlx", "dead-letter", "events.dlq"),
    }


def test_definitions_and_declarations_are_the_same() -> None:
    """R3.8: what the broker is started with is what services declare."""
    rendered = render([User("app", "secret")])
    plan = topology()

    assert {(e["name"], e["type"], e["durable"]) for e in rendered["exchanges"]} == {
        (e.name, e.type, True) for e in plan.exchanges
    }
    assert {q["name"]: q["arguments"] for q in rendered["queues"]} == {
        q.name: dict(q.arguments) for q in plan.queues
    }
    assert {(b["source"], b["routing_key"], b["destination"]) for b in rendered["bindings"]} == {
        (b.exchange, b.routing_key, b.queue) for b in plan.bindings
    }


def test_the_users_are_exactly_those_named() -> None:
    """R3.8: no guest, each with permissions, only administrators with a tag."""
    rendered = render([User("app", "a"), User("boss", "b", administrator=True)])

    assert [(user["name"], user["tags"]) for user in rendered["users"]] == [
        ("app", []),
        ("boss", ["administrator"]),
    ]
    assert [entry["user"] for entry in rendered["permissions"]] == ["app", "boss"]
    assert "password" not in rendered["users"][0]


def test_a_password_is_hashed_as_the_broker_checks_it() -> None:
    """Base64 of the salt and of SHA-256 over salt and password."""
    decoded = base64.b64decode(password_hash("pass", salt=b"\x01\x02\x03\x04"))

    assert decoded == b"\x01\x02\x03\x04" + hashlib.sha256(b"\x01\x02\x03\x04pass").digest()
    assert password_hash("pass") != password_hash("pass")


@pytest.mark.parametrize("service", SERVICES)
def test_retry_queues_exist(service: str) -> None:
    """Each level a consumer names is a queue of the topology."""
    names = {queue.name for queue in topology().queues}

    assert {retry_queue(service_queue(service), level) for level in (1, 2, 3)} <= names


def test_another_exchange_name_changes_only_that() -> None:
    """RABBITMQ_EXCHANGE names the topic exchange; the rest stays."""
    plan = topology("other")

    assert [exchange.name for exchange in plan.exchanges] == ["other", "events.dlx"]
    assert {b.exchange for b in plan.bindings} == {"other", "events.dlx"}
