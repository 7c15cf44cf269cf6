"""What every request passes on its way in and out: context, metrics, errors, unread bodies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.types import Receive, Send

from system.platform.http import errors
from system.platform.http.client_address import client_address
from system.platform.http.dispatch import Dispatch
from system.platform.http.errors import ApiError
from system.platform.http.replies import Reply, failure
from system.platform.http.requests import BODY_LIMIT
from system.platform.observability import correlation, error_reports, logs, metrics, tracing
from system.platform.observability.correlation import RequestContext

_log = logging.getLogger(__name__)
_DRAIN_LIMIT: Final = 10_485_760
_DRAIN_S: Final = 5.0
_USER_AGENT_CHARACTERS: Final = 512
# What is asked every second by a clock is no news.
_QUIET: Final = frozenset(
    {"/health", "/health/live", "/health/ready", "/metrics", "/internal/keys"}
)
_PARAMETER: Final = re.compile(r"\{(\w+)(?::\w+)?\}")


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


class Outermost:
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
