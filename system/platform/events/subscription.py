"""Feeds one process with every event through a queue of its own (R3.6, R4.24)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
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
from system.platform.observability import correlation

_log = logging.getLogger(__name__)

PREFETCH: Final = 100


@dataclass(frozen=True, slots=True)
class EventContext:
    """How an event reached its handler.

    Attributes:
        queue: it was taken from.
        routing_key: it was published with (R3.10).
        correlation_id: of the request that caused it (R7.17).
        traceparent: of the span in which it is handled, or of its publisher; None if there is none.
        redelivered: the broker has handed it out before.
        attempt: 1 for the first one (R3.47).
    """

    queue: str
    routing_key: str
    correlation_id: str
    traceparent: str | None
    redelivered: bool
    attempt: int


class Subscription:
    """A running subscription; made by `EventHub.subscribe` and `subscribe_exclusive`."""

    def __init__(
        self,
        connection: Connection,
        queue: str,
        handler: Callable[[Event, EventContext], Awaitable[None]],
        *,
        routing_key: str = "#",
        prefetch: int = PREFETCH,
    ) -> None:
        self._routing_key = routing_key
        self._prefetch = prefetch
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
            await channel.basic_qos(prefetch_count=self._prefetch)
            await channel.queue_declare(
                queue=self._queue, durable=False, exclusive=True, auto_delete=True
            )
            await channel.queue_bind(
                queue=self._queue,
                exchange=self._connection.exchange,
                routing_key=self._routing_key,
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
                await self._handler(event, self._context(message, event))
        except Exception as error:
            _log.warning("event %s dropped: %s: %s", event.id, type(error).__name__, error)

    def _context(self, message: DeliveredMessage, event: Event) -> EventContext:
        running = correlation.known()
        return EventContext(
            queue=self._queue,
            routing_key=copies.routing_key_of(message),
            correlation_id=event.correlation_id,
            traceparent=running.traceparent if running is not None else None,
            redelivered=bool(message.redelivered),
            attempt=copies.attempts_done(message) + 1,
        )


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

    async def take(event: Event, _context: EventContext) -> None:
        await handler(event)

    return Subscription(connection, queue, take)
