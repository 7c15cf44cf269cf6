"""3.4 and 3.6 as a client of API and broker sees them: soon, in order, and never lost."""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pika
import psycopg
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from system.conftest import RunningStack
from system.tests.desks import SERVICES, Desk, locked, new_key, until
from system.tests.listening import Ear

pytestmark = pytest.mark.platform

DEAD = "events.dlq"
EVERY_QUEUE = "auth.user.probe"  # a routing key that is bound to all four
WRITES = 20


@pytest.fixture
def ear(well: RunningStack) -> Iterator[Ear]:
    """Hears every event from here on."""
    made = Ear(well)
    yield made
    made.close()


@pytest.fixture
def channel(well: RunningStack) -> Iterator[BlockingChannel]:
    """A channel in confirm mode: what cannot be routed, or is refused, raises."""
    connection = pika.BlockingConnection(pika.URLParameters(well.target["access"]["amqp"]["url"]))
    opened = connection.channel()
    opened.confirm_delivery()
    yield opened
    connection.close()


def queue_of(service: str) -> str:
    """The queue that a service consumes."""
    return f"{service}.events.queue"


def envelope(kind: str, **data: Any) -> dict[str, Any]:
    """A well-formed event as an outsider would write it."""
    return {
        "id": str(uuid.uuid4()),
        "type": kind,
        "version": "1.0",
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "source": "auth-service",
        "data": data,
        "metadata": {
            "correlationId": new_key(),
            "eventType": "system",
            "actorId": None,
            "ipAddress": None,
            "userAgent": None,
        },
    }


def send(channel: BlockingChannel, event: dict[str, Any], key: str) -> None:
    """Publish to `events`; returns when the broker has it."""
    properties = pika.BasicProperties(delivery_mode=2, message_id=event["id"])
    channel.basic_publish("events", key, json.dumps(event).encode(), properties, mandatory=True)


def depth(channel: BlockingChannel, queue: str) -> int:
    """Messages that are ready in a queue."""
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def probes(stack: RunningStack, service: str, nonce: str) -> list[dict[str, Any]]:
    """What became of the diagnostic probes of a nonce, in order of effect (R3.53)."""
    answer = httpx.get(
        f"{stack.services[service]}/internal/diagnostics/probes",
        params={"nonce": nonce},
        headers={"X-Internal-Token": stack.target["access"]["internal"]["token"]},
    )
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def handled(stack: RunningStack, service: str, nonce: str) -> list[dict[str, Any]]:
    """Those that have taken effect."""
    return [probe for probe in probes(stack, service, nonce) if probe["processedAt"]]


@contextmanager
def refusing(stack: RunningStack, queues: str) -> Iterator[None]:
    """For a while some queues take nothing: what is published to them is not confirmed."""
    granted = stack.target["access"]["amqp"]
    url = f"{granted['management']}/api/policies/%2F/{uuid.uuid4()}"
    with httpx.Client(auth=(granted["user"], granted["password"]), timeout=10) as management:
        policy = {
            "pattern": f"^{queues}$",
            "apply-to": "queues",
            "definition": {"max-length": 0, "overflow": "reject-publish"},
        }
        assert management.put(url, json=policy).is_success
        try:
            yield
        finally:
            assert management.delete(url).is_success


@pytest.mark.parametrize("service", SERVICES)
def test_r3_18_an_event_is_out_within_half_a_second(ear: Ear, desk: Desk, service: str) -> None:
    """From the answer, which follows the commit; one of twenty may meet a busy machine."""
    delays = []
    for _ in range(WRITES):
        key = new_key()
        assert desk.write(service, key).is_success
        answered = time.monotonic()
        [*_, heard] = ear.of(key, 1)
        delays.append(heard.at - answered)

    assert sorted(delays)[WRITES - 2] < 0.5


def test_r3_19_a_refused_event_is_tried_again_and_not_overtaken(
    ear: Ear, desk: Desk, channel: BlockingChannel
) -> None:
    """After 1, 2, 4, 5 and 5 s (±25 %), the same event; what follows it waits, then comes."""
    refuser = str(
        channel.queue_declare(
            "", exclusive=True, arguments={"x-max-length": 0, "x-overflow": "reject-publish"}
        ).method.queue
    )
    channel.queue_bind(refuser, "events", "profile.profile.updated")
    first, second = new_key(), new_key()
    for key in (first, second):
        assert desk.write("profile", key).is_success

    tries = ear.of(first, 6, 30)
    overtaken = [heard for heard in ear.all() if heard.correlation_id == second]
    waiting = desk.waiting("profile")
    channel.queue_delete(refuser)
    ear.of(second, 1)

    assert len({heard.body for heard in tries}) == 1
    delays = [after.at - before.at for before, after in itertools.pairwise(tries[:6])]
    for delay, nominal in zip(delays, (1, 2, 4, 5, 5), strict=True):
        assert nominal * 0.75 < delay < nominal * 1.25 + 0.5, delays
    assert overtaken == []
    assert waiting == 2
    until(lambda: desk.has_published("profile"), 10)
    desk.all_arrived_once("profile", [first, second])


