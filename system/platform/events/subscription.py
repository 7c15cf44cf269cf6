"""Feeds one process with every event through a queue of its own (R3.6, R4.24)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiormq.abc import DeliveredMessage

from system.platform.events import copies
from system.platform.events.backoff import Backoff
from system.platform.events.connection import (
    FIRST_DELAY_S,
    MOST_DELAY_S,
    Connection,
    cancelled_by_caller,
    close_quietly,
)
from system.platform.events.envelope import Event, Malformed, causing, parse

_log = logging.getLogger(__name__)

PREFETCH: Final = 100


class Subscription:
    """A running subscription; made by `subscribe_exclusive`."""

    def __init__(
        self,
        connection: Connection,
        queue: str,
        handler: Callable[[Event], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._handler = handler
        self._flowing = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"subscription {queue}")

    async def flowing(self) -> None:
        """Wait until the queue is bound and consumed; events published from then on arrive."""
        await self._flowing.wait()

    async def close(self) -> None:
        """End it; the broker deletes the queue."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        delay = Backoff(FIRST_DELAY_S, MOST_DELAY_S)
        while True:
            await self._connection.ready()
            try:
                await self._consume(delay)
            except asyncio.CancelledError:
                if cancelled_by_caller():
                    raise
                reason = "channel closed"
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
            finally:
                self._flowing.clear()
            _log.warning("subscription %s starts again: %s", self._queue, reason)
            await asyncio.sleep(delay.next())

    async def _consume(self, delay: Backoff) -> None:
        channel = await self._connection.channel(confirms=False)
        arrived: asyncio.Queue[DeliveredMessage | None] = asyncio.Queue()
        try:
            await channel.basic_qos(prefetch_count=PREFETCH)
            await channel.queue_declare(
                queue=self._queue, durable=False, exclusive=True, auto_delete=True
            )
            await channel.queue_bind(
                queue=self._queue, exchange=self._connection.exchange, routing_key="#"
            )
            channel.on_consumer_cancel_callbacks.add(lambda _: arrived.put_nowait(None))
            channel.closing.add_done_callback(lambda _: arrived.put_nowait(None))
            await channel.basic_consume(self._queue, arrived.put)
            delay.reset()
            self._flowing.set()
            while True:
                message = await arrived.get()
                if message is None or channel.is_closed:
                    raise ConnectionError("the broker ended the subscription")
                await self._hand_over(message)
                if message.delivery_tag is not None:
                    await channel.basic_ack(message.delivery_tag, wait=False)
        finally:
            await close_quietly(channel)

    async def _hand_over(self, message: DeliveredMessage) -> None:
        try:
            event = parse(message.body)
        except Malformed:
            return  # the services' queues got it too and dead-letter it (R3.48)
        try:
            with causing(event, self._queue, copies.headers_of(message)):
                await self._handler(event)
        except Exception as error:
            _log.warning("event %s dropped: %s: %s", event.id, type(error).__name__, error)


async def subscribe_exclusive(
    connection: Connection, queue: str, handler: Callable[[Event], Awaitable[None]]
) -> Subscription:
    """Call `handler` with every event published from now on, across broker restarts.

    The queue is exclusive and auto-delete, bound with `#`. Events are handed over one after the
    other in their order; one that the handler fails on is logged and dropped, and what is
    published while the broker or the connection is away is not made up for (R4.24).

    Args:
        queue: `topology.gateway_queue(instance)`; unique per process.
        handler: gets each well-formed event, diagnostic probes included.

    Returns:
        the subscription, at once; `flowing()` waits until it is in place.
    """
    return Subscription(connection, queue, handler)
