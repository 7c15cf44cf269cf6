"""Tests of the consumer against a real broker and database (R3.9, R3.42-R3.53)."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp import commands

from system.platform.database import Database, Transaction
from system.platform.events.connection import Connection
from system.platform.events.consumer import Consumer, Handler, after_commit
from system.platform.events.diagnostics import ProbeStore
from system.platform.events.envelope import Event, now
from system.platform.events.subscription import subscribe_exclusive
from system.platform.http.errors import service_unavailable
from system.platform.observability import error_reports

from .conftest import Broker, eventually

QUEUE = "profile.events.queue"
USER = "00000000-0000-4000-8000-000000000001"


def envelope(type: str = "user.note", **data: Any) -> dict[str, Any]:
    """A good envelope of a type that the catalogue does not know."""
    return {
        "id": str(uuid.uuid4()),
        "type": type,
        "version": "1.0",
        "timestamp": now(),
        "source": "auth-service",
        "data": data,
        "metadata": {
            "correlationId": "corr",
            "eventType": "system",
            "actorId": None,
            "ipAddress": None,
            "userAgent": None,
        },
    }


async def publish(
    channel: AbstractChannel,
    body: Mapping[str, Any] | bytes,
    *,
    key: str = "auth.user.note",
    headers: dict[str, Any] | None = None,
    **properties: Any,
) -> None:
    """Publish to `events` and wait for the confirm."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    message_id = properties.pop("message_id", None) or (
        body["id"] if not isinstance(body, bytes) else str(uuid.uuid4())
    )
    await channel.basic_publish(
        raw,
        exchange="events",
        routing_key=key,
        properties=commands.Basic.Properties(
            delivery_mode=2, message_id=message_id, headers=headers or {}, **properties
        ),
    )


@asynccontextmanager
async def consuming(
    connection: Connection,
    db: Database,
    handlers: Mapping[str, Handler],
    probes: ProbeStore | None = None,
) -> AsyncIterator[Consumer]:
    """A running consumer of the profile queue."""
    consumer = Consumer(connection, QUEUE, handlers, db, probes=probes)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.close()


async def note(event: Event, tx: Transaction) -> None:
    """A handler whose effect is a row."""
    await tx.execute(
        "INSERT INTO effects (event_id, note) VALUES ($1, $2)", event.id, event.data.get("note")
    )


async def effects(db: Database) -> list[Any]:
    """Notes in order of effect."""
    return [row["note"] for row in await db.fetch("SELECT note FROM effects ORDER BY place")]


async def dead(channel: AbstractChannel, count: int, seconds: float) -> list[DeliveredMessage]:
    """Wait for `count` dead letters and take them."""
    found: list[DeliveredMessage] = []

    async def one_more() -> bool:
        message = await channel.basic_get("events.dlq", no_ack=True)
        if isinstance(message.delivery, commands.Basic.GetOk):
            found.append(message)
        return len(found) >= count

    await eventually(one_more, seconds, f"{count} dead letters, seen {len(found)}", every=0.1)
    return found


async def depth(channel: AbstractChannel, queue: str) -> int:
    """Ready messages in a queue."""
    return (await channel.queue_declare(queue=queue, passive=True)).message_count or 0


async def test_r3_45_effects_keep_the_order_of_the_queue(
    db: Database, connection: Connection, channel: AbstractChannel
) -> None:
    """R3.45: 100 of 100 in order."""
    async with consuming(connection, db, {"user.note": note}):
        for number in range(100):
            await publish(channel, envelope(note=str(number)))
        await eventually(lambda: _count(db, 100), 30, "100 effects")

    assert await effects(db) == [str(number) for number in range(100)]


async def _count(db: Database, count: int) -> bool:
    return bool(await db.fetchval("SELECT count(*) FROM effects") == count)


