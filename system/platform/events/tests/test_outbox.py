"""Tests of outbox and relay against a real broker and database (R3.16-R3.21)."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import defaultdict
from typing import Any

import pytest
from aiormq.abc import AbstractChannel, DeliveredMessage

from system.platform.database import Database
from system.platform.events import outbox
from system.platform.events.connection import Connection
from system.platform.events.envelope import Event, Malformed, new_event, now
from system.platform.events.outbox import Relay, Row, add, windows
from system.platform.events.redis_channel import RedisChannel

from .conftest import Broker, eventually

ADMIN_QUEUE = "admin.events.queue"


def profile_event(user: str, number: int) -> Event:
    """An event of one aggregate with a running number in it."""
    return new_event(
        "profile.updated",
        {"userId": user, "fields": [str(number)], "updatedAt": now()},
        source="profile",
        actor_id=user,
    )


async def published(channel: AbstractChannel, count: int, seconds: float) -> list[dict[str, Any]]:
    """The first `count` envelopes that reach the admin queue, which gets everything (R3.9)."""
    found: list[dict[str, Any]] = []
    complete = asyncio.Event()

    async def take(message: DeliveredMessage) -> None:
        found.append(json.loads(message.body))
        if len(found) >= count:
            complete.set()

    await channel.basic_consume(ADMIN_QUEUE, take, no_ack=True)
    async with asyncio.timeout(seconds):
        await complete.wait()
    return found


async def unpublished(db: Database) -> int:
    """How many rows wait in the outbox."""
    count: int = await db.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL")
    return count


async def test_r3_17_fifty_writers_lose_nothing_and_keep_order(
    db: Database, connection: Connection, channel: AbstractChannel
) -> None:
    """R3.17: rows become visible out of order; per aggregate events arrive in commit order."""
    users = [f"00000000-0000-4000-8000-{number:012x}" for number in range(10)]
    locks = {user: asyncio.Lock() for user in users}  # stands for the aggregate's row lock
    committed: dict[str, list[str]] = defaultdict(list)

    async def write(writer: int) -> None:
        chance = random.Random(writer)
        for number in range(6):
            user = chance.choice(users)
            async with locks[user], db.transaction() as tx:
                event = profile_event(user, number)
                await add(tx, event)
                await asyncio.sleep(chance.random() * 0.02)  # commits overtake inserts
                committed[user].append(event.id)

    relay = Relay(db, connection)
    await relay.start()
    try:
        reader = asyncio.create_task(published(channel, 300, 60))
        await asyncio.gather(*(write(writer) for writer in range(50)))
        arrived = await reader
        await eventually(lambda: _none_left(db), 10, "an outbox with nothing unpublished")
    finally:
        await relay.close()

    by_user: dict[str, list[str]] = defaultdict(list)
    for envelope in arrived:
        by_user[envelope["data"]["userId"]].append(envelope["id"])
    assert by_user == committed


async def _none_left(db: Database) -> bool:
    return await unpublished(db) == 0


async def test_r3_13_r3_18_an_event_carries_the_agreed_properties(
    db: Database, connection: Connection, channel: AbstractChannel
) -> None:
    """R3.13, and R3.18: it is in its queue within 500 ms of the commit."""
    relay = Relay(db, connection)
    await relay.start()
    arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
    await channel.basic_consume(ADMIN_QUEUE, arrived.put, no_ack=True)
    try:
        async with db.transaction() as tx:  # until the relay leads, its delay is its start
            await add(tx, profile_event("00000000-0000-4000-8000-000000000001", 0))
        async with asyncio.timeout(10):
            await arrived.get()

        event = profile_event("00000000-0000-4000-8000-000000000001", 1)
        async with db.transaction() as tx:
            await add(tx, event)
        begun = time.monotonic()
        async with asyncio.timeout(5):
            message = await arrived.get()
        delay = time.monotonic() - begun
    finally:
        await relay.close()

    properties = message.header.properties
    headers = properties.headers or {}
    assert json.loads(message.body) == json.loads(event.encode())
    assert message.routing_key == "profile.profile.updated"
    assert properties.delivery_mode == 2
    assert properties.content_type == "application/json"
    assert properties.content_encoding == "utf-8"
    assert properties.message_id == event.id
    assert properties.message_type == "profile.updated"
    assert properties.correlation_id == event.correlation_id
    assert properties.app_id == "profile-service"
    assert properties.timestamp is not None
    assert headers["source"] == "profile-service"
    assert headers["version"] == "1.0"
    assert str(headers["traceparent"]).startswith("00-")
    assert delay < 0.5


async def test_r3_16_a_rolled_back_change_has_no_event(db: Database) -> None:
    """R3.16: never an event without its change."""

    async def change() -> None:
        async with db.transaction() as tx:
            await add(tx, profile_event("00000000-0000-4000-8000-000000000001", 1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await change()

    assert await unpublished(db) == 0


async def test_a_malformed_event_is_not_written(db: Database) -> None:
    """What consumers would dead-letter does not enter the outbox."""
    event = profile_event("00000000-0000-4000-8000-000000000001", 1)
    broken = Event(
        event.id, event.type, event.version, event.timestamp, event.source, {}, event.metadata
    )
    async with db.transaction() as tx:
        with pytest.raises(Malformed):
            await add(tx, broken)


async def test_r3_17_a_crash_between_confirm_and_mark_repeats_and_loses_nothing(
    db: Database,
    connection: Connection,
    channel: AbstractChannel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R3.17: the same id comes again from the next relay; no event is missing."""
    async with db.transaction() as tx:
        events = [
            profile_event(f"00000000-0000-4000-8000-{number:012x}", number) for number in range(5)
        ]
        for event in events:
            await add(tx, event)
    with monkeypatch.context() as patched:
        patched.setattr(outbox, "_MARK", "SELECT 1/0 WHERE 1 = ANY($1::bigint[]) OR 1/0 = 1")
        dying = Relay(db, connection)
        await dying.start()
        reader = asyncio.create_task(published(channel, 10, 60))
        await asyncio.sleep(0)
        await eventually(lambda: _waiting(connection, 0, reader), 20, "a first publication")
        await dying.close()
    heir = Relay(db, connection)
    await heir.start()
    try:
        arrived = await reader
        await eventually(lambda: _none_left(db), 10, "an outbox with nothing unpublished")
    finally:
        await heir.close()

    seen = [envelope["id"] for envelope in arrived]
    assert set(seen) == {event.id for event in events}
    assert len(seen) > len(set(seen))


