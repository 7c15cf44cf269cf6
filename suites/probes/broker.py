"""The broker as a probe sees it: management API, an observer of all events, a publisher."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import quote

import httpx
import pika
from pika.adapters.blocking_connection import BlockingChannel

from harness.probe import CouldNotObserve
from harness.target import Amqp, Target

VHOST = quote("/", safe="")


def access(target: Target) -> Amqp:
    """The broker access of a target.

    Raises:
        CouldNotObserve: it grants none.
    """
    if target.access.amqp is None:
        raise CouldNotObserve("the target file has no [access.amqp]")
    return target.access.amqp


def management(amqp: Amqp) -> httpx.Client:
    """A client of the management API."""
    return httpx.Client(
        base_url=amqp.management, auth=(amqp.user, amqp.password), timeout=10, trust_env=False
    )


def queue_depth(amqp: Amqp, queue: str) -> int:
    """Messages ready in a queue, asked over AMQP (the management API lags by seconds)."""
    with channel(amqp) as opened:
        return int(opened.queue_declare(queue, passive=True).method.message_count)


def consumers(amqp: Amqp, queue: str) -> int:
    """How many consume from a queue."""
    with channel(amqp) as opened:
        return int(opened.queue_declare(queue, passive=True).method.consumer_count)


def wait_for_consumers(amqp: Amqp, queues: Iterable[str], seconds: float) -> float | None:
    """Wait until every queue has a consumer; seconds it took, None when they did not come."""
    started = time.monotonic()
    missing = list(queues)
    while True:
        missing = [queue for queue in missing if not consumers(amqp, queue)]
        if not missing:
            return round(time.monotonic() - started, 2)
        if time.monotonic() - started > seconds:
            return None
        time.sleep(0.1)


@contextmanager
def channel(amqp: Amqp) -> Iterator[BlockingChannel]:
    """A channel on a connection of its own.

    Raises:
        CouldNotObserve: the broker cannot be reached.
    """
    try:
        connection = pika.BlockingConnection(pika.URLParameters(amqp.url))
    except pika.exceptions.AMQPError as error:
        raise CouldNotObserve(f"AMQP connection: {type(error).__name__}: {error}") from error
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def publish(
    opened: BlockingChannel,
    exchange: str,
    routing_key: str,
    body: bytes,
    *,
    message_id: str = "",
    **properties: Any,
) -> None:
    """Publish one persistent JSON message and wait for its confirm.

    The channel must be in confirm mode; an unroutable message raises (mandatory).
    """
    opened.basic_publish(
        exchange,
        routing_key,
        body,
        pika.BasicProperties(
            delivery_mode=2,
            content_type="application/json",
            content_encoding="utf-8",
            message_id=message_id or None,
            **properties,
        ),
        mandatory=True,
    )


class EventObserver:
    """Collects every event that reaches the exchange, on a queue and a thread of its own.

    Use as a context manager: bound when entered, so that nothing published afterwards is missed.

    Attributes:
        events: (arrival in seconds since 1970, routing key, body) in order of arrival.
    """

    def __init__(self, amqp: Amqp, binding: str = "#") -> None:
        self._amqp = amqp
        self._binding = binding
        self.events: list[tuple[float, str, dict[str, Any]]] = []
        self._bound = threading.Event()
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._observe, daemon=True)

    def __enter__(self) -> EventObserver:
        self._thread.start()
        if not self._bound.wait(15) or self._failure:
            raise CouldNotObserve(f"observing events: {self._failure or 'no binding in 15 s'}")
        return self

    def __exit__(self, *details: object) -> None:
        self._stop.set()
        self._thread.join(15)

    def ids(self) -> set[str]:
        """The ids of all events seen so far."""
        return {str(body.get("id")) for _, _, body in list(self.events)}

    def _observe(self) -> None:
        try:
            with channel(self._amqp) as opened:
                queue = cast("str", opened.queue_declare("", exclusive=True).method.queue)
                opened.queue_bind(queue, self._amqp.exchange, self._binding)
                self._bound.set()
                for method, _, raw in opened.consume(queue, auto_ack=True, inactivity_timeout=0.1):
                    if method is not None:
                        self._keep(str(method.routing_key), raw)
                    if self._stop.is_set() and method is None:
                        return
        except (CouldNotObserve, pika.exceptions.AMQPError) as error:
            self._failure = error
            self._bound.set()

    def _keep(self, routing_key: str, raw: bytes) -> None:
        try:
            body = json.loads(raw)
        except ValueError:
            body = {"malformed": raw[:200].decode("utf-8", "replace")}
        self.events.append((time.time(), routing_key, body))
