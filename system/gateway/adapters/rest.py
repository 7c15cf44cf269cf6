"""Calls the services' REST routes on behalf of a client and takes their answers whole (R10.9)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from system.gateway.adapters.upstream import Upstream
from system.gateway.adapters.upstream_trouble import Silent, UpstreamTrouble
from system.gateway.domain.forwarding import trace_context
from system.gateway.domain.routes import Service
from system.gateway.ports import RestAnswer
from system.platform.http import errors
from system.platform.observability import correlation, tracing

log = logging.getLogger(__name__)

# A profile with a picture is the longest answer there is (R1.150).
ANSWER_LIMIT: Final = 8 * 1024 * 1024


class UpstreamRest:
    """See `Rest`.

    Args:
        upstreams: the services.
        internal_token: value of X-Internal-Token.
    """

    def __init__(self, upstreams: Mapping[Service, Upstream], internal_token: str) -> None:
        self._upstreams = upstreams
        self._internal = f"X-Internal-Token: {internal_token}".encode()

    async def send(
        self,
        service: Service,
        method: str,
        target: str,
        lines: Sequence[bytes],
        body: bytes | None,
        *,
        internal: bool = False,
    ) -> RestAnswer:
        """See `Rest.send`."""
        upstream = self._upstreams[service]
        span = tracing.child(f"{method} {upstream.name}", tracing.Kind.CLIENT)
        tracing.describe(span, {"peer.service": upstream.name})
        with tracing.within(span):
            onward = correlation.onward()
            given = onward.get("traceparent") if span is None else span.traceparent
            onward["traceparent"] = trace_context(given.encode() if given else None).decode()
            told = [f"{name}: {value}".encode() for name, value in onward.items()]
            if internal:
                told.append(self._internal)
            return await self._send(upstream, method, target, [*lines, *told], body)

    async def _send(
        self,
        upstream: Upstream,
        method: str,
        target: str,
        lines: Sequence[bytes],
        body: bytes | None,
    ) -> RestAnswer:
        headers = list(lines)
        if body is not None:
            headers += (b"Content-Type: application/json", b"Content-Length: %d" % len(body))
        try:
            exchange = await upstream.send(
                method.encode(), target.encode(), b"\r\n".join((*headers, b"")), body or b""
            )
            try:
                document = bytearray()
                while data := await exchange.reply.chunk():
                    document += data
                    if len(document) > ANSWER_LIMIT:
                        raise errors.bad_gateway()
            finally:
                exchange.finish()
        except Silent as trouble:
            log.warning("no answer in time", extra={"fields": {"reason": str(trouble)}})
            raise errors.gateway_timeout() from trouble
        except UpstreamTrouble as trouble:
            log.warning("no answer", extra={"fields": {"reason": str(trouble)}})
            raise errors.bad_gateway() from trouble
        retry_after = next(
            (
                value.decode("latin-1")
                for name, value in exchange.reply.headers
                if name.lower() == b"retry-after"
            ),
            None,
        )
        return RestAnswer(exchange.reply.status, bytes(document), retry_after)
