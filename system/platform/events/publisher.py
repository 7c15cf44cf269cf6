"""Puts messages on the exchange, persistent and confirmed, several at once in their order (R3.17).

NotPublished
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import PublishError
from pamqp import commands

from system.platform.events import catalogue
from system.platform.events.connection import TROUBLE, Connection, cancelled_by_caller
from system.platform.observability import tracing

CLOSED_GRACE_S: Final = 1.0


class NotPublished(Exception):
    """Some messages of a batch were not confirmed; the others were.

    Attributes:
        failed: reason by event id, in the order of the batch.
    """

    def __init__(self, failed: Mapping[str, str], of: int) -> None:
        self.failed = dict(failed)
        first = next(iter(self.failed.values()), "")
        super().__init__(f"{len(self.failed)} of {of} not confirmed: {first}")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event ready to be put on the exchange.

    Attributes:
        envelope: R3.11, as JSON-like values.
        routing_key: R3.10.
    """

    envelope: Mapping[str, Any]
    routing_key: str

    @property
    def id(self) -> str:
        """Of the event."""
        return str(self.envelope["id"])


def properties(envelope: Mapping[str, Any], traceparent: str = "") -> commands.Basic.Properties:
    """AMQP properties of an event (R3.13).

    Args:
        envelope: R3.11.
        traceparent: of the span that publishes it; else that of the cause is in the headers.
    """
    metadata = envelope["metadata"]
    headers: dict[str, Any] = {"source": envelope["source"], "version": envelope["version"]}
    for name in ("traceparent", "tracestate"):
        if metadata.get(name):
            headers[name] = metadata[name]
    if traceparent:
        headers["traceparent"] = traceparent
    return commands.Basic.Properties(
        content_type="application/json",
        content_encoding="utf-8",
        headers=headers,
        delivery_mode=2,
        correlation_id=metadata["correlationId"],
        message_id=envelope["id"],
        timestamp=datetime.now(UTC),
        message_type=envelope["type"],
        app_id=envelope["source"],
    )


async def _results(
    tasks: Sequence[asyncio.Future[Any]], closing: asyncio.Future[Any]
) -> list[object]:
    """What became of each publish; ends soon after the channel does.

    The library rejects the confirms of a channel that closes, but a publish that waits for room in
    the write queue of a dead connection would wait for ever, and the outbox behind it (R3.20).
    """
    ended = asyncio.gather(*tasks, return_exceptions=True)
    try:
        await asyncio.wait({ended, closing}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({ended}, timeout=CLOSED_GRACE_S)
    finally:
        closing.cancel()
        for task in tasks:
            task.cancel()
    return await ended


class Publisher:
    """Publishes on one channel of its own, which it opens when it is needed.

    Args:
        connection: to the broker.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel: AbstractChannel | None = None

    async def send(self, messages: Sequence[Outgoing]) -> list[str | None]:
        """Put all on the wire in their order, then wait for all confirms.

        Returns:
            for each message None when the broker has it, else why it may not have it.
        """
        try:
            channel = self._channel
            if channel is None or channel.is_closed:
                channel = self._channel = await self._connection.channel(confirms=True)
        except TROUBLE as error:
            return [f"{type(error).__name__}: {error}"] * len(messages)
        spans = [_span(message) for message in messages] if tracing.is_on() else None
        # Tasks start in this order and the channel's lock is fair, so the order on the wire is
        # that of the messages.
        tasks = [
            asyncio.ensure_future(
                channel.basic_publish(  # type: ignore[call-arg]  # the abstract class lacks `wait`
                    msgspec.json.encode(message.envelope),
                    exchange=self._connection.exchange,
                    routing_key=message.routing_key,
                    properties=properties(message.envelope, _traceparent(spans, place)),
                    mandatory=True,
                    # The confirm is what counts; waiting for each write as well would send every
                    # message in a packet of its own.
                    wait=False,
                )
            )
            for place, message in enumerate(messages)
        ]
        results = await _results(tasks, channel.closing)
        if cancelled_by_caller():
            raise asyncio.CancelledError
        outcomes: list[str | None] = []
        for place, result in enumerate(results):
            confirmed = isinstance(result, commands.Basic.Ack)
            outcomes.append(None if confirmed else f"not confirmed: {result!r}")
            if spans is not None and (span := spans[place]) is not None:
                span.error = None if confirmed else "not confirmed"
                span.end()
        if any(isinstance(result, PublishError | DeliveredMessage) for result in results):
            # Nothing is unroutable while the topology stands (R3.9), so somebody took it down.
            with contextlib.suppress(*TROUBLE):
                await self._connection.declare()
        return outcomes


def _span(message: Outgoing) -> tracing.Span | None:
    metadata = message.envelope["metadata"]
    name = f"publish {catalogue.label(message.envelope['type'])}"
    correlation_id = metadata["correlationId"]
    span = tracing.follow(name, tracing.Kind.PRODUCER, metadata.get("traceparent"), correlation_id)
    if span is not None:
        span.attributes = {
            "messaging.system": "rabbitmq",
            "messaging.operation.type": "publish",
            "messaging.message.id": message.id,
        }
    return span


def _traceparent(spans: Sequence[tracing.Span | None] | None, place: int) -> str:
    span = spans[place] if spans is not None else None
    return "" if span is None else span.traceparent
