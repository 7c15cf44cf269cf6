"""Brings the events of the exchange to this process through a queue of its own (R3.6, R4.24)."""

from __future__ import annotations

import os
import secrets
import socket

from system.gateway.ports import BridgedEvent, Deliver
from system.platform.events import topology
from system.platform.events.connection import Connection
from system.platform.events.envelope import Event
from system.platform.events.subscription import Subscription, subscribe_exclusive


def instance_name() -> str:
    """A name no other gateway process has, and that tells people which one it is."""
    return f"{socket.gethostname()[:64]}-{os.getpid()}-{secrets.token_hex(4)}"


class BrokerBridge:
    """`Bridge` over RabbitMQ.

    Args:
        url: of the broker.
        exchange: RABBITMQ_EXCHANGE.
        instance: distinguishes the queue from those of other gateway processes.
    """

    def __init__(self, url: str, exchange: str, instance: str) -> None:
        self._connection = Connection(url, name="api-gateway", exchange=exchange)
        self._queue = topology.gateway_queue(instance)
        self._subscription: Subscription | None = None

    async def start(self, deliver: Deliver) -> None:
        """See `Bridge.start`."""

        async def hand_over(event: Event) -> None:
            deliver(
                BridgedEvent(
                    id=event.id,
                    type=event.type,
                    timestamp=event.timestamp,
                    correlation_id=event.correlation_id,
                    data=event.data,
                )
            )

        await self._connection.start()
        self._subscription = await subscribe_exclusive(self._connection, self._queue, hand_over)

    async def close(self) -> None:
        """See `Bridge.close`."""
        if self._subscription is not None:
            await self._subscription.close()
        await self._connection.close()

    async def health(self) -> bool:
        """See `Bridge.health`."""
        return await self._connection.health()
