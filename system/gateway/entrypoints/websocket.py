"""Upgrades requests to WebSockets and moves their bytes, within bounds (4.1, 4.5)."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from typing import Final
from urllib.parse import parse_qs

from aiohttp import web

from system.gateway.domain.frames import (
    CloseCode,
    Closed,
    FrameReader,
    Violation,
    accept_key,
    encode_close,
    usable_key,
)
from system.gateway.entrypoints import answers
from system.gateway.entrypoints.call import Call
from system.gateway.ports import Authentication
from system.gateway.service.realtime import Member, RealtimeService, TooManyConnections
from system.platform.http import errors
from system.platform.observability import metrics

log = logging.getLogger(__name__)

BEARER: Final = "bearer"
# R4.29.
WAITING_BYTES: Final = 1024 * 1024
WAITING_MESSAGES: Final = 1_000
# The kernel's own buffer, so that "slow" does not mean megabytes later.
_SEND_BUFFER: Final = 128 * 1024
_BATCH: Final = 64 * 1024
# How long the client may take for its half of the closing handshake.
CLOSE_WAIT_S: Final = 2.0
# A client that does not even take the close frame is dropped in time for R4.25's second; one that
# is closed for its slowness gets longer, or it would never see why.
STUCK_WAIT_S: Final = 0.7
SLOW_WAIT_S: Final = 15.0


def is_upgrade(request: web.BaseRequest) -> bool:
    """Whether the client asks for a WebSocket."""
    upgrade = request.headers.get("Upgrade")
    if upgrade is None or "websocket" not in upgrade.lower():
        return False
    return any(
        option.strip().lower() == "upgrade"
        for value in request.headers.getall("Connection", ())
        for option in value.split(",")
    )


def read_token(protocols: list[str], query: str) -> tuple[str | None, bool]:
    """Find the token of a handshake (R4.2).

    Args:
        protocols: the values of `Sec-WebSocket-Protocol`.
        query: with its question mark.

    Returns:
        The token or None, and whether the client offered the subprotocol `bearer`.
    """
    offered = [item.strip() for value in protocols for item in value.split(",")]
    if BEARER in offered:
        after = offered.index(BEARER) + 1
        if after < len(offered) and offered[after]:
            return offered[after], True
    tokens = parse_qs(query[1:], max_num_fields=100).get("token") if len(query) < 16_384 else None
    return (tokens[0] if tokens else None), BEARER in offered


class Socket:
    """One connection after its handshake: an `Outlet`, and the parser aiohttp feeds.

    While the client keeps up, frames go straight to the transport.  Once it does not, they wait in
    one queue with the bounds of R4.29 and one writer task.

    Attributes:
        over: done when there is nothing left to do but closing the transport.
        code: close code for the metrics.
    """

    def __init__(self, request: web.BaseRequest, transport: asyncio.Transport) -> None:
        self._request = request
        self._transport = transport
        self._reader = FrameReader()
        self._service: RealtimeService | None = None
        self._member: Member | None = None
        self._queue: deque[bytes] = deque()
        self._waiting = 0
        self._writer: asyncio.Task[None] | None = None
        self._goodbye: bytes | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.code: int = CloseCode.ABNORMAL
        handle = transport.get_extra_info("socket")
        if handle is not None:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    def serve(self, service: RealtimeService, member: Member) -> None:
        """Hand what the client says to the service from now on."""
        self._service = service
        self._member = member

    # What aiohttp calls (the parser's side of `RequestHandler.set_parser`)

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes off the socket."""
        for received in self._reader.feed(bytes(data)):
            if self._service is not None and self._member is not None:
                self._service.receive(self._member, received)
            match received:
                case Closed(code):
                    if self._goodbye is None:
                        self.code = code
                        self.close(code, "")
                    self._finish()
                case Violation(code, reason):
                    self.close(code, reason)
                case _:
                    pass
        return False, b""

    def feed_eof(self) -> None:
        """The connection is lost."""
        self._finish()

    # Outlet

    def send(self, frame: bytes) -> None:
        """See `Outlet.send`."""
        if self._goodbye is not None or self._transport.is_closing():
            return
        if self._writer is None:
            if not self._request.protocol.writing_paused:
                self._transport.write(frame)
                return
            self._writer = asyncio.create_task(self._write_waiting())
        self._queue.append(frame)
        self._waiting += len(frame)
        if self._waiting > WAITING_BYTES or len(self._queue) > WAITING_MESSAGES:
            self._queue.clear()
            self._waiting = 0
            self.close(CloseCode.TRY_AGAIN_LATER, "reader too slow")

    def close(self, code: int, reason: str) -> None:
        """See `Outlet.close`."""
        if self._goodbye is not None:
            return
        if self.code == CloseCode.ABNORMAL:
            self.code = code
        self._goodbye = encode_close(code, reason)
        slow = code == CloseCode.TRY_AGAIN_LATER
        if slow or self._writer is None:
            # Behind what the transport still holds, which is little.
            self._say_goodbye()
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(
            SLOW_WAIT_S if slow else STUCK_WAIT_S, self._give_up, not slow
        )

    def abort(self) -> None:
        """See `Outlet.abort`."""
        self._goodbye = b""
        self._transport.abort()
        self._finish()

    def _say_goodbye(self) -> None:
        if self._goodbye and not self._transport.is_closing():
            self._transport.write(self._goodbye)

    def _give_up(self, once_more: bool) -> None:
        """The client has not closed its side; wait on if it took everything, else drop it."""
        loop = asyncio.get_running_loop()
        taken = not self._queue and not self._transport.get_write_buffer_size()
        if once_more and taken:
            self._deadline = loop.call_later(CLOSE_WAIT_S, self._give_up, False)
            return
        if not taken:
            self._transport.abort()
        self._finish()

    async def _write_waiting(self) -> None:
        """Write what waits whenever the client has taken enough; end when nothing waits."""
        try:
            while self._queue:
                await self._request.writer.drain()
                batch: list[bytes] = []
                size = 0
                while self._queue and size < _BATCH:
                    frame = self._queue.popleft()
                    batch.append(frame)
                    size += len(frame)
                self._waiting -= size
                if batch and not self._transport.is_closing():
                    self._transport.write(b"".join(batch))
        except ConnectionError:
            self._queue.clear()
        finally:
            self._writer = None
        if self._goodbye is not None and self.code != CloseCode.TRY_AGAIN_LATER:
            self._say_goodbye()

    def _finish(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if not self.over.done():
            self.over.set_result(None)

    def release(self) -> None:
        """Stop everything that belongs to this connection."""
        self._finish()
        if self._writer is not None:
            self._writer.cancel()


class WebSocketEntry:
    """The handshake of `/ws` and the life of what follows.

    Args:
        authentication: judges the token.
        realtime: takes the connection.
    """

    def __init__(self, authentication: Authentication, realtime: RealtimeService) -> None:
        self._authentication = authentication
        self._realtime = realtime

    async def upgrade(self, call: Call, query: str) -> web.StreamResponse:
        """Answer a handshake and stay until the connection is over.

        Raises:
            ApiError: the refusals of R4.3-R4.5, before anything is sent.
        """
        request = call.request
        if call.foreign_origin:
            raise errors.origin_not_allowed()
        headers = request.headers
        key = headers.get("Sec-WebSocket-Key", "")
        if headers.get("Sec-WebSocket-Version") != "13" or not usable_key(key):
            raise errors.ApiError(
                400,
                "BAD_REQUEST",
                "Not a WebSocket handshake of version 13",
                headers={"Sec-WebSocket-Version": "13"},
            )
        token, offered = read_token(headers.getall("Sec-WebSocket-Protocol", []), query)
        if token is None:
            raise errors.unauthorized()
        principal = await self._authentication.authenticate_token(token)
        if self._realtime.revoked(principal.session_id):
            raise errors.token_revoked()
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("client is gone")
        try:
            self._realtime.reserve(principal.user_id)
        except TooManyConnections:
            raise errors.ApiError(
                429, "TOO_MANY_CONNECTIONS", "Too many WebSocket connections of this user"
            ) from None
        connection = Socket(request, transport)
        member: Member | None = None
        try:
            self._accept(call, key, offered)
            member = self._realtime.enter(principal, connection)
            connection.serve(self._realtime, member)
            request.protocol.keep_alive(False)
            request.protocol.set_parser(connection)  # type: ignore[arg-type]  # see `Socket`
            await connection.over
        finally:
            connection.release()
            self._realtime.release(principal.user_id)
            if member is not None:
                self._realtime.left(member, connection.code)
        return answers.SENT_CLOSE

    def _accept(self, call: Call, key: str, offered: bool) -> None:
        lines = [
            b"HTTP/1.1 101 Switching Protocols",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Accept: " + accept_key(key).encode(),
            answers.date_line(),
            answers.SERVER,
            b"X-Correlation-ID: " + call.correlation_id.encode(),
        ]
        if offered:
            lines.append(b"Sec-WebSocket-Protocol: " + BEARER.encode())
        answers.write(call.request, b"\r\n".join((*lines, b"", b"")))
        call.status = 101
        # From here on it is a WebSocket connection and no request in flight.
        metrics.HTTP_ACTIVE_CONNECTIONS.dec()
        call.observe()