@pytest.mark.parametrize("key", ["auth.user.stranger", "payments.stranger", "stranger", "a.b.c.d"])
def test_r3_9_what_nobody_knows_is_routed_and_acknowledged(
    well: RunningStack, channel: BlockingChannel, key: str
) -> None:
    """Whatever its key, and while no table that a handler could want is free."""
    event, last = envelope("user.stranger"), envelope("diagnostics.stranger")
    before = depth(channel, DEAD)
    with (
        locked(well, "auth", "inbox, users, sessions") as auth,
        locked(well, "payments", "inbox, users, payments") as payments,
        locked(well, "admin", "inbox, users, audit_logs") as admin,
        locked(well, "profile", "inbox, user_profiles") as profile,
    ):
        for sent in (event, last):
            send(channel, sent, key)
        until(lambda: held(well) == 0, 15)
        blocked = [waiting() for waiting in (auth, payments, admin, profile)]

    assert blocked == [0] * 4
    assert depth(channel, DEAD) == before
    for service in SERVICES:
        with psycopg.connect(well.database(service)) as db:
            known = db.execute("SELECT 1 FROM inbox WHERE event_id = %s", [event["id"]]).fetchall()
        assert known == []


def held(stack: RunningStack) -> int:
    """How many messages the four queues hold, delivered or not."""
    granted = stack.target["access"]["amqp"]
    # Counted by the queues themselves; the statistics lag behind by seconds.
    answer = httpx.get(
        f"{granted['management']}/api/queues",
        params={"disable_stats": "true", "enable_queue_totals": "true"},
        auth=(granted["user"], granted["password"]),
    )
    messages = {queue["name"]: int(queue["messages"]) for queue in answer.json()}
    return sum(messages[queue_of(service)] for service in SERVICES)


@pytest.mark.parametrize("service", SERVICES)
def test_r3_45_effects_keep_the_order_of_the_queue(
    well: RunningStack, channel: BlockingChannel, service: str
) -> None:
    """100 of 100 in order, though one before them and one among them fails and comes later."""
    nonce, failing = new_key(), {"failTimes": 1, "failQueue": queue_of(service)}
    for seq in range(102):
        more = failing if seq in (0, 51) else {}
        send(channel, envelope("diagnostics.probe", nonce=nonce, seq=seq, **more), EVERY_QUEUE)

    until(lambda: len(handled(well, service, nonce)) == 102, 30)

    order = [probe["seq"] for probe in handled(well, service, nonce)]
    assert [seq for seq in order if seq not in (0, 51)] == [
        seq for seq in range(102) if seq not in (0, 51)
    ]
    assert order.index(0) > 0


def test_r3_49_a_message_stays_until_its_copy_is_confirmed(
    well: RunningStack, channel: BlockingChannel
) -> None:
    """While retry queues, then the DLQ, take nothing it comes back to its queue, in each service.

    When they take it, it is there once.
    """
    sent = {
        service: envelope(
            "diagnostics.probe", nonce=new_key(), seq=1, failTimes=99, failQueue=queue_of(service)
        )
        for service in SERVICES
    }

    def attempts() -> dict[str, int]:
        return {
            service: sum(
                probe["attempts"] for probe in probes(well, service, event["data"]["nonce"])
            )
            for service, event in sent.items()
        }

    def all_tried(least: dict[str, int]) -> bool:
        return all(tried >= least[service] for service, tried in attempts().items())

    with refusing(well, DEAD):
        with refusing(well, "(auth|payments|admin|profile).events.retry.1"):
            for service, event in sent.items():
                properties = pika.BasicProperties(delivery_mode=2, message_id=event["id"])
                channel.basic_publish("", queue_of(service), json.dumps(event).encode(), properties)
            until(lambda: all_tried(dict.fromkeys(SERVICES, 3)), 20)
            # A retry that was confirmed all the same would lie in a queue.
            assert held(well) == len(sent)
        # Once more at once, after 1, 2 and 4 s, and twice because nobody takes the dead letter.
        least = {service: tried + 6 for service, tried in attempts().items()}
        until(lambda: all_tried(least), 40)
        assert held(well) == len(sent)
    until(lambda: held(well) == 0, 20)

    ids = [event["id"] for event in sent.values()]
    assert sorted(take_dead(well, ids)) == sorted(ids)


def take_dead(stack: RunningStack, ids: Iterable[str]) -> list[str]:
    """Take the dead letters of some messages; gives the id of each.  Others stay."""
    wanted = set(ids)
    found: list[str] = []
    connection = pika.BlockingConnection(pika.URLParameters(stack.target["access"]["amqp"]["url"]))
    try:
        letters = connection.channel()
        while True:
            method, properties, _ = letters.basic_get(DEAD)
            if method is None or properties is None:
                return found
            if properties.message_id in wanted:
                found.append(str(properties.message_id))
                letters.basic_ack(method.delivery_tag)
    finally:
        connection.close()
