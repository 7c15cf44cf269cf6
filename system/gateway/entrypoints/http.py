"""Takes every request of the gateway's port and leads it to where it is answered (1.6-1.9)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import web
from aiohttp.http import RawRequestMessage

from system.gateway.adapters.upstream import Upstream
from system.gateway.domain.paths import UnusablePath, escape, normalise, split_target
from system.gateway.domain.routes import RouteTable, Service
from system.gateway.entrypoints import answers, proxy
from system.gateway.entrypoints.call import Call
from system.gateway.entrypoints.websocket import WebSocketEntry, is_upgrade
from system.gateway.service.admission import AdmissionService
from system.platform.http import errors
from system.platform.http.errors import ApiError
from system.platform.http.health import Health
from system.platform.observability import correlation, error_reports, metrics, tracing

log = logging.getLogger(__name__)

WEBSOCKET_PATH: Final = "/ws"
METRICS_PATH: Final = "/metrics"

Local = Callable[[Call], Awaitable[answers.Sent]]


class HttpEntry:
    """The gateway's one handler.

    Args:
        table: the public routes.
        upstreams: the services.
        admission: limits, tokens, roles.
        websocket: the handshake of `/ws`.
        health: of this process.
        trusted_proxies: R1.40.
        cors_origins: R1.46.
        pages: what the gateway answers itself and counts, by method and path.
    """

    def __init__(
        self,
        *,
        table: RouteTable,
        upstreams: dict[Service, Upstream],
        admission: AdmissionService,
        websocket: WebSocketEntry,
        health: Health,
        trusted_proxies: frozenset[str],
        cors_origins: frozenset[str],
        pages: Mapping[tuple[str, str], Local] | None = None,
    ) -> None:
        self._table = table
        self._pages = dict(pages or {})
        self._page_paths = frozenset(path for _, path in self._pages)
        self._upstreams = upstreams
        self._admission = admission
        self._websocket = websocket
        self._health = health
        self._trusted = trusted_proxies
        self._origins = cors_origins
        self._local: dict[str, Local] = {
            "/health": self._healthy,
            "/health/live": self._alive,
            "/health/ready": self._ready,
            METRICS_PATH: self._metrics,
        }
        self._in_flight = 0
        self._leaving = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; nothing it does ends the process (R0.10)."""
        call = Call(request, self._trusted, self._origins)
        if self._leaving:
            call.keep_alive = False
        correlation.bind(call.context())
        tracing.make_current(call.span)
        metrics.HTTP_ACTIVE_CONNECTIONS.inc()
        self._in_flight += 1
        self._idle.clear()
        try:
            # A WebSocket lasts; it is no request to be measured.
            performance = None if is_upgrade(request) else error_reports.performance(request.method)
            if performance is None:
                return await self._guarded(call)
            with performance:
                answer = await self._guarded(call)
                performance.answered(f"{request.method} {call.template}", call.status)
                return answer
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    def leave(self) -> None:
        """From now on each answer asks the client to close its connection."""
        self._leaving = True

    async def idle(self) -> None:
        """Wait until no request is under way and no WebSocket open."""
        await self._idle.wait()

    async def _guarded(self, call: Call) -> web.StreamResponse:
        """Turn every failure into its answer, count it, and read on where R1.10 asks for it."""
        try:
            try:
                answer = await self._dispatch(call)
            except ApiError as error:
                if error.status >= 500:
                    call.report(error, error.status)
                answer = await call.refuse(error)
            except ConnectionError:
                raise
            except Exception as error:
                call.report(error, 500)
                log.exception("unexpected error")
                if call.status:
                    # Half an answer is sent; its end must not look like the end of it.
                    if call.request.transport is not None:
                        call.request.transport.abort()
                    return answers.SENT_CLOSE
                answer = await call.refuse(errors.internal_error())
        finally:
            if call.status != 101:
                metrics.HTTP_ACTIVE_CONNECTIONS.dec()
                call.observe()
        request = call.request
        if call.status != 101 and not request.content.is_eof() and not _withheld(request):
            await answers.read_on(request)
        return answer

    async def _dispatch(self, call: Call) -> web.StreamResponse:
        request = call.request
        headers = request.headers
        if request.version.minor and len(headers.getall("Host", ())) != 1:
            call.keep_alive = False
            raise ApiError(400, "BAD_REQUEST", "Exactly one Host header is required")
        raw_path, query = split_target(request.raw_path)
        try:
            path = normalise(raw_path)
        except UnusablePath:
            path = ""
        method = request.method
        local = self._local.get(path)
        upgrade = is_upgrade(request)
        if local is not None and method == "GET" and not upgrade:
            call.template = path
            return await local(call)
        quota = await self._admission.count(call.address)
        if quota is not None:
            call.counted(quota)
            if quota.exceeded:
                metrics.RATE_LIMIT_REJECTIONS_TOTAL.labels("general").inc()
                raise errors.rate_limit_exceeded(quota.resets_in_s)
        if raw_path == WEBSOCKET_PATH and method == "GET":
            return await self._handshake(call, query, upgrade)
        if upgrade:
            raise errors.not_found(method, raw_path)  # R4.1
        page = self._pages.get((method, path))
        if page is not None:
            call.template = path
            return await page(call)
        return await self._proxied(call, method, raw_path, path, query)

    async def _proxied(
        self, call: Call, method: str, raw_path: str, path: str, query: str
    ) -> web.StreamResponse:
        if method == "OPTIONS":
            own = path in self._local or path in self._page_paths
            if own or self._table.knows(path) or raw_path == "*":
                return await call.preflight()
            raise errors.not_found(method, raw_path)
        route = self._table.find(method, path) if path else None
        if route is None:
            raise errors.not_found(method, raw_path)
        call.template = route.template
        if route.credential:
            wait = await self._admission.attempt(call.address)
            if wait is not None:
                metrics.RATE_LIMIT_REJECTIONS_TOTAL.labels("credential").inc()
                raise errors.rate_limit_exceeded(wait)
        await self._admission.authorise(
            route.access, call.request.headers.getall("Authorization", ())
        )
        return await proxy.forward(
            call, self._upstreams[route.service], escape(route.service_path(path)), query
        )

    async def _handshake(self, call: Call, query: str, upgrade: bool) -> web.StreamResponse:
        call.template = WEBSOCKET_PATH
        if not upgrade:
            raise ApiError(400, "BAD_REQUEST", "This path takes WebSocket handshakes only")
        if self._leaving:  # its end would follow at once
            raise errors.service_unavailable()
        try:
            return await self._websocket.upgrade(call, query)
        except ApiError as error:
            metrics.WEBSOCKET_REJECTED_TOTAL.labels(error.code).inc()
            raise

    # Answers of the gateway itself

    async def _healthy(self, call: Call) -> answers.Sent:
        return await call.success(self._health.healthy())

    async def _alive(self, call: Call) -> answers.Sent:
        return await call.success(self._health.alive())

    async def _ready(self, call: Call) -> answers.Sent:
        return await call.success(await self._health.ready())

    async def _metrics(self, call: Call) -> answers.Sent:
        text, content_type = metrics.render()
        return await call.body(
            200, text, (b"Content-Type: " + content_type.encode(), answers.NO_STORE)
        )


