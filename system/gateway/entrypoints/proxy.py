"""Passes a request to its service and the response back, both as they come (R1.51-R1.53)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from aiohttp import web

from system.gateway.adapters.upstream import Upstream
from system.gateway.adapters.upstream_exchange import Exchange
from system.gateway.adapters.upstream_trouble import Silent, UpstreamTrouble
from system.gateway.domain.forwarding import request_headers, response_headers
from system.gateway.entrypoints import answers
from system.gateway.entrypoints.call import Call
from system.platform.http import errors
from system.platform.observability import tracing

log = logging.getLogger(__name__)

_NO_BODY = frozenset({204, 304})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


async def forward(call: Call, upstream: Upstream, path: str, query: str) -> answers.Sent:
    """Proxy one request.

    Args:
        call: the request.
        upstream: the service.
        path: at the service, escaped.
        query: with its question mark, as received.

    Raises:
        ApiError: 502, 504 or 400, as long as nothing of the answer is sent.
    """
    span = tracing.child(f"{call.request.method} {upstream.name}", tracing.Kind.CLIENT)
    tracing.describe(span, {"peer.service": upstream.name, "http.route": call.template})
    with tracing.within(span):
        return await _forward(call, upstream, path, query, span)


async def _forward(
    call: Call, upstream: Upstream, path: str, query: str, span: tracing.Span | None
) -> answers.Sent:
    request = call.request
    lines = _lines(call, call.traceparent() if span is None else span.traceparent)
    body, chunked = _body(call, lines)
    lines.append(b"")
    try:
        exchange = await upstream.send(
            request.method.encode(),
            (path + query).encode("utf-8", "surrogateescape"),
            b"\r\n".join(lines),
            body,
            chunked=chunked,
        )
    except Silent as trouble:
        log.warning("no answer in time", extra={"fields": {"reason": str(trouble)}})
        raise errors.gateway_timeout() from trouble
    except UpstreamTrouble as trouble:
        log.warning("no answer", extra={"fields": {"reason": str(trouble)}})
        raise errors.bad_gateway() from trouble
    except web.RequestPayloadError as error:
        call.keep_alive = False
        raise errors.ApiError(400, "BAD_REQUEST", "Request body is malformed") from error
    try:
        return await _answer(call, exchange)
    finally:
        exchange.finish()
        await exchange.upload_ended()


def _lines(call: Call, traceparent: str) -> list[bytes]:
    """The request's headers as the service sees them, without framing (R1.52)."""
    request = call.request
    connection = request.headers.getall("Connection", ())
    lines = request_headers(request.raw_headers, connection)
    scheme, host = call.forwarded()
    address = call.address.encode()
    lines += (
        b"X-Forwarded-For: " + address,
        b"X-Real-IP: " + address,
        b"X-Forwarded-Proto: " + scheme,
        b"X-Forwarded-Host: " + host,
        b"X-Correlation-ID: " + call.correlation_id.encode(),
        b"traceparent: " + traceparent.encode(),
    )
    return lines


def _body(call: Call, lines: list[bytes]) -> tuple[bytes | AsyncIterator[bytes], bool]:
    """The request's body and its framing, which is added to the lines.

    A body that has arrived whole goes along in one piece, any other as it comes.
    """
    request = call.request
    payload = request.content
    if payload.is_eof():
        if payload.exception() is not None:
            call.keep_alive = False
            raise errors.ApiError(400, "BAD_REQUEST", "Request body is malformed")
        body = payload.read_nowait()
        if body or request.method in _WITH_BODY or "Content-Length" in request.headers:
            lines.append(b"Content-Length: %d" % len(body))
        return body, False
    length = request.headers.get("Content-Length")
    if length is None:
        lines.append(b"Transfer-Encoding: chunked")
    else:
        lines.append(b"Content-Length: " + length.encode())
    if request.headers.get("Expect", "").lower() == "100-continue":
        # Asked for only now: whoever is refused need not send his body (RFC 9110, 10.1.1).
        answers.write(request, answers.CONTINUE)
    return payload.iter_any(), length is None


async def _answer(call: Call, exchange: Exchange) -> answers.Sent:
    """Pass the response on."""
    request, reply = call.request, exchange.reply
    call.status = reply.status
    lines = response_headers(reply.headers, reply.connection)
    given = {line[:5].lower() for line in lines}
    if b"cache" not in given:
        lines.append(answers.NO_STORE)  # R1.5
    if b"date:" not in given:
        lines.append(answers.date_line())  # RFC 9110, 6.6.1
    lines += call.lines()
    lines.append(answers.SERVER)
    if reply.complete:
        data = reply.taken()
        if reply.length is None and reply.status not in _NO_BODY:
            lines.append(b"Content-Length: %d" % len(data))
        answers.write(request, answers.head(request, reply.status, lines, call.keep_alive) + data)
        await request.writer.drain()
        return answers.sent(call.keep_alive)
    chunked = reply.length is None
    if chunked:
        if request.version.minor == 0:
            chunked = False
            call.keep_alive = False  # the end of the connection is the end of the body
        else:
            lines.append(b"Transfer-Encoding: chunked")
    answers.write(request, answers.head(request, reply.status, lines, call.keep_alive))
    try:
        while data := await reply.chunk():
            answers.write(request, b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
            await request.writer.drain()
    except UpstreamTrouble as trouble:
        log.warning("answer broken off", extra={"fields": {"reason": str(trouble)}})
        # The client must see that this is not the whole body.
        if request.transport is not None:
            request.transport.abort()
        return answers.SENT_CLOSE
    if chunked:
        answers.write(request, b"0\r\n\r\n")
    return answers.sent(call.keep_alive)
