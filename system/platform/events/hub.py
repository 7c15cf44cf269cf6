"""The event hub as code sees it: publish, publish a batch, subscribe, health.

    hub = EventHub(connection)
    await hub.publish(event)                        # persistent, confirmed, or NotPublished
    await hub.publish_batch(events)                 # all confirmed, or NotPublished names which not
    subscription = await hub.subscribe(handler)     # handler(event, context)

A service that changes its own database does not publish directly: it writes the event to its
outbox in the transaction of the change (`outbox.add`), so that neither can be without the other
(R3.16), and it consumes with `Consumer`, which gives retries, dead letters and once-only effects.
The hub is for what has no database of its own, and for tools.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import uuid4

import msgspec

from system.platform.events import catalogue
from system.platform.events.connection import Connection
from system.platform.events.envelope import Event, validate
from system.platform.events.publisher import NotPublished, Outgoing, Publisher
from system.platform.events.subscription import EventContext, Subscription
from system.platform.observability.metrics import EVENTS_PUBLISHED_TOTAL

__all__ = ["Event", "EventContext", "EventHub", "NotPublished", "Subscription"]

Handler = Callable[[Event, EventContext], Awaitable[None]]

PREFETCH: Final = 100
# Confirms a channel waits for at once; beyond it nothing is gained and memory is bounded.
WINDOW: Final = 500


class EventHub:
    """Publishes to and subscribes at the exchange of a connection.

    Args:
        connection: started by the caller, who also closes it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._publisher = Publisher(connection)

    async def health(self) -> bool:
        """Whether the broker answers now; see `Connection.health`."""
        return await self._connection.health()

    async def publish(self, event: Event) -> None:
        """Publish one event, persistent, and wait until the broker has it.

        Raises:
            Malformed: it breaks R3.15; nothing was sent.
            NotPublished: the broker did not confirm it; it may be sent again (same id).
        """
        await self.publish_batch((event,))

    async def publish_batch(self, events: Sequence[Event]) -> None:
        """Publish events in their order and wait until the broker has all of them.

        Waits for the connection as long as it takes.

        Raises:
            Malformed: one breaks R3.15; nothing was sent.
            NotPublished: `failed` names those that were not confirmed, and why; the others were.
        """
        for event in events:
            validate(event, probes=True)
        failed: dict[str, str] = {}
        for start in range(0, len(events), WINDOW):
            window = events[start : start + WINDOW]
            outcomes = await self._publisher.send(
                [Outgoing(msgspec.to_builtins(event), event.routing_key) for event in window]
            )
            for event, trouble in zip(window, outcomes, strict=True):
                if trouble is None:
                    EVENTS_PUBLISHED_TOTAL.labels(catalogue.label(event.type)).inc()
                else:
                    failed[event.id] = trouble
        if failed:
            raise NotPublished(failed, len(events))

    async def subscribe(
        self,
        handler: Handler,
        *,
        routing_key: str = "#",
        prefetch: int = PREFETCH,
        queue: str = "",
    ) -> Subscription:
        """Call `handler` with every matching event from now on, one after the other.

        The queue belongs to this subscription and goes with it.  An event is acknowledged when the
        handler has returned; one on which it raises is logged and dropped.  After a broken
        connection the subscription comes back by itself; what was published meanwhile is not made
        up for (R4.24).

        Args:
            handler: gets the event and where it came from.
            routing_key: pattern of the topic exchange, such as `payments.#`.
            prefetch: messages the broker hands out before the first is acknowledged.
            queue: its name; one that nobody else has if empty.

        Returns:
            the subscription, as soon as it is in place; `close()` ends it.
        """
        subscription = Subscription(
            self._connection,
            queue or f"subscription.{uuid4()}",
            handler,
            routing_key=routing_key,
            prefetch=prefetch,
        )
        await subscription.flowing()
        return subscription