async def test_the_same_event_twice_has_one_effect(
    db: Database, connection: Connection, channel: AbstractChannel
) -> None:
    """R3.44: a known id is acknowledged without effect."""
    first, last = envelope(note="once"), envelope(note="end")
    async with consuming(connection, db, {"user.note": note}):
        for body in (first, first, first, last):
            await publish(channel, body)
        await eventually(lambda: _count(db, 2), 20, "two effects")
        await eventually(lambda: _empty(channel, QUEUE), 5, "an empty queue")

    assert await effects(db) == ["once", "end"]


async def _empty(channel: AbstractChannel, queue: str) -> bool:
    return await depth(channel, queue) == 0


async def test_r3_9_an_event_of_no_interest_does_not_touch_the_database(
    connection: Connection, channel: AbstractChannel
) -> None:
    """R3.9: acknowledged while the database does not even exist."""
    nowhere = Database("postgresql://nobody@127.0.0.1:1/none")
    await nowhere.start()
    await publish(channel, envelope("user.unheard"))
    async with consuming(connection, nowhere, {"user.note": note}):
        await eventually(lambda: _empty(channel, QUEUE), 10, "an empty queue")
    await nowhere.close()

    assert await depth(channel, QUEUE) == 0
    assert await depth(channel, "events.dlq") == 0


