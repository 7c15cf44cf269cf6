"""Makes, reads and judges the envelope every event travels in (R3.11-R3.15).

Malformed
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import msgspec

from system.platform.events import catalogue
from system.platform.observability import correlation, tracing

VERSION: Final = "1.0"
SOURCES: Final = tuple(f"{service}-service" for service in ("auth", "payments", "admin", "profile"))


class Malformed(ValueError):
    """A message that is no event (R3.15); the text says what was seen and what was expected."""


class Event(msgspec.Struct, frozen=True):
    """Something that happened, as it stands in the outbox, on the wire and in a handler's hand.

    Attributes:
        id: UUID; the same for every copy and repetition.
        type: such as `payment.created`.
        version: of the envelope, `1.x`.
        timestamp: when it happened (R0.4).
        source: the publisher, such as `payments-service`.
        data: what happened; keeps the rule of its type.
        metadata: correlationId, eventType, actorId, ipAddress, userAgent and more.
    """

    id: str
    type: str
    version: str
    timestamp: str
    source: str
    data: dict[str, Any]
    metadata: dict[str, Any]

    @property
    def routing_key(self) -> str:
        """`<service>.<type>` (R3.10)."""
        return f"{self.source.removesuffix('-service')}.{self.type}"

    @property
    def correlation_id(self) -> str:
        """The id of the request that caused it (R7.17)."""
        value = self.metadata.get("correlationId")
        return value if isinstance(value, str) else ""

    def encode(self) -> bytes:
        """The body of the message: UTF-8 JSON."""
        return _encoder.encode(self)


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Event)

# The event whose handler is running, so that what the handler emits names its cause (R3.12).
_cause: ContextVar[Event | None] = ContextVar("causing_event", default=None)

_METADATA: Final[dict[str, catalogue.Rule]] = {
    "correlationId": catalogue.filled,
    "eventType": catalogue.filled,
    "actorId": catalogue.text_or_null,
    "ipAddress": catalogue.text_or_null,
    "userAgent": catalogue.text_or_null,
}


def now() -> str:
    """The present time as R0.4 writes it."""
    moment = datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def new_event(
    type: str,
    data: dict[str, Any],
    *,
    source: str,
    event_type: str | None = None,
    actor_id: str | None,
    **metadata: Any,
) -> Event:
    """Make an event about what is happening in the present request or handler.

    Args:
        type: a type of the catalogue, such as `payment.created`.
        data: JSON values; keeps the rule of its type.
        source: the publisher, `payments-service` or short `payments`.
        event_type: value of `metadata.eventType`; the catalogue's when None.
        actor_id: id of the user who acted, or None (R3.41).
        metadata: further or overriding keys, such as actor="psp" or ipAddress=None.

    Raises:
        Malformed: the event would break R3.15; consumers would dead-letter it.
    """
    context = correlation.current()
    kind = catalogue.KINDS.get(type)
    details: dict[str, Any] = {
        "correlationId": context.correlation_id,
        "eventType": event_type or (kind.event_type if kind else "system"),
        "actorId": actor_id,
        "ipAddress": context.client_address,
        "userAgent": context.user_agent,
    }
    if context.traceparent is not None and tracing.read(context.traceparent) is not None:
        details["traceparent"] = context.traceparent
        if context.tracestate:
            details["tracestate"] = context.tracestate
    else:
        details["traceparent"] = _new_traceparent()
    cause = _cause.get()
    if cause is not None:
        details["causationId"] = cause.id
    details.update(metadata)
    event = Event(
        id=str(uuid4()),
        type=type,
        version=VERSION,
        timestamp=now(),
        source=source if source.endswith("-service") else f"{source}-service",
        data=data,
        metadata=details,
    )
    validate(event)
    return event


def parse(body: bytes, *, probes: bool = False) -> Event:
    """Read the body of a message.

    Args:
        body: as received.
        probes: whether `diagnostics.probe` is a known type (R3.52).

    Raises:
        Malformed: R3.15.
    """
    try:
        event = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not an envelope: {error}") from None
    validate(event, probes=probes)
    return event


def validate(event: Event, *, probes: bool = False) -> None:
    """Judge an event by R3.15.

    Raises:
        Malformed: naming every fault found.
    """
    faults = []
    head: tuple[tuple[str, catalogue.Rule, str], ...] = (
        ("id", catalogue.uuid, event.id),
        ("type", catalogue.filled, event.type),
        ("timestamp", catalogue.time, event.timestamp),
        ("source", catalogue.filled, event.source),
    )
    for name, rule, value in head:
        if (expected := rule(value)) is not None:
            faults.append(f"{name} is not {expected}")
    if event.version.partition(".")[0] != "1":
        faults.append(f"version is {event.version[:20]!r}, expected major 1")
    for name, rule in _METADATA.items():
        if name not in event.metadata:
            faults.append(f"metadata.{name} is missing")
        elif (expected := rule(event.metadata[name])) is not None:
            faults.append(f"metadata.{name} is not {expected}")
    kind = catalogue.KINDS.get(event.type)
    if kind is None and probes and event.type == catalogue.PROBE:
        kind = catalogue.PROBE_KIND
    if kind is not None:
        faults.extend(catalogue.faults(kind, event.data))
    if faults:
        raise Malformed(f"{event.type[:64] or 'event'}: " + "; ".join(faults))


@contextlib.contextmanager
def causing(
    event: Event, queue: str, headers: Mapping[str, Any] | None = None
) -> Iterator[tracing.Span | None]:
    """Run a handler of `event`: correlation, trace and causation reach what the handler emits.

    Args:
        event: what is handled.
        queue: it came from.
        headers: of the message, whose `traceparent` names the span that published it.

    Returns:
        the context; it gives the span of the handling, None when it is not recorded.
    """
    parent = (headers or {}).get("traceparent")
    if not isinstance(parent, str) or tracing.read(parent) is None:
        parent = _text(event.metadata.get("traceparent"))
    span = tracing.follow(
        f"process {catalogue.label(event.type)}",
        tracing.Kind.CONSUMER,
        parent,
        event.correlation_id,
    )
    if span is not None:
        span.attributes = {
            "messaging.system": "rabbitmq",
            "messaging.operation.type": "process",
            "messaging.destination.name": queue,
            "messaging.message.id": event.id,
        }
    context = correlation.RequestContext(
        correlation_id=event.correlation_id,
        client_address=_text(event.metadata.get("ipAddress")),
        user_agent=_text(event.metadata.get("userAgent")),
        traceparent=parent if span is None else span.traceparent,
        tracestate=_text(event.metadata.get("tracestate")),
    )
    token = correlation.bind(context)
    cause = _cause.set(event)
    try:
        with tracing.within(span):
            yield span
    finally:
        _cause.reset(cause)
        correlation.unbind(token)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _new_traceparent() -> str:
    # W3C trace context, version 00, not sampled: a trace of its own where no request began one.
    return f"00-{random.getrandbits(128) or 1:032x}-{random.getrandbits(64) or 1:016x}-00"
