"""Tests of publishing against a real broker (R3.17, R3.20)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from system.platform.events.connection import Connection
from system.platform.events.envelope import new_event, now
from system.platform.events.publisher import Outgoing, Publisher

from .conftest import eventually

USER = "00000000-0000-4000-8000-000000000001"
WINDOW = 200


def messages(count: int) -> list[Outgoing]:
    """Events ready to be published."""
    events = [
        new_event(
            "profile.updated",
            {"userId": USER, "fields": [str(number)], "updatedAt": now()},
            source="profile",
            actor_id=USER,
        )
        for number in range(count)
    ]
    return [Outgoing(msgspec.to_builtins(event), event.routing_key) for event in events]


def _is_full(queue: asyncio.Queue[object]) -> Callable[[], Awaitable[bool]]:
    async def full() -> bool:
        return queue.full()

    return full


@pytest.fixture
async def publisher(connection: Connection) -> Publisher:
    """A publisher whose channel is open."""
    opened = Publisher(connection)
    assert await opened.send(messages(1)) == [None]
    return opened


async def test_a_window_cut_off_by_a_lost_connection_ends(
    connection: Connection, publisher: Publisher
) -> None:
    """A publish that waits for room in the queue of a dead connection does not wait for ever."""
    wire = connection._connection
    assert wire is not None
    sending = asyncio.create_task(publisher.send(messages(WINDOW)))
    async with asyncio.timeout(10):
        await eventually(_is_full(wire.write_queue), 10, "a full write queue", every=0)
        await wire.close(ConnectionError("lost"))
        outcomes = await sending
    assert len(outcomes) == WINDOW
    assert [outcome for outcome in outcomes if outcome is not None]

    async with asyncio.timeout(30):
        await connection.ready()
        again = await publisher.send(messages(WINDOW))
    assert again == [None] * WINDOW


async def test_cancelling_the_caller_leaves_no_publish_behind(publisher: Publisher) -> None:
    """Whoever stops waiting for a window takes all of its publishes with him."""
    before = asyncio.all_tasks()
    sending = asyncio.create_task(publisher.send(messages(WINDOW)))
    # One turn for the caller to begin, one for what it starts.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks() - before) > WINDOW
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert sending.cancelled()

    async def none_left() -> bool:
        return not asyncio.all_tasks() - before

    await eventually(none_left, 10, "the end of every publish")