async def _waiting(connection: Connection, least: int, reader: asyncio.Task[Any]) -> bool:
    channel = await connection.channel(confirms=False)
    declared = await channel.queue_declare(queue="profile.events.queue", passive=True)
    await channel.close()
    return reader.done() or (declared.message_count or 0) >= least


async def test_r3_17_only_one_relay_leads_and_the_other_takes_over(
    db: Database, connection: Connection, channel: AbstractChannel
) -> None:
    """R3.17: two instances publish each event once; when one stops the other goes on."""
    first, second = Relay(db, connection), Relay(db, connection)
    await first.start()
    await second.start()
    arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
    await channel.basic_consume(ADMIN_QUEUE, arrived.put, no_ack=True)
    try:
        for number in range(20):
            async with db.transaction() as tx:
                await add(tx, profile_event("00000000-0000-4000-8000-000000000001", number))
        await eventually(lambda: _none_left(db), 20, "an outbox with nothing unpublished")
        await first.close()
        async with db.transaction() as tx:
            await add(tx, profile_event("00000000-0000-4000-8000-000000000001", 20))
        await eventually(lambda: _none_left(db), 20, "the second relay at work")
    finally:
        await first.close()
        await second.close()
    await asyncio.sleep(0.2)

    numbers = [json.loads(arrived.get_nowait().body)["data"]["fields"][0] for _ in range(21)]
    assert numbers == [str(number) for number in range(21)]
    assert arrived.empty()


