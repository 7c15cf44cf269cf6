"""All metrics of R7.1-R7.13, as one object each, in one registry per process.

Label values come from closed sets only (R7.12): no id, no e-mail, no free text.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

# `…_created` series would double the number of series and are not in the contract.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library types it not

HTTP_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
QUERY_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
CACHE_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1)

# R7.12: what does not belong to the known set.
UNMATCHED: Final = "unmatched"
OTHER: Final = "other"

HTTP_REQUESTS_TOTAL: Final = Counter(
    "http_requests_total", "Requests answered.", ("method", "path", "status")
)
HTTP_ERRORS_TOTAL: Final = Counter(
    "http_errors_total",
    "Requests answered with a status of 400 or more.",
    ("method", "path", "status"),
)
HTTP_REQUEST_DURATION_SECONDS: Final = Histogram(
    "http_request_duration_seconds",
    "Time from the request's head to the end of its answer.",
    ("method", "path", "status"),
    buckets=HTTP_BUCKETS,
)
HTTP_ACTIVE_CONNECTIONS: Final = Gauge("http_active_connections", "Requests in flight.")

DB_QUERY_DURATION_SECONDS: Final = Histogram(
    "db_query_duration_seconds",
    "Time of a statement.",
    ("operation", "table"),
    buckets=QUERY_BUCKETS,
)
DB_QUERY_ERRORS_TOTAL: Final = Counter(
    "db_query_errors_total", "Statements that failed.", ("operation", "table")
)

CACHE_HITS_TOTAL: Final = Counter("cache_hits_total", "Answers from the cache.", ("cache_type",))
CACHE_MISSES_TOTAL: Final = Counter(
    "cache_misses_total", "Answers loaded because the cache had none.", ("cache_type",)
)
CACHE_OPERATIONS_DURATION_SECONDS: Final = Histogram(
    "cache_operations_duration_seconds",
    "Time of a cache operation.",
    ("operation", "cache_type"),
    buckets=CACHE_BUCKETS,
)

PAYMENTS_CREATED_TOTAL: Final = Counter(
    "payments_created_total", "Payments created.", ("type", "status")
)
PAYMENTS_AMOUNT_TOTAL: Final = Counter(
    "payments_amount_total", "Sum of the amounts of payments created.", ("currency",)
)
AUTH_LOGIN_TOTAL: Final = Counter("auth_login_total", "Logins.", ("status",))
AUTH_REGISTER_TOTAL: Final = Counter("auth_register_total", "Registrations.", ("status",))

EVENTS_PUBLISHED_TOTAL: Final = Counter(
    "events_published_total", "Events confirmed by the broker.", ("type",)
)
EVENTS_CONSUMED_TOTAL: Final = Counter(
    "events_consumed_total", "Attempts to handle a message.", ("queue", "type", "outcome")
)
EVENT_HANDLING_DURATION_SECONDS: Final = Histogram(
    "event_handling_duration_seconds", "Time of an attempt.", ("queue",), buckets=HTTP_BUCKETS
)
EVENT_DELIVERY_LATENCY_SECONDS: Final = Histogram(
    "event_delivery_latency_seconds",
    "Time from an event's timestamp to its effect.",
    ("queue",),
    buckets=HTTP_BUCKETS,
)
OUTBOX_PENDING: Final = Gauge("outbox_pending", "Events written and not yet published.")

WEBSOCKET_CONNECTIONS: Final = Gauge("websocket_connections", "Open WebSocket connections.")
WEBSOCKET_MESSAGES_TOTAL: Final = Counter(
    "websocket_messages_total", "WebSocket messages.", ("direction", "type")
)
WEBSOCKET_CLOSED_TOTAL: Final = Counter(
    "websocket_closed_total", "WebSocket connections closed.", ("code",)
)
WEBSOCKET_REJECTED_TOTAL: Final = Counter(
    "websocket_rejected_total", "WebSocket handshakes refused.", ("code",)
)
RATE_LIMIT_REJECTIONS_TOTAL: Final = Counter(
    "rate_limit_rejections_total", "Requests refused by a limiter.", ("limiter",)
)
EVENT_LOOP_LAG_SECONDS: Final = Histogram(
    "event_loop_lag_seconds",
    "How much later than asked the event loop woke a sleeper.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _Series:
    """The three metrics of one (method, path, status), looked up once."""

    __slots__ = ("duration", "errors", "requests")

    def __init__(self, method: str, path: str, status: int) -> None:
        labels = (method, path, str(status))
        self.requests = HTTP_REQUESTS_TOTAL.labels(*labels)
        self.duration = HTTP_REQUEST_DURATION_SECONDS.labels(*labels)
        self.errors = HTTP_ERRORS_TOTAL.labels(*labels) if status >= 400 else None


_series: dict[tuple[str, str, int], _Series] = {}


def observe_request(method: str, path: str, status: int, seconds: float) -> None:
    """Count one answered request (R7.2, R7.3).

    Args:
        method: as received; an unusual one counts as `other`.
        path: a route template or `UNMATCHED`, never a path with an id in it (R7.12).
        status: HTTP status of the answer.
        seconds: from the request's head to the end of its answer.
    """
    if method not in METHODS:
        method = OTHER
    key = (method, path, status)
    series = _series.get(key)
    if series is None:
        series = _series[key] = _Series(method, path, status)
    series.requests.inc()
    series.duration.observe(seconds)
    if series.errors is not None:
        series.errors.inc()


def render() -> tuple[bytes, str]:
    """Return the text of `/metrics` and its content type."""
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST


async def watch_event_loop(
    interval_s: float = 0.5, clock: Callable[[], float] = time.perf_counter
) -> None:
    """Feed `event_loop_lag_seconds` until cancelled (R7.13)."""
    while True:
        due = clock() + interval_s
        await asyncio.sleep(interval_s)
        EVENT_LOOP_LAG_SECONDS.observe(max(0.0, clock() - due))
