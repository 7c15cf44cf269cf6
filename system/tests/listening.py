"""Hears every event that reaches the broker's exchange, on a queue of its own."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import pika
from pika.spec import BasicProperties

from system.conftest import RunningStack


@dataclass(frozen=True)
class Heard:
    """A message of the exchange.

    Attributes:
        routing_key: it was published with.
        properties: of AMQP, headers among them.
        body: as it came.
        at: when it was taken, by `time.monotonic`.
    """

    routing_key: str
    properties: BasicProperties
    body: bytes
    at: float

    @property
    def event(self) -> dict[str, Any]:
        """The envelope."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def correlation_id(self) -> str:
        """That of the request which caused it (R3.12)."""
        return str(self.event["metadata"]["correlationId"])


class Ear:
    """A listener; hears what is published from the moment it is made."""

    def __init__(self, stack: RunningStack) -> None:
        granted = stack.target["access"]["amqp"]
        self._connection = pika.BlockingConnection(pika.URLParameters(granted["url"]))
        self._channel = self._connection.channel()
        self._queue = str(self._channel.queue_declare("", exclusive=True).method.queue)
        self._channel.queue_bind(self._queue, granted["exchange"], "#")
        self._heard: list[Heard] = []

    def close(self) -> None:
        """Listen no more; the queue goes too."""
        self._connection.close()

    def all(self) -> list[Heard]:
        """Everything so far, in the order of the broker."""
        while True:
            method, properties, body = self._channel.basic_get(self._queue, auto_ack=True)
            if method is None or properties is None or body is None:
                return self._heard
            self._heard.append(Heard(str(method.routing_key), properties, body, time.monotonic()))

    def of(self, correlation_id: str, count: int, seconds: float = 10.0) -> list[Heard]:
        """Wait for so many events that a request caused; returns all that have come by then."""
        deadline = time.monotonic() + seconds
        while True:
            found = [heard for heard in self.all() if heard.correlation_id == correlation_id]
            if len(found) >= count:
                return found
            kinds = [heard.routing_key for heard in found]
            assert time.monotonic() < deadline, f"heard {kinds} in {seconds} s, expected {count}"
            time.sleep(0.01)