async def test_closing_publishes_what_is_written(
    db: Database, connection: Connection, channel: AbstractChannel
) -> None:
    """R0.11: a relay that is asked to stop leaves nothing behind while the broker is there."""
    relay = Relay(db, connection)
    await relay.start()
    async with db.transaction() as tx:
        await add(tx, profile_event("00000000-0000-4000-8000-000000000001", 0))
    await eventually(lambda: _none_left(db), 20, "the relay at work")
    async with db.transaction() as tx:
        for number in range(50):
            await add(tx, profile_event(f"00000000-0000-4000-8000-{number:012x}", number))

    await relay.close()

    assert await unpublished(db) == 0


def test_no_aggregate_is_twice_in_a_window() -> None:
    """R3.19: what could be overtaken is not sent together; order per aggregate is kept."""
    rows = [
        Row(seq, str(seq), "payment.created", "k", {"data": {"paymentId": name}})
        for seq, name in enumerate("aabcabb")
    ]

    found = windows(rows)

    assert [[row.seq for row in window] for window in found] == [[0, 2, 3], [1, 5], [4, 6]]
    assert windows([]) == []


async def test_r3_20_r3_21_with_the_broker_away_events_wait_and_follow_in_order(
    db: Database, broker: Broker, connection: Connection, channel: AbstractChannel
) -> None:
    """R3.20, R3.21: writes succeed, and flow within 15 s of the broker's return."""
    relay = Relay(db, connection)
    await relay.start()
    try:
        async with db.transaction() as tx:
            await add(tx, profile_event("00000000-0000-4000-8000-000000000001", 0))
        await eventually(lambda: _none_left(db), 20, "the relay at work")
        broker.kill()
        for number in range(1, 31):
            async with db.transaction() as tx:
                await add(tx, profile_event("00000000-0000-4000-8000-000000000001", number))
        assert await unpublished(db) == 30
        assert not await connection.health()
        broker.launch()
        await asyncio.to_thread(broker.wait)
        await eventually(lambda: _none_left(db), 15, "the outbox published after the return")
        assert await connection.health()
    finally:
        await relay.close()

    again = await connection.channel()
    arrived = await published(again, 31, 10)
    assert [envelope["data"]["fields"][0] for envelope in arrived] == [
        str(number) for number in range(31)
    ]


class _Away:
    """A Redis that is away, or hangs, until told otherwise."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []

    async def publish(self, channel: str, message: bytes) -> object:
        self.published.append((channel, message))
        raise ConnectionError("nobody listens")

    async def aclose(self) -> None:
        """Nothing is open."""


async def test_r9_13_dual_repeats_what_rabbitmq_has_and_never_delays_it(
    db: Database, connection: Connection, channel: AbstractChannel
) -> None:
    """R9.13: each event goes to RabbitMQ and then to Redis, whose failure changes nothing."""
    redis = _Away()
    relay = Relay(db, connection, RedisChannel(redis))
    await relay.start()
    try:
        for number in range(20):
            async with db.transaction() as tx:
                await add(tx, profile_event("00000000-0000-4000-8000-000000000001", number))
        arrived = await published(channel, 20, 20)
        await eventually(lambda: _none_left(db), 10, "an outbox with nothing unpublished")
    finally:
        await relay.close()

    assert [name for name, _ in redis.published] == ["profile.updated"] * 20
    assert [json.loads(message) for _, message in redis.published] == arrived


async def test_health_asks_the_broker(broker: Broker, connection: Connection) -> None:
    """R1.55: a broker that hangs is down although its connection stands, and up afterwards."""
    assert await connection.health()
    broker.pause()
    try:
        assert not await connection.health()
        assert connection.connected
    finally:
        broker.resume()

    await eventually(connection.health, 15, "a healthy connection")
