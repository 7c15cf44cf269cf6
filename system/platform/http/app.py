"""The one shape of a service's HTTP side: envelopes, errors, correlation, metrics, health, drain.

`create_app` makes the application of a service from its handlers, `run` serves it until SIGTERM.
Handlers return what `success`, `created` or `deleted` make, and raise `ApiError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
import uvicorn
from litestar import Litestar, Request, get
from litestar.datastructures import State
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.routes import HTTPRoute
from litestar.types import Receive, Scope, Send

from system.platform.config.settings import Settings
from system.platform.http import errors
from system.platform.http.client_address import client_address
from system.platform.http.dispatch import Dispatch
from system.platform.http.errors import ApiError
from system.platform.http.health import Check, Health
from system.platform.http.openapi import DOCUMENT_PATH, Described, document, operation_of
from system.platform.observability import (
    correlation,
    error_reports,
    logs,
    metrics,
    telemetry,
    tracing,
)
from system.platform.observability.correlation import RequestContext
from system.platform.security.litestar import header, internal_only

_log = logging.getLogger(__name__)

# R1.10
BODY_LIMIT: Final = 102_400
_DRAIN_LIMIT: Final = 10_485_760
_DRAIN_S: Final = 5.0
# R0.11
GRACE_S: Final = 10
# Longer than callers keep idle connections, so that none is closed under a request on its way.
_KEEP_ALIVE_S: Final = 75
# After SIGTERM, idle connections stay open until callers that keep theirs for 4 s or less, as the
# gateway does, have left by themselves: closing one could meet a request on its way.
_LEAVE_S: Final = 4.5
_LEAVE_POLL_S: Final = 0.02
_USER_AGENT_CHARACTERS: Final = 512
# What is asked every second by a clock is no news.
_QUIET: Final = frozenset(
    {"/health", "/health/live", "/health/ready", "/metrics", "/internal/keys"}
)

_encode: Final = msgspec.json.Encoder(enc_hook=str).encode
_decode: Final = msgspec.json.Decoder().decode
_decode_raw: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_JSON_TYPE: Final = re.compile(r"application/(?:[\w.+-]+\+)?json", re.IGNORECASE)
_PARAMETER: Final = re.compile(r"\{(\w+)(?::\w+)?\}")

Hook = Callable[[], Awaitable[None]]

# --- Answers ------------------------------------------------------------------------------------

_JSON_HEADERS: Final = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
)
_NO_STORE: Final = (b"cache-control", b"no-store")


class Reply:
    """An answer that is ready to be sent.

    Attributes:
        status: HTTP status.
        body: bytes of the body.
        headers: names in lower case.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        content_type: bytes | None = b"application/json",
    ) -> None:
        self.status = status
        self.body = body
        self.headers: list[tuple[bytes, bytes]] = [_NO_STORE]
        if content_type is not None:
            self.headers += (
                (b"content-type", content_type),
                (b"content-length", b"%d" % len(body)),
            )
        if headers:
            self.headers += [
                (name.lower().encode("latin-1"), value.encode("latin-1"))
                for name, value in headers.items()
            ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; the ASGI application that Litestar takes an answer to be."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})

    def to_asgi_response(self, **_: Any) -> Reply:
        """Return itself; Litestar asks this of what an exception handler returns."""
        return self


def success(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Answer with R1.1's envelope; `data` may be `msgspec.Raw` of JSON that is ready."""
    return Reply(status, b'{"success":true,"data":' + _encode(data) + b"}", headers)


def created(data: Any, headers: Mapping[str, str] | None = None) -> Reply:
    """Answer 201 with R1.1's envelope."""
    return success(data, 201, headers)


def deleted() -> Reply:
    """Answer a DELETE that succeeded (R1.3)."""
    return Reply(204, content_type=None)


def failure(error: ApiError) -> Reply:
    """Answer with R1.2's envelope."""
    return Reply(error.status, _encode(error.body()), error.headers)


# --- Requests -----------------------------------------------------------------------------------


async def raw_body(request: Request[Any, Any, Any], limit: int = BODY_LIMIT) -> bytes:
    """Read the whole body.

    Args:
        request: whose body was not read before.
        limit: bytes.

    Raises:
        ApiError: 413 PAYLOAD_TOO_LARGE (R1.10).
    """
    declared = request.headers.get("content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise errors.payload_too_large(limit)
    parts: list[bytes] = []
    size = 0
    receive = request.receive
    while True:
        message = await receive()
        if message["type"] != "http.request":
            # The client went away in the middle; nobody will see the answer.
            raise errors.bad_request("The request ended before its body did")
        part = message.get("body", b"")
        if part:
            size += len(part)
            if size > limit:
                raise errors.payload_too_large(limit)
            parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def json_body(
    request: Request[Any, Any, Any], limit: int = BODY_LIMIT, *, exact: Sequence[str] = ()
) -> dict[str, Any]:
    """Read the body as a JSON object; an empty one, or one of another media type, is absent.

    Args:
        request: whose body was not read before.
        limit: bytes.
        exact: members whose numbers are read as they are written, as Decimals (R1.102).

    Raises:
        ApiError: 413 PAYLOAD_TOO_LARGE (R1.10), 400 INVALID_JSON (R1.9).
    """
    return json_of(request, await raw_body(request, limit), exact=exact)


def json_of(
    request: Request[Any, Any, Any], body: bytes, *, exact: Sequence[str] = ()
) -> dict[str, Any]:
    """Do what `json_body` does with a body that has been read, such as a signed one.

    Raises:
        ApiError: 400 INVALID_JSON (R1.9).
    """
    if not body:
        return {}
    media_type = request.headers.get("content-type", "").partition(";")[0].strip()
    if _JSON_TYPE.fullmatch(media_type) is None:
        return {}
    values = parse_object(body)
    for name in exact:
        # A float has forgotten digits beyond the sixteenth; the text of the body has them.
        if isinstance(values.get(name), float):
            values[name] = Decimal(bytes(_decode_raw(body)[name]).decode())
    return values


def parse_object(body: bytes) -> dict[str, Any]:
    """Read bytes as a JSON object.

    Raises:
        ApiError: 400 INVALID_JSON (R1.9).
    """
    try:
        value = _decode(body)
    except (ValueError, RecursionError) as error:
        raise errors.invalid_json() from error
    if not isinstance(value, dict):
        raise errors.invalid_json()
    return value


@lru_cache(maxsize=4096)
def _read_query(query_string: bytes) -> tuple[tuple[str, Any], ...]:
    values: dict[str, Any] = {}
    for name, value in parse_qsl(query_string.decode("latin-1"), keep_blank_values=True):
        if name in values:
            # A parameter given twice is a list, which no field takes: 400 rather than a guess.
            known = values[name]
            values[name] = [*known, value] if isinstance(known, list) else [known, value]
        else:
            values[name] = value
    return tuple(values.items())


def query(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Return the query parameters, decoded; one that occurs twice is a list."""
    return query_of(request.scope["query_string"])


def query_of(query_string: bytes) -> dict[str, Any]:
    """Do what `query` does with the text of the parameters."""
    return dict(_read_query(query_string)) if query_string else {}


def wants_fresh(request: Request[Any, Any, Any]) -> bool:
    """Say whether the caller asks for an answer from the database (R6.3)."""
    wish = header(request, b"cache-control")
    return wish is not None and "no-cache" in wish.lower()


# --- The outermost layer ------------------------------------------------------------------------


def route_label(template: str) -> str:
    """Return a route template as R7.12 writes it: `/payments/{id:str}` is `/payments/:id`."""
    return _PARAMETER.sub(r":\1", template)


class _Body:
    """Watches a request's body go by, so that what nobody read can be read before the end."""

    __slots__ = ("_receive", "awaits_go_ahead", "declared", "ended", "touched")

    def __init__(self, receive: Receive, declared: int | None, *, awaits_go_ahead: bool) -> None:
        self._receive = receive
        self.declared = declared
        self.awaits_go_ahead = awaits_go_ahead
        self.touched = False
        self.ended = False

    async def __call__(self) -> Any:
        self.touched = True
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.ended = True
        return message

    @property
    def will_come(self) -> bool:
        """Whether the client sends a body without being told to go ahead."""
        return self.touched or not self.awaits_go_ahead

    @property
    def must_close(self) -> bool:
        """Whether the connection cannot go on after an answer at this moment."""
        if self.ended:
            return False
        return not self.will_come or self.declared is None or self.declared > BODY_LIMIT

    async def drain(self) -> None:
        """Read on, at most 10 MB and 5 s, so that the answer reaches a client still sending."""
        seen = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while not self.ended and self.will_come and seen < _DRAIN_LIMIT:
                    message = await self()
                    seen += len(message.get("body", b""))


class _Outermost:
    """Wraps the dispatch: context, correlation header, metrics, errors, unread bodies.

    Args:
        dispatch: finds the handler and calls it.
        trusted: TRUSTED_PROXIES.
        public_prefixes: how the outside names a path prefix of ours, for R1.11.
    """

    def __init__(
        self, dispatch: Dispatch, trusted: frozenset[str], public_prefixes: Mapping[str, str]
    ) -> None:
        self._dispatch = dispatch
        self._trusted = trusted
        self._public_prefixes = tuple(public_prefixes.items())
        self._labels: dict[str, str] = {}
        self._leaving = False

    def leave(self) -> None:
        """From now on each answer asks the caller to close its connection."""
        self._leaving = True

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        started = time.perf_counter()
        correlation_id = request_id = user_agent = traceparent = tracestate = length = None
        forwarded: list[str] = []
        chunked = waits = False
        host = b""
        for name, value in scope["headers"]:
            if name == b"x-correlation-id":
                correlation_id = value.decode("latin-1")
            elif name == b"host":
                host = value
            elif name == b"x-request-id":
                request_id = value.decode("latin-1")
            elif name == b"x-forwarded-for":
                forwarded.append(value.decode("latin-1"))
            elif name == b"user-agent":
                user_agent = value.decode("latin-1")[:_USER_AGENT_CHARACTERS]
            elif name == b"traceparent":
                traceparent = value.decode("latin-1")
            elif name == b"tracestate":
                tracestate = correlation.tracestate(value.decode("latin-1"))
            elif name == b"content-length":
                length = value
            elif name == b"transfer-encoding":
                chunked = True
            elif name == b"expect":
                waits = value.lower() == b"100-continue"
        peer = scope["client"][0] if scope.get("client") else None
        accepted = correlation.accept(correlation_id, request_id)
        span = None
        if tracing.is_on() and scope["path"] not in _QUIET:
            span = tracing.enter(scope["method"], tracing.Kind.SERVER, traceparent, accepted)
        context = RequestContext(
            accepted,
            client_address(peer, forwarded, self._trusted),
            user_agent,
            traceparent if span is None else span.traceparent,
            tracestate,
        )
        scope["raw_target"] = self._outside_path(scope, peer)
        body: _Body | None = None
        if chunked or (length is not None and length != b"0"):
            declared = int(length) if length is not None and length.isdigit() else None
            body = _Body(receive, declared, awaits_go_ahead=waits)
            receive = body
        header = (b"x-correlation-id", context.correlation_id.encode("latin-1"))
        status = 0

        async def answer(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], header]
                if self._leaving or (body is not None and body.must_close):
                    headers.append((b"connection", b"close"))
                message["headers"] = headers
            elif body is not None and not body.ended and not message.get("more_body", False):
                await send(
                    {
                        "type": "http.response.body",
                        "body": message.get("body", b""),
                        "more_body": True,
                    }
                )
                await body.drain()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        token = correlation.bind(context)
        current = tracing.make_current(span)
        performance = error_reports.performance(scope["method"])
        metrics.HTTP_ACTIVE_CONNECTIONS.inc()
        try:
            with performance or contextlib.nullcontext():
                try:
                    await self._dispatch(scope, receive, answer, host)
                except Exception as error:
                    if status:
                        raise
                    await reply_to(error, scope)(scope, receive, answer)
                if performance is not None:
                    performance.answered(f"{scope['method']} {self._label(scope)}", status)
        finally:
            seconds = time.perf_counter() - started
            metrics.HTTP_ACTIVE_CONNECTIONS.dec()
            label = self._label(scope)
            # Status 0: the task was ended before an answer, at shutdown.
            metrics.observe_request(scope["method"], label, status or 499, seconds)
            if label not in _QUIET:
                logs.request(scope["method"], label, status or 499, seconds)
            tracing.leave(current)
            if span is not None:
                tracing.answered(
                    span,
                    scope["method"],
                    label,
                    status or 499,
                    correlation.accept(request_id, accepted),
                )
            correlation.unbind(token)

    def _label(self, scope: Any) -> str:
        template = scope.get("path_template")
        if template is None:
            return metrics.UNMATCHED
        label = self._labels.get(template)
        if label is None:
            label = self._labels[template] = route_label(template)
        return label

    def _outside_path(self, scope: Any, peer: str | None) -> str:
        """Return the path as the caller knows it, without the query (R0.5, R1.11)."""
        raw = scope.get("raw_path")
        path: str = raw.decode("latin-1") if raw else scope["path"]
        path = path.partition("?")[0]
        if self._public_prefixes and peer in self._trusted:
            for ours, public in self._public_prefixes:
                if path == ours or path.startswith(ours + "/"):
                    return public + path[len(ours) :]
        return path


def reply_to(error: Exception, scope: Any) -> Reply:
    """Turn what a handler or the router raised into the agreed answer (R1.8-R1.15)."""
    if isinstance(error, ApiError):
        if error.status >= 500:
            _report(error, scope, error.status)
        return failure(error)
    if isinstance(error, NotFoundException | MethodNotAllowedException):
        return failure(errors.not_found(scope["method"], scope["raw_target"]))
    if isinstance(error, ValidationException):
        return failure(errors.validation(_litestar_issues(error)))
    if isinstance(error, HTTPException) and 400 <= error.status_code < 500:
        return failure(errors.bad_request())
    _report(error, scope, 500)
    _log.exception("unexpected error", exc_info=error)
    return failure(errors.internal_error())


def _report(error: Exception, scope: Any, status: int) -> None:
    """Tell Sentry about an answer of 500 or more (R7.19)."""
    if not error_reports.is_on():
        return
    error_reports.report(
        error,
        error_reports.Request(
            scope["method"],
            route_label(scope.get("path_template") or metrics.UNMATCHED),
            status,
            scope["raw_target"],
            scope["query_string"].decode("latin-1"),
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]],
        ),
    )


def _litestar_issues(error: ValidationException) -> list[dict[str, Any]]:
    extra = error.extra if isinstance(error.extra, list) else []
    return [
        {
            "path": [str(item.get("key", ""))],
            "code": "invalid_type",
            "message": str(item.get("message", "Invalid value")),
        }
        for item in extra
        if isinstance(item, dict)
    ] or [{"path": [], "code": "custom", "message": "Invalid value"}]


def _on_exception(request: Request[Any, Any, Any], error: Exception) -> Any:
    return reply_to(error, request.scope)


# --- Application --------------------------------------------------------------------------------


def create_app(
    settings: Settings,
    route_handlers: Sequence[Any],
    *,
    checks: Mapping[str, Check],
    essential: Collection[str] = ("database",),
    on_startup: Sequence[Hook] = (),
    on_shutdown: Sequence[Hook] = (),
    state: Mapping[str, Any] | None = None,
    public_prefixes: Mapping[str, str] | None = None,
) -> Litestar:
    """Make a service's application.

    Args:
        settings: of the process.
        route_handlers: Litestar's; each returns a `Reply`.
        checks: readiness by dependency (R1.55).
        essential: the dependencies without which the service is not ready (R1.56).
        on_startup: called in order before the first request; they must not fail for want of a
            dependency (R0.10).
        on_shutdown: called in order after the last request.
        state: becomes `app.state`.
        public_prefixes: for messages that name a path (R1.11): `{"/auth": "/api/auth"}`.

    Returns:
        The ASGI application.
    """
    health = Health(settings.service_name, checks, essential)
    watching: list[asyncio.Task[None]] = []

    async def watch() -> None:
        watching.append(asyncio.create_task(metrics.watch_event_loop(), name="event-loop-lag"))

    async def stop_watching() -> None:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)

    app = Litestar(
        [*route_handlers, *_own_routes(health), _description(settings, lambda: app)],
        exception_handlers={Exception: _on_exception},
        on_startup=[watch, *on_startup],
        on_shutdown=[*on_shutdown, stop_watching],
        openapi_config=None,
        logging_config=None,
        debug=False,
        request_max_body_size=None,
        # The services' own objects are shared on purpose.
        state=State(dict(state or {}), deep_copy=False),
    )
    app.asgi_handler = _Outermost(
        Dispatch(app), settings.trusted_proxies, dict(public_prefixes or {})
    )
    return app


