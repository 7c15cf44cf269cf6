"""One request on its way through the gateway: what is known about it, and how it is answered."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any, Final

from aiohttp import web

from system.gateway.domain.forwarding import trace_context
from system.gateway.domain.limits import Quota
from system.gateway.entrypoints import answers
from system.platform.http.client_address import client_address
from system.platform.http.errors import ApiError
from system.platform.observability import correlation, error_reports, logs, metrics, tracing
from system.platform.observability.correlation import RequestContext

ALLOWED_METHODS: Final = b"GET,POST,PUT,PATCH,DELETE,OPTIONS"
ALLOWED_HEADERS: Final = (
    b"Content-Type, Authorization, X-Request-ID, X-Correlation-ID, X-Device-ID, "
    b"X-Token-Transport, Idempotency-Key, Cache-Control, X-Requested-With, Accept, "
    b"traceparent, tracestate"
)
EXPOSED_HEADERS: Final = (
    b"X-Request-ID, X-Correlation-ID, X-Cache, Retry-After, RateLimit-Limit, "
    b"RateLimit-Remaining, RateLimit-Reset, Idempotency-Replayed"
)
# Asked for again and again by machines; a trace of them tells nothing.
QUIET: Final = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
_HOST: Final = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")


class Call:
    """The request, and the header lines every answer to it carries.

    Attributes:
        request: as aiohttp gives it.
        correlation_id: R7.16.
        address: of the client (R1.40).
        trusted: whether the peer is one of TRUSTED_PROXIES.
        origin: the `Origin`, if it is on the list of R1.46, else None.
        foreign_origin: whether there is an `Origin` that is not on the list.
        template: label of the metrics (R7.12).
        status: of the answer, 0 before there is one.
        span: of the request, None while tracing is off (R7.18).
    """

    __slots__ = (
        "_quota",
        "_traceparent",
        "address",
        "correlation_id",
        "foreign_origin",
        "keep_alive",
        "origin",
        "request",
        "span",
        "started",
        "status",
        "template",
        "trusted",
    )

    def __init__(
        self, request: web.BaseRequest, trusted: frozenset[str], origins: frozenset[str]
    ) -> None:
        self.started = time.perf_counter()
        self.request = request
        self.template = metrics.UNMATCHED
        self.status = 0
        self.keep_alive = request.keep_alive
        headers = request.headers
        self.correlation_id = correlation.accept(
            headers.get("X-Correlation-ID"), headers.get("X-Request-ID")
        )
        self.span = tracing.enter(
            request.method,
            tracing.Kind.SERVER,
            headers.get("traceparent"),
            self.correlation_id,
        )
        peer = request.remote or ""
        if peer in trusted:
            self.trusted = True
            peer = client_address(peer, headers.getall("X-Forwarded-For", ()), trusted) or peer
        else:
            self.trusted = False
            if ":" in peer:
                # An IPv4-mapped peer may be a trusted one in its other spelling.
                self.trusted = (client_address(peer, (), frozenset()) or peer) in trusted
                forwarded: Iterable[str] = headers.getall("X-Forwarded-For", ())
                peer = client_address(peer, forwarded, trusted) or peer
        self.address = peer
        origin = headers.get("Origin")
        self.origin = origin if origin in origins else None
        self.foreign_origin = origin is not None and self.origin is None
        self._quota: Quota | None = None
        self._traceparent: str | None = None

    def context(self) -> RequestContext:
        """What log lines and everything caused by this request carry (R7.17)."""
        headers = self.request.headers
        return RequestContext(
            self.correlation_id,
            self.address,
            None,
            self.traceparent(),
            correlation.tracestate(headers.get("tracestate")),
        )

    def traceparent(self) -> str:
        """The trace context of what this request causes.

        Its span's; while tracing is off the client's, or a new one if that is none.
        """
        if self.span is not None:
            return self.span.traceparent
        if self._traceparent is None:
            given = self.request.headers.get("traceparent")
            self._traceparent = trace_context(
                given.encode("utf-8", "surrogateescape") if given else None
            ).decode()
        return self._traceparent

    def counted(self, quota: Quota) -> None:
        """Show the client's quota on the answer (R1.42)."""
        self._quota = quota

    def lines(self) -> list[bytes]:
        """The headers of every answer: correlation, quota, CORS (R7.16, R1.42, R1.46, R1.47)."""
        lines = [b"X-Correlation-ID: " + self.correlation_id.encode()]
        if self._quota is not None:
            lines += [f"{name}: {value}".encode() for name, value in self._quota.headers()]
        if self.origin is not None:
            lines += (
                b"Access-Control-Allow-Origin: " + self.origin.encode(),
                b"Access-Control-Allow-Credentials: true",
                b"Access-Control-Expose-Headers: " + EXPOSED_HEADERS,
                b"Vary: Origin",
            )
        return lines

    def forwarded(self) -> tuple[bytes, bytes]:
        """Scheme and host that the client used, as far as they can be believed (R1.52)."""
        headers = self.request.headers
        scheme, host = "http", headers.get("Host", "")
        if self.trusted:
            said = headers.get("X-Forwarded-Proto")
            if said in ("http", "https"):
                scheme = said
            host = headers.get("X-Forwarded-Host", host)
        if not _HOST.fullmatch(host):
            host = ""
        return scheme.encode(), host.encode()

    # Answers

    async def success(self, data: Any, status: int = 200) -> answers.Sent:
        """Answer with the envelope of R1.1."""
        return await self.body(
            status, answers.json({"success": True, "data": data}), (answers.JSON, answers.NO_STORE)
        )

    async def refuse(self, error: ApiError) -> answers.Sent:
        """Answer with the envelope of R1.2."""
        lines = [answers.JSON, answers.NO_STORE]
        lines += [f"{name}: {value}".encode("latin-1") for name, value in error.headers.items()]
        return await self.body(error.status, answers.json(error.body()), lines)

    async def body(self, status: int, body: bytes, lines: Iterable[bytes]) -> answers.Sent:
        """Answer with these bytes and headers beside those of every answer."""
        self.status = status
        return await answers.whole(
            self.request, status, [*self.lines(), *lines], body, keep_alive=self.keep_alive
        )

    async def preflight(self) -> answers.Sent:
        """Answer OPTIONS (R1.46, R1.48)."""
        lines: tuple[bytes, ...] = ()
        if self.origin is not None:
            lines = (
                b"Access-Control-Allow-Methods: " + ALLOWED_METHODS,
                b"Access-Control-Allow-Headers: " + ALLOWED_HEADERS,
                b"Access-Control-Max-Age: 86400",
            )
        return await self.body(204, b"", (answers.NO_STORE, *lines))

    def observe(self) -> None:
        """Count the answered request and end its span (R7.2, R7.3, R7.18)."""
        seconds = time.perf_counter() - self.started
        method = self.request.method
        if self.status:
            metrics.observe_request(method, self.template, self.status, seconds)
            if self.template not in QUIET:
                logs.request(
                    method if method in metrics.METHODS else metrics.OTHER,
                    self.template,
                    self.status,
                    seconds,
                )
        if self.span is not None:
            # What a WebSocket does later belongs to no request.
            tracing.make_current(None)
            if self.template in QUIET:
                return
            tracing.answered(
                self.span,
                self.request.method,
                self.template,
                self.status or 499,
                correlation.accept(self.request.headers.get("X-Request-ID"), self.correlation_id),
            )

    def report(self, error: Exception, status: int) -> None:
        """Tell Sentry about an answer of 500 or more (R7.19)."""
        if not error_reports.is_on():
            return
        path, _, query = self.request.raw_path.partition("?")
        error_reports.report(
            error,
            error_reports.Request(
                self.request.method,
                self.template,
                status,
                path,
                query,
                list(self.request.headers.items()),
            ),
        )
