"""Copies a message that failed, for its retry queue or the dead-letter queue (R3.47-R3.50)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from aiormq.abc import DeliveredMessage
from pamqp import commands

from system.platform.events.topology import (
    ATTEMPTS,
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_KEY,
    RETRY_DELAYS_MS,
    retry_queue,
)

ERROR_LIMIT: Final = 1_024
ORIGINAL_QUEUE: Final = "x-original-queue"
ORIGINAL_ROUTING_KEY: Final = "x-original-routing-key"
ERROR: Final = "x-error"
FAILURE_KIND: Final = "x-failure-kind"
ATTEMPTS_DONE: Final = "x-attempts"
FIRST_FAILURE_AT: Final = "x-first-failure-at"
LAST_FAILURE_AT: Final = "x-last-failure-at"
REPLAYED_AT: Final = "x-replayed-at"

FailureKind = Literal["handler", "malformed"]

# What the broker adds when a message passes a retry queue; it would grow with every attempt.
_BROKERS: Final = (
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
)
# Sender-selected distribution: RabbitMQ would route the copy to these queues as well (R3.47).
_ROUTING: Final = ("CC", "BCC")
_OURS: Final = (ERROR, FAILURE_KIND, ATTEMPTS_DONE, FIRST_FAILURE_AT, LAST_FAILURE_AT)


@dataclass(frozen=True, slots=True)
class Copy:
    """A message ready to be published.

    Attributes:
        exchange: "" for the default exchange.
        retried: whether it comes back; otherwise it is a dead letter.
    """

    exchange: str
    routing_key: str
    body: bytes
    properties: commands.Basic.Properties
    retried: bool


def headers_of(message: DeliveredMessage) -> Mapping[str, Any]:
    """The message's headers; empty when it has none."""
    found = message.header.properties.headers
    return found if isinstance(found, dict) else {}


def attempts_done(message: DeliveredMessage) -> int:
    """How many attempts at this message have ended, by its header; 0 for a value that is none."""
    value = headers_of(message).get(ATTEMPTS_DONE)
    good = isinstance(value, int) and not isinstance(value, bool)
    return min(max(value, 0), ATTEMPTS - 1) if good and value is not None else 0


def routing_key_of(message: DeliveredMessage) -> str:
    """The routing key the message was published with.

    A message that came back by a retry queue or was replayed arrives by the default exchange and
    carries its key in a header.
    """
    if not message.exchange:
        key = headers_of(message).get(ORIGINAL_ROUTING_KEY)
        if isinstance(key, str):
            return key
    return message.routing_key or ""


def error_text(error: BaseException) -> str:
    """One line about an error, without its trace (R3.50)."""
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return line[:ERROR_LIMIT]


def after_failure(
    message: DeliveredMessage,
    *,
    queue: str,
    error: BaseException,
    kind: FailureKind,
    at: str,
    user: str,
) -> Copy:
    """The copy to publish after a failed attempt.

    Args:
        queue: the service's queue the message was taken from.
        error: why the attempt failed.
        at: the time of the failure (R0.4).
        user: the connection's user; the broker refuses a user_id of somebody else.
    """
    attempts = 1 if kind == "malformed" else attempts_done(message) + 1
    headers = {
        name: value
        for name, value in headers_of(message).items()
        if name not in _BROKERS and name not in _ROUTING
    }
    headers[ORIGINAL_QUEUE] = queue
    headers[ORIGINAL_ROUTING_KEY] = routing_key_of(message)
    headers[ATTEMPTS_DONE] = attempts
    first = headers.get(FIRST_FAILURE_AT)
    headers[FIRST_FAILURE_AT] = first if attempts > 1 and isinstance(first, str) else at
    properties = copy.copy(message.header.properties)
    if properties.user_id is not None and properties.user_id != user:
        properties.user_id = None
    properties.expiration = None
    properties.headers = headers
    if kind == "handler" and attempts < ATTEMPTS:
        properties.expiration = str(RETRY_DELAYS_MS[attempts - 1])
        return Copy("", retry_queue(queue, attempts), message.body, properties, retried=True)
    headers[ERROR] = error_text(error)
    headers[FAILURE_KIND] = kind
    headers[LAST_FAILURE_AT] = at
    return Copy(DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY, message.body, properties, retried=False)


def bare(copied: Copy) -> Copy:
    """The same copy with none of the sender's properties but the id; when the broker refuses it.

    A message with properties that may be read but not written would otherwise come back for ever.
    """
    ours = {
        name: value
        for name, value in (copied.properties.headers or {}).items()
        if name in (*_OURS, ORIGINAL_QUEUE, ORIGINAL_ROUTING_KEY)
    }
    properties = commands.Basic.Properties(
        message_id=copied.properties.message_id,
        expiration=copied.properties.expiration,
        delivery_mode=2,
        headers=ours,
    )
    return Copy(copied.exchange, copied.routing_key, copied.body, properties, copied.retried)


def replayed(message: DeliveredMessage, *, at: str, user: str) -> Copy | None:
    """The copy that sends a dead letter back to its queue (R3.55).

    Returns:
        None when the dead letter does not say which queue it comes from.
    """
    headers = dict(headers_of(message))
    queue = headers.get(ORIGINAL_QUEUE)
    if not isinstance(queue, str) or not queue:
        return None
    kept = {
        name: value
        for name, value in headers.items()
        if name not in _BROKERS and name not in _ROUTING and name not in _OURS
    }
    kept[REPLAYED_AT] = at
    properties = copy.copy(message.header.properties)
    if properties.user_id is not None and properties.user_id != user:
        properties.user_id = None
    properties.expiration = None
    properties.headers = kept
    return Copy("", queue, message.body, properties, retried=True)