async def test_a_failing_handler_is_tried_four_times_and_then_dead(
    db: Database,
    connection: Connection,
    channel: AbstractChannel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R3.46, R3.49, R3.50: delays 1, 2, 4 s ±25 %, then the DLQ with the agreed headers.

    R7.19: what is dead is reported, once.
    """
    reported: list[BaseException] = []
    monkeypatch.setattr(error_reports, "report", reported.append)
    attempts: dict[str, list[tuple[float, float]]] = defaultdict(list)

    async def fail(event: Event, tx: Transaction) -> None:
        begun = time.monotonic()
        await note(event, tx)  # must not stay
        attempts[event.id].append((begun, time.monotonic()))
        raise ValueError("cannot be done")

    bodies = [envelope(note="poison") for _ in range(5)]
    async with consuming(connection, db, {"user.note": fail}):
        for body in bodies:
            await publish(
                channel,
                body,
                headers={"source": "auth-service", "CC": ["auth.events.queue"]},
                priority=3,
                app_id="auth-service",
            )
            await asyncio.sleep(0.1)
        letters = await dead(channel, 5, 30)

    assert [str(error) for error in reported] == ["cannot be done"] * 5
    assert [len(times) for times in attempts.values()] == [4] * 5
    delays = [
        [after[0] - before[1] for before, after in itertools.pairwise(times)]
        for times in attempts.values()
    ]
    for level, nominal in enumerate((1.0, 2.0, 4.0)):
        shortest = min(each[level] for each in delays)
        # The shortest, because a machine that is busy for a moment is no fault of the broker's.
        assert nominal * 0.75 < shortest < nominal * 1.25
    letter = letters[0]
    properties = letter.header.properties
    headers = dict(properties.headers or {})
    first, last = headers.pop("x-first-failure-at"), headers.pop("x-last-failure-at")
    assert isinstance(first, str)
    assert isinstance(last, str)
    assert 5 < (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds() < 12
    assert headers == {
        "source": "auth-service",
        "x-original-queue": QUEUE,
        "x-original-routing-key": "auth.user.note",
        "x-error": "ValueError: cannot be done",
        "x-failure-kind": "handler",
        "x-attempts": 4,
    }
    assert json.loads(letter.body) == bodies[0]
    assert properties.message_id == bodies[0]["id"]
    assert (properties.priority, properties.app_id) == (3, "auth-service")
    assert properties.expiration is None
    assert await effects(db) == []
    assert await db.fetchval("SELECT count(*) FROM inbox") == 0


async def test_a_poison_message_does_not_delay_the_others(
    db: Database, connection: Connection, channel: AbstractChannel
) -> None:
    """R3.47: beside a message in retry the others take effect, and in order."""
    happened: list[str] = []

    async def some_fail(event: Event, tx: Transaction) -> None:
        happened.append(event.data["note"])
        if event.data["note"] == "poison":
            raise ValueError("poison")
        await note(event, tx)

    async with consuming(connection, db, {"user.note": some_fail}):
        await publish(channel, envelope(note="poison"))
        for number in range(60):
            await publish(channel, envelope(note=str(number)))
        letters = await dead(channel, 1, 30)

    assert [entry for entry in happened if entry != "poison"] == [str(n) for n in range(60)]
    assert await effects(db) == [str(number) for number in range(60)]
    assert happened.count("poison") == 4
    assert happened[-1] == "poison", "the good ones waited for the last retry"
    assert len(letters) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"",
        json.dumps({**envelope(), "version": "2.0"}).encode(),
        json.dumps(envelope("user.deleted", userId="x")).encode(),
    ],
)
async def test_a_malformed_message_is_dead_at_the_first_attempt(
    db: Database, connection: Connection, channel: AbstractChannel, body: bytes
) -> None:
    """R3.48: with kind malformed and one attempt, and the consumer goes on."""
    async with consuming(connection, db, {"user.note": note}):
        await publish(channel, body, message_id="bad")
        (letter,) = await dead(channel, 1, 5)
        await publish(channel, envelope(note="after"))
        await eventually(lambda: _count(db, 1), 10, "the next effect")

    headers = letter.header.properties.headers or {}
    assert letter.body == body
    assert letter.header.properties.message_id == "bad"
    assert headers["x-failure-kind"] == "malformed"
    assert headers["x-attempts"] == 1


async def test_a_database_that_is_away_costs_no_attempt(
    db: Database, connection: Connection, channel: AbstractChannel
) -> None:
    """Events are held while the database is away, and take effect in order afterwards."""
    away = asyncio.Event()

    class Unreliable(Database):
        """A database that can be switched off."""

        async def ping(self) -> None:
            if away.is_set():
                raise service_unavailable()
            await super().ping()

    unreliable = Unreliable(db._url)
    await unreliable.start()

    async def careful(event: Event, tx: Transaction) -> None:
        if away.is_set():
            raise service_unavailable() from TimeoutError()  # as the database layer does
        await note(event, tx)

    away.set()
    async with consuming(connection, unreliable, {"user.note": careful}):
        for number in range(3):
            await publish(channel, envelope(note=str(number)))
        await asyncio.sleep(1.5)  # long enough for a first retry, if there were one
        assert await effects(db) == []
        away.clear()
        await eventually(lambda: _count(db, 3), 10, "the effects after the return")
    await unreliable.close()

    assert await effects(db) == ["0", "1", "2"]
    assert await depth(channel, "events.dlq") == 0


async def test_actions_after_the_commit_run_before_the_ack(
    db: Database, connection: Connection, channel: AbstractChannel
) -> None:
    """R6.6: an action sees the committed effect; one that fails does no harm."""
    seen: list[int] = []

    async def handler(event: Event, tx: Transaction) -> None:
        await note(event, tx)

        async def look() -> None:
            seen.append(await db.fetchval("SELECT count(*) FROM effects"))
            raise ValueError("the cache is down")

        after_commit(look)

    async with consuming(connection, db, {"user.note": handler}):
        await publish(channel, envelope(note="a"))
        await publish(channel, envelope(note="b"))
        await eventually(lambda: _count(db, 2), 10, "two effects")

    assert seen == [1, 2]


async def test_closing_lets_the_running_handler_finish(
    db: Database, connection: Connection, channel: AbstractChannel
) -> None:
    """R0.11: the handler in flight takes effect, what was prefetched stays in the queue."""
    running = asyncio.Event()

    async def slow(event: Event, tx: Transaction) -> None:
        running.set()
        await asyncio.sleep(0.5)
        await note(event, tx)

    for number in range(3):
        await publish(channel, envelope(note=str(number)))
    async with consuming(connection, db, {"user.note": slow}) as consumer:
        await running.wait()
        await consumer.close()
        assert await effects(db) == ["0"]
    await eventually(lambda: _depth_is(channel, QUEUE, 2), 5, "two messages back in the queue")

    async with consuming(connection, db, {"user.note": note}):
        await eventually(lambda: _count(db, 3), 10, "the others")
    assert await effects(db) == ["0", "1", "2"]


async def _depth_is(channel: AbstractChannel, queue: str, count: int) -> bool:
    return await depth(channel, queue) == count


async def test_a_deleted_queue_comes_back(
    db: Database, connection: Connection, channel: AbstractChannel
) -> None:
    """R3.8, R3.48: a consumer whose queue is deleted declares it again and goes on."""
    async with consuming(connection, db, {"user.note": note}):
        await publish(channel, envelope(note="before"))
        await eventually(lambda: _count(db, 1), 10, "the first effect")
        await channel.queue_delete(QUEUE)

        async def again() -> bool:
            await publish(channel, envelope(note="after"))
            return bool(await db.fetchval("SELECT count(*) FROM effects WHERE note = 'after'"))

        await eventually(again, 15, "effects after the queue came back", every=0.3)


async def test_probes_fail_as_often_as_they_ask(
    db: Database, connection: Connection, channel: AbstractChannel
) -> None:
    """R3.52, R3.53: attempts and order of effect can be seen."""
    store = ProbeStore()
    async with consuming(connection, db, {}, probes=store):
        for seq, data in enumerate(
            (
                {"failTimes": 1, "failQueue": QUEUE},
                {"failTimes": 9, "failQueue": "admin.events.queue"},
                {},
            )
        ):
            body = envelope("diagnostics.probe", nonce="n1", seq=seq, **data)
            await publish(channel, body, key="auth.user.probe")
        await eventually(lambda: _probed(store, 3), 10, "three processed probes")

    shown = [probe.as_json() for probe in store.find("n1")]
    assert [(entry["seq"], entry["attempts"]) for entry in shown] == [(1, 1), (2, 1), (0, 2)]
    first, second = (datetime.fromisoformat(moment) for moment in shown[2]["attemptTimes"])
    assert (second - first).total_seconds() > 0.75
    assert store.find("other") == []


async def _probed(store: ProbeStore, count: int) -> bool:
    return sum(probe.processed_at is not None for probe in store.find("n1")) == count


def test_probes_are_forgotten_after_a_quarter_of_an_hour() -> None:
    """R3.53: the last 15 min are kept."""
    clock = [0.0]
    store = ProbeStore(lambda: clock[0])
    body = envelope("diagnostics.probe", nonce="n", seq=1)
    event = Event(**body)
    store.attempt(event, QUEUE, 0)
    clock[0] = 899.0
    assert len(store.find("n")) == 1
    clock[0] = 901.0
    assert store.find("n") == []


async def test_a_subscription_gets_everything_and_survives_a_restart(
    broker: Broker, connection: Connection, channel: AbstractChannel
) -> None:
    """R3.6, R4.24: every event in order; after a broker restart it works again within 15 s."""
    seen: list[Any] = []

    async def collect(event: Event) -> None:
        seen.append(event.data.get("note"))
        if event.data.get("note") == "bad":
            raise ValueError("a client is gone")

    subscription = await subscribe_exclusive(connection, "gateway.ws.test", collect)
    try:
        async with asyncio.timeout(10):
            await subscription.flowing()
        await publish(channel, envelope(note="1"), key="payments.payment.completed")
        await publish(channel, b"rubbish", key="payments.x")
        await publish(channel, envelope(note="bad"), key="admin.config.updated")
        await publish(channel, envelope(note="2"), key="auth.user.created")
        await eventually(lambda: _are(seen, ["1", "bad", "2"]), 10, "three events")
        broker.kill()
        broker.launch()
        await asyncio.to_thread(broker.wait)
        begun = time.monotonic()

        async def flowing() -> bool:
            own = await connection.channel()
            await publish(own, envelope(note="again"))
            await own.close()
            return "again" in seen

        await eventually(flowing, 15, "events after the restart", every=0.3)
        assert time.monotonic() - begun < 15
    finally:
        await subscription.close()


async def _are(seen: list[Any], expected: list[Any]) -> bool:
    return seen == expected