def _own_routes(health: Health) -> list[Any]:
    @get("/health")
    async def healthy() -> Reply:
        return success(health.healthy())

    @get("/health/live")
    async def alive() -> Reply:
        return success(health.alive())

    @get("/health/ready")
    async def ready() -> Reply:
        return success(await health.ready())

    @get("/metrics")
    async def exposition() -> Reply:
        text, content_type = metrics.render()
        return Reply(200, text, content_type=content_type.encode())

    return [healthy, alive, ready, exposition]


def described_routes(app: Litestar) -> list[Described]:
    """Return the routes of an application that say what they take and give."""
    return [
        Described(method, route.path, handler.fn.__name__, operation)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if (operation := operation_of(handler.fn)) is not None
        for method in sorted(handler.http_methods)
    ]


def _description(settings: Settings, app: Callable[[], Litestar]) -> Any:
    """Serve the API description to the gateway (R1.154); written at the first request."""
    written: list[Reply] = []

    @get(DOCUMENT_PATH, guards=[internal_only(settings.internal_service_token)])
    async def description() -> Reply:
        if not written:
            tag = settings.service
            written.append(Reply(200, _encode(document(described_routes(app()), tag))))
        return written[0]

    return description


class _Server(uvicorn.Server):
    """Ends with exit code 0 on SIGTERM (R0.11), where uvicorn would raise the signal once more.

    At SIGTERM it accepts no new connection, and callers leave those they have: one in use after
    its next answer, an idle one by itself. So no request is lost when another instance serves on.

    Args:
        config: uvicorn's.
        leave: called when callers are to leave.
    """

    def __init__(self, config: uvicorn.Config, leave: Callable[[], None]) -> None:
        super().__init__(config)
        self._leave = leave

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let callers leave, then finish what is in flight; `GRACE_S` seconds together."""
        began = time.monotonic()
        for server in self.servers:
            server.close()
        self._leave()
        await self._emptied(began + _LEAVE_S)
        self.config.timeout_graceful_shutdown = max(1, round(began + GRACE_S - time.monotonic()))
        await super().shutdown(sockets)

    async def _emptied(self, deadline: float) -> None:
        connections = self.server_state.connections
        while connections and not self.force_exit and time.monotonic() < deadline:
            for connection in list(connections):
                if _idle_for(connection) > _LEAVE_S:
                    connection.shutdown()
            await asyncio.sleep(_LEAVE_POLL_S)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def _idle_for(connection: Any) -> float:
    """Seconds since a connection's last answer; 0 while a request is under way or none came yet."""
    timer = connection.timeout_keep_alive_task
    if timer is None or timer.cancelled():
        return 0.0
    return float(_KEEP_ALIVE_S - (timer.when() - asyncio.get_running_loop().time()))


def run(app: Litestar, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is in flight, at most `GRACE_S` seconds."""
    config = uvicorn.Config(
        app,
        host=settings.bind_address,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        backlog=2048,
    )
    config.load()
    # What was imported so far lives as long as the process; no collection need look at it again.
    gc.collect()
    gc.freeze()
    outermost = app.asgi_handler
    assert isinstance(outermost, _Outermost)
    telemetry.start(settings)
    try:
        _Server(config, outermost.leave).run()
    finally:
        telemetry.stop()