def _withheld(request: web.BaseRequest) -> bool:
    """Whether the client still waits to be asked for its body (RFC 9110, 10.1.1)."""
    return (
        request.headers.get("Expect", "").lower() == "100-continue"
        and request.content.total_bytes == 0
    )


class _Protocol(web.RequestHandler):
    """aiohttp's connection, with errors in our form (R1.4)."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Parse; what breaks in a body also ends the request that is reading it.

        aiohttp queues the parser's error as the next message and leaves the present request
        waiting for a body that cannot come.
        """
        super().data_received(data)
        request = self._current_request
        if request is None or not self._messages or request.content.is_eof():
            return
        if not isinstance(self._messages[-1][0], RawRequestMessage):
            request.content.set_exception(web.RequestPayloadError("malformed body"))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what was not HTTP, or an error that escaped the handler; then close.

        Raises:
            ConnectionResetError: an answer is under way, or the client is gone, which is no error.
        """
        transport = request.transport
        gone = transport is None or (transport.is_closing() and isinstance(exc, ConnectionError))
        if gone or request.writer.output_size > 0:
            raise ConnectionResetError("client is gone, or has half an answer")
        if status == 400:
            error = ApiError(400, "BAD_REQUEST", "Request is malformed")
            # Neither the bytes nor the parser's message, which repeats them: both may hold a token.
            log.info("malformed request", extra={"fields": {"kind": type(exc).__name__}})
            metrics.observe_request(metrics.OTHER, metrics.UNMATCHED, 400, 0.0)
        else:
            error = errors.internal_error()
            log.error("error outside of the handler", exc_info=exc)
        response = web.Response(
            body=answers.json(error.body()),
            status=error.status,
            content_type="application/json",
            headers={
                "X-Correlation-ID": correlation.accept(None),
                "Cache-Control": "no-store",
                "Server": "gateway",
            },
        )
        response.force_close()
        return response


class GatewayServer(web.Server):
    """aiohttp's server with our connections.

    Args:
        handler: answers each request.
        options: for each connection.
    """

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], **options: Any
    ) -> None:
        super().__init__(handler, handler_cancellation=True)
        self._options = options
        self._lost = asyncio.Event()

    async def deserted(self) -> None:
        """Wait until no connection is left."""
        while self.connections:
            self._lost.clear()
            await self._lost.wait()

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Let who waits for it look again."""
        super().connection_lost(handler, exc)
        if (task := handler._task_handler) is not None:  # it counts until its handler has ended
            task.add_done_callback(lambda _: self._lost.set())
        self._lost.set()

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        return _Protocol(self, loop=self._loop, **self._options)


# The edge keeps its connections for 60 s; whoever closes first must be the edge.
CONNECTION_OPTIONS: Final[dict[str, Any]] = {
    "keepalive_timeout": 75.0,
    "access_log": None,
    "auto_decompress": False,  # bodies pass as they are
    "lingering_time": 0.0,  # `answers.read_on` does it within the bounds of R1.10
    "max_line_size": 16_384,
    "max_field_size": 16_384,
}


def make_server(entry: HttpEntry) -> GatewayServer:
    """The server for an entry; needs a running loop."""
    return GatewayServer(entry.handle, **CONNECTION_OPTIONS)
