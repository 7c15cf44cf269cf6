"""Sends unexpected errors to Sentry, without secrets and without holding anybody up (R7.19, R7.20).

Nothing is sent, and the SDK is not even imported, without SENTRY_DSN.  Reported is what is given to
`report`, and what is logged as an error together with its exception.  Breadcrumbs, local variables
and bodies are never collected.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from system.platform.config.settings import Settings
from system.platform.observability import correlation, redaction

if TYPE_CHECKING:
    from sentry_sdk.tracing import Transaction

_log = logging.getLogger(__name__)

FLUSH_S: Final = 2.0
# One failing route must not flood the project: so many at once of one kind, then one per interval.
BURST: Final = 20
INTERVAL_S: Final = 3.0
_KINDS_KEPT: Final = 500
_EMAIL_LEFT_OUT: Final = "[e-mail]"
# What describes our own software, not anybody's data.
_SOURCE: Final = frozenset(
    {
        "context_line",
        "pre_context",
        "post_context",
        "filename",
        "abs_path",
        "module",
        "function",
        "release",
        "sdk",
        "debug_meta",
        "profile",
    }
)
_MARK: Final = "_seatrial_reported"


@dataclass(frozen=True, slots=True)
class Request:
    """The request during which something went wrong.

    Attributes:
        method: HTTP method.
        route: its template, such as `/payments/:id`.
        status: of the answer.
        url: path without the query.
        query: without the question mark.
        headers: names and values as received.
    """

    method: str
    route: str
    status: int
    url: str = ""
    query: str = ""
    headers: Iterable[tuple[str, str]] = ()


@dataclass(slots=True)
class Allowance:
    """How many reports of one kind may still go out.

    Args:
        clock: seconds, monotonic.
    """

    clock: Callable[[], float] = time.monotonic
    _left: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    def take(self, kind: str, place: str) -> bool:
        """Whether one more may go out now."""
        now = self.clock()
        left, since = self._left.pop((kind, place), (float(BURST), now))
        left = min(float(BURST), left + (now - since) / INTERVAL_S)
        granted = left >= 1.0
        self._left[kind, place] = (left - 1.0 if granted else left, now)
        if len(self._left) > _KINDS_KEPT:
            del self._left[next(iter(self._left))]
        return granted


class _State:
    on = False
    allowance = Allowance()
    handler: logging.Handler | None = None


def scrub(event: Any, _hint: Any = None) -> Any:
    """Return what may be sent of an event, transaction or span (R7.20)."""
    return redaction.tree(event, email=lambda _: _EMAIL_LEFT_OUT, untouched=_SOURCE)


def start(settings: Settings, **options: Any) -> None:
    """Begin to report, if there is a DSN; a DSN that cannot be used is logged, not fatal (R0.10).

    Args:
        settings: of the process.
        options: of the SDK, over ours.
    """
    if not settings.sentry_dsn:
        return
    import sentry_sdk  # only with a DSN: it costs 30 MiB
    from sentry_sdk.integrations.excepthook import ExcepthookIntegration

    try:
        sentry_sdk.init(
            **{
                "dsn": settings.sentry_dsn,
                "environment": settings.sentry_environment or settings.node_env,
                "release": settings.sentry_release or f"{settings.service_name}@{settings.version}",
                "server_name": settings.service_name,
                "traces_sample_rate": settings.sentry_traces_sample_rate,
                "profiles_sample_rate": settings.sentry_profiles_sample_rate,
                "default_integrations": False,
                "auto_enabling_integrations": False,
                "integrations": [ExcepthookIntegration()],
                "include_local_variables": False,
                "max_request_body_size": "never",
                "max_breadcrumbs": 0,
                "auto_session_tracking": False,
                "propagate_traces": False,
                "in_app_include": ["system"],
                "shutdown_timeout": FLUSH_S,
                # What every receiver understands; the SDK prefers Brotli where it is installed.
                "_experiments": {"transport_compression_algo": "gzip"},
                "before_send": scrub,
                "before_send_transaction": scrub,
                **options,
            }
        )
    except Exception as error:
        _log.warning("errors are not reported, SENTRY_DSN cannot be used: %s", type(error).__name__)
        return
    _State.on = True
    _State.handler = _Logged(logging.ERROR)
    logging.getLogger().addHandler(_State.handler)


def stop() -> None:
    """Send what waits, within 2 s, and report no more."""
    if not _State.on:
        return
    import sentry_sdk

    _State.on = False
    if _State.handler is not None:
        logging.getLogger().removeHandler(_State.handler)
        _State.handler = None
    client = sentry_sdk.get_client()
    client.close(timeout=FLUSH_S)


def is_on() -> bool:
    """Whether errors are reported."""
    return _State.on


def report(error: BaseException, request: Request | None = None) -> None:
    """Report an error once, however often it is given; returns at once.

    Args:
        error: with its traceback and causes.
        request: during which it happened.
    """
    if not _State.on or getattr(error, _MARK, False):
        return
    with contextlib.suppress(AttributeError, TypeError):
        setattr(error, _MARK, True)
    place = f"{request.method} {request.route}" if request else ""
    if not _State.allowance.take(type(error).__name__, place):
        return
    import sentry_sdk

    with sentry_sdk.new_scope() as scope:
        context = correlation.known()
        if context is not None:
            scope.set_tag("correlation_id", context.correlation_id)
            if context.traceparent:
                scope.set_tag("traceparent", context.traceparent)
        if request is not None:
            scope.set_transaction_name(place)
            scope.set_tag("http.status", str(request.status))
            scope.add_event_processor(_adding(_described(request)))
        sentry_sdk.capture_exception(error)


def _described(request: Request) -> Mapping[str, Any]:
    return {
        "method": request.method,
        "url": request.url or request.route,
        "query_string": request.query,
        "headers": dict(request.headers),
    }


def _adding(request: Mapping[str, Any]) -> Callable[[Any, Any], Any]:
    def add(event: Any, _hint: Any) -> Any:
        event["request"] = dict(request)
        return event

    return add


class _Logged(logging.Handler):
    """Reports what is logged as an error with its exception."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            report(record.exc_info[1])


class Performance:
    """One request as a Sentry transaction; a context around its handling."""

    __slots__ = ("_scopes", "_transaction")

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._scopes = contextlib.ExitStack()

    def __enter__(self) -> Performance:
        import sentry_sdk

        # A scope of its own: requests run at the same time.
        self._scopes.enter_context(sentry_sdk.new_scope())
        self._scopes.enter_context(self._transaction)
        return self

    def answered(self, name: str, status: int) -> None:
        """Say what it was, before the context is left."""
        self._transaction.name = name
        self._transaction.set_http_status(status)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._scopes.__exit__(kind, error, trace)


def performance(method: str) -> Performance | None:
    """Begin to measure a request for Sentry; None when there is no DSN (R7.19).

    The SDK decides whether this one is sampled.
    """
    if not _State.on:
        return None
    import sentry_sdk
    from sentry_sdk.tracing import Transaction

    transaction = sentry_sdk.start_transaction(op="http.server", name=method, source="route")
    # Without a client the SDK gives a span that does nothing.
    return Performance(transaction) if isinstance(transaction, Transaction) else None
