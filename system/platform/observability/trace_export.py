"""Takes finished spans to the collector, in a thread of its own (R7.18).

A request only appends to a bounded queue.  With the collector away the oldest spans go first, and
the log gets at most one line a minute.
"""

from __future__ import annotations

import http.client
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol
from urllib.parse import urlsplit

from system.platform.config.settings import Settings
from system.platform.observability import otlp, tracing
from system.platform.observability.tracing import Attribute, Span

_log = logging.getLogger(__name__)

# About 1 KiB a span.
QUEUE_SPANS: Final = 4_096
# Small enough that encoding one holds the interpreter for about a millisecond.
BATCH_SPANS: Final = 256
EVERY_S: Final = 1.0
RETRY_S: Final = 5.0
SEND_TIMEOUT_S: Final = 3.0
# R7.18 allows 5 s on SIGTERM, and error reports need 2 s of them.
FLUSH_S: Final = 3.0
LOG_EVERY_S: Final = 60.0


class Refused(Exception):
    """The collector answered, but did not take the spans."""


class Sender(Protocol):
    """Brings one body to the collector."""

    def send(self, body: bytes) -> None:
        """Raises OSError, http.client.HTTPException or Refused when it did not arrive."""

    def close(self) -> None:
        """Give up the connection."""


class HttpSender:
    """`Sender` over HTTP, with one connection that is kept.

    Args:
        endpoint: OTEL_EXPORTER_OTLP_ENDPOINT, the whole URL.
    """

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or "localhost"
        self._port = parts.port or (443 if self._secure else 80)
        path = parts.path or "/v1/traces"
        self._path = path + (f"?{parts.query}" if parts.query else "")
        self._connection: http.client.HTTPConnection | None = None

    def send(self, body: bytes) -> None:
        """See `Sender.send`."""
        kept = self._connection is not None
        try:
            self._post(body)
        except (OSError, http.client.HTTPException):
            self.close()
            if not kept:
                raise
            # The collector may have closed the connection while nothing was sent.
            self._post(body)

    def close(self) -> None:
        """See `Sender.close`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, body: bytes) -> None:
        if self._connection is None:
            make = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            self._connection = make(self._host, self._port, timeout=SEND_TIMEOUT_S)
        self._connection.request(
            "POST", self._path, body, {"Content-Type": "application/x-protobuf"}
        )
        answer = self._connection.getresponse()
        answer.read()
        if answer.status >= 300:
            raise Refused(f"the collector answered {answer.status}")


class TraceExport:
    """The queue and its thread.

    Args:
        sender: to the collector.
        resource: attributes of the process.
        every_s: seconds between sendings.
        retry_s: seconds before the next try after a failure.
        clock: seconds, for the pause between log lines.
    """

    def __init__(
        self,
        sender: Sender,
        resource: Mapping[str, Attribute],
        *,
        every_s: float = EVERY_S,
        retry_s: float = RETRY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sender = sender
        self._resource = otlp.resource(resource)
        self._every_s = every_s
        self._retry_s = retry_s
        self._clock = clock
        self._queue: deque[Span] = deque()
        self._dropped = 0
        self._lines_from = float("-inf")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trace-export", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def add(self, span: Span) -> None:
        """Take a finished span; never waits, and drops the oldest when there are too many."""
        if len(self._queue) >= QUEUE_SPANS:
            self._dropped += 1
            self._queue.popleft()
        self._queue.append(span)

    @property
    def waiting(self) -> int:
        """Spans not yet sent."""
        return len(self._queue)

    def close(self, seconds: float = FLUSH_S) -> None:
        """Send what is left, as long as that takes no more than `seconds`, and stop."""
        self._closing.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        pause = self._every_s
        while not self._closing.wait(pause):
            pause = self._every_s if self.send_waiting() else self._retry_s
        self.send_waiting()
        self._sender.close()

    def send_waiting(self) -> bool:
        """Send everything that waits; False as soon as the collector does not take it."""
        while self._queue:
            batch: list[Span] = []
            while self._queue and len(batch) < BATCH_SPANS:
                batch.append(self._queue.popleft())
            try:
                self._sender.send(otlp.request(self._resource, batch))
            except Refused as trouble:
                # It is there and wants none of these; they would be refused again.
                self._dropped += len(batch)
                self._say(trouble)
                return False
            except (OSError, http.client.HTTPException) as trouble:
                self._put_back(batch)
                self._say(trouble)
                return False
            except Exception as trouble:
                self._dropped += len(batch)
                self._say(trouble)
        return True

    def _put_back(self, batch: list[Span]) -> None:
        space = QUEUE_SPANS - len(self._queue)
        kept = batch[len(batch) - space :] if space < len(batch) else batch
        if space <= 0:
            kept = []
        self._dropped += len(batch) - len(kept)
        self._queue.extendleft(reversed(kept))

    def _say(self, trouble: Exception) -> None:
        now = self._clock()
        if now - self._lines_from < LOG_EVERY_S:
            return
        self._lines_from = now
        _log.warning(
            "traces are not exported (%s); %d waiting, %d dropped so far",
            f"{type(trouble).__name__}: {trouble}",
            len(self._queue),
            self._dropped,
        )


_exports: list[TraceExport] = []


def start(settings: Settings) -> None:
    """Turn tracing on for this process, unless OTEL_ENABLED says no; never fails or waits."""
    if not settings.otel_enabled or not settings.otel_exporter_otlp_endpoint:
        return
    from system.platform.observability import sampling  # the SDK costs 20 MiB; only when it is on

    export = TraceExport(
        HttpSender(settings.otel_exporter_otlp_endpoint),
        sampling.resource(
            {
                "service.name": settings.service_name,
                "service.version": settings.version,
                "deployment.environment": settings.node_env,
            }
        ),
    )
    export.start()
    _exports.append(export)
    tracing.turn_on(export.add, sampling.sampler())


def stop() -> None:
    """Turn tracing off and send what is left, within 5 s (R7.18)."""
    tracing.turn_off()
    while _exports:
        _exports.pop().close()
