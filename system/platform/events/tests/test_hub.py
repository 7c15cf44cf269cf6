"""Tests of the event hub's public face against a real broker (R3.10-R3.13, R3.17)."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from aiormq.abc import AbstractChannel

from system.platform.events.connection import Connection
from system.platform.events.envelope import Event, Malformed, new_event, now
from system.platform.events.hub import EventContext, EventHub, NotPublished
from system.platform.observability.metrics import EVENTS_PUBLISHED_TOTAL

from .conftest import Broker

PROJECT = Path(__file__).parents[4]


def event(number: int, user: str = "00000000-0000-4000-8000-000000000001") -> Event:
    """An event with a running number in it."""
    return new_event(
        "profile.updated",
        {"userId": user, "fields": [str(number)], "updatedAt": now()},
        source="profile",
        actor_id=user,
    )


async def test_a_batch_arrives_whole_and_in_its_order(
    connection: Connection, channel: AbstractChannel
) -> None:
    """publish_batch confirms all; the subscriber gets them as typed events with their context."""
    hub = EventHub(connection)
    arrived: asyncio.Queue[tuple[Event, EventContext]] = asyncio.Queue()

    async def take(event: Event, context: EventContext) -> None:
        arrived.put_nowait((event, context))

    subscription = await hub.subscribe(take, routing_key="profile.#", prefetch=5)
    before = EVENTS_PUBLISHED_TOTAL.labels("profile.updated")._value.get()
    sent = [event(number) for number in range(1200)]
    try:
        await hub.publish_batch(sent)
        async with asyncio.timeout(20):
            seen = [await arrived.get() for _ in sent]
    finally:
        await subscription.close()

    assert [each.id for each, _ in seen] == [each.id for each in sent]
    first, context = seen[0]
    assert first == sent[0]
    assert context.routing_key == "profile.profile.updated"
    assert context.correlation_id == sent[0].correlation_id
    assert (context.redelivered, context.attempt) == (False, 1)
    assert EVENTS_PUBLISHED_TOTAL.labels("profile.updated")._value.get() == before + 1200


async def test_what_was_not_confirmed_is_named(broker: Broker, channel: AbstractChannel) -> None:
    """NotPublished.failed has the ids; here nothing is bound to what the exchange gets."""
    lonely = Connection(broker.url, name="lonely", exchange="lonely")
    await lonely.start()
    try:
        await lonely.ready()
        cleared = await lonely.channel()
        for queue, key in (("admin", "#"), ("profile", "auth.user.#")):
            await cleared.queue_unbind(
                queue=f"{queue}.events.queue", exchange="lonely", routing_key=key
            )
        sent = [event(1), event(2)]
        with pytest.raises(NotPublished) as refused:
            await EventHub(lonely).publish_batch(sent)
    finally:
        await lonely.close()
        for queue in ("auth", "payments", "admin", "profile"):
            await channel.queue_purge(f"{queue}.events.queue")
        await channel.exchange_delete("lonely")

    assert list(refused.value.failed) == [each.id for each in sent]
    assert "2 of 2 not confirmed" in str(refused.value)


async def test_a_malformed_event_is_not_sent_and_takes_nobody_with_it(
    connection: Connection,
) -> None:
    """R3.15: found before anything is on the wire."""
    good = event(1)
    bad = Event(
        good.id, good.type, good.version, good.timestamp, good.source, {"userId": 7}, good.metadata
    )
    with pytest.raises(Malformed, match=r"data\.fields is missing"):
        await EventHub(connection).publish_batch([good, bad])


async def test_a_handler_that_raises_loses_its_event_only(
    connection: Connection, channel: AbstractChannel
) -> None:
    """The subscription goes on with the next one."""
    hub = EventHub(connection)
    handled: asyncio.Queue[str] = asyncio.Queue()

    async def take(event: Event, _context: EventContext) -> None:
        if event.data["fields"] == ["1"]:
            raise RuntimeError("not this one")
        handled.put_nowait(event.data["fields"][0])

    subscription = await hub.subscribe(take, routing_key="profile.#")
    try:
        await hub.publish_batch([event(number) for number in range(3)])
        async with asyncio.timeout(10):
            assert [await handled.get(), await handled.get()] == ["0", "2"]
    finally:
        await subscription.close()


async def test_health_says_no_without_a_broker() -> None:
    """Connection.health: at once, and without an error."""
    nowhere = Connection("amqp://nobody:nothing@127.0.0.1:9")
    await nowhere.start()
    try:
        assert not await EventHub(nowhere).health()
    finally:
        await nowhere.close()


def test_the_example_of_the_usage_page_runs_as_it_stands(broker: Broker) -> None:
    """docs/event-hub.md: the program prints what the page says."""
    page = (PROJECT / "docs" / "event-hub.md").read_text(encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (said,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)

    done = subprocess.run(
        [sys.executable, "-c", programs[0]],
        env={**os.environ, "RABBITMQ_URL": broker.url, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, said), done.stderr
