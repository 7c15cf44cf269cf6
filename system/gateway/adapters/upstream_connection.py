"""One connection to a service, and the response that is on its way over it."""

from __future__ import annotations

import asyncio
from typing import Final, cast

import httptools

from system.gateway.adapters.upstream_trouble import Broken, UpstreamTrouble

# Bytes of a response body kept for a client that reads slowly; then the service waits too.
_HIGH_WATER: Final = 256 * 1024
_HEAD_LIMIT: Final = 64 * 1024


class Reply:
    """A response on its way; the body is read with `taken` and `chunk`.

    Attributes:
        status: HTTP status.
        headers: name and value as received, in order, repeated ones repeated.
        connection: the values of its `Connection` headers.
        length: of the body in bytes if the service said so, else None.
        complete: the whole body has arrived (though perhaps not been taken).
        head: becomes done when the head is there, or failed with an UpstreamTrouble.
    """

    __slots__ = (
        "_chunks",
        "_size",
        "_wake",
        "close_delimited",
        "complete",
        "connection",
        "head",
        "headers",
        "length",
        "line",
        "status",
        "trouble",
    )

    def __init__(self, head: asyncio.Future[None], line: Connection) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.connection: list[str] = []
        self.length: int | None = None
        self.complete = False
        self.close_delimited = False
        self.trouble: UpstreamTrouble | None = None
        self.head = head
        self.line = line
        self._chunks: list[bytes] = []
        self._size = 0
        self._wake: asyncio.Future[None] | None = None

    def taken(self) -> bytes:
        """Take what has arrived of the body without waiting; may be empty."""
        chunks = self._chunks
        if not chunks:
            return b""
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self._size = 0
        self.line.resume()
        return data

    async def chunk(self) -> bytes:
        """Wait for the next piece of the body; empty at its end.

        Raises:
            Broken: the service went away before the end.
        """
        while not self._chunks:
            if self.complete:
                return b""
            if self.trouble is not None:
                raise self.trouble
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None
        return self.taken()

    def add(self, data: bytes) -> None:
        """Take a piece of the body off the connection."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size > _HIGH_WATER:
            self.line.pause()
        self.wake()

    def wake(self) -> None:
        """Let a waiting reader look again."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def fail(self, trouble: UpstreamTrouble) -> None:
        """No more will come."""
        if self.complete or self.trouble is not None:
            return
        self.trouble = trouble
        if not self.head.done():
            self.head.set_exception(trouble)
        self.wake()


class Connection(asyncio.Protocol):
    """One connection to one instance, for one exchange at a time."""

    __slots__ = (
        "_drained",
        "_head_size",
        "_parser",
        "_paused_reading",
        "_paused_writing",
        "closed",
        "idle_since",
        "keep",
        "reply",
        "transport",
        "used",
    )

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.reply: Reply | None = None
        self.closed = False
        self.keep = False
        self.used = False
        self.idle_since = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._paused_writing = False
        self._paused_reading = False
        self._drained: asyncio.Future[None] | None = None
        self._head_size = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Parse; anything that is not one response to the present request ends the connection."""
        if self.reply is None:
            self.abort()  # bytes nobody asked for
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.keep = False
            if self.reply is not None:
                self.reply.fail(Broken("not an HTTP response"))
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail or finish the present exchange."""
        self.closed = True
        self.transport = None
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        reply = self.reply
        if reply is None:
            return
        if reply.head.done() and reply.close_delimited and exc is None:
            reply.complete = True
            reply.wake()
        else:
            reply.fail(Broken("connection ended"))

    def pause_writing(self) -> None:
        """The service reads slowly."""
        self._paused_writing = True

    def resume_writing(self) -> None:
        """The service has caught up."""
        self._paused_writing = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # httptools callbacks

    def on_message_begin(self) -> None:
        """A response begins; a second one to one request is a fault."""
        if self.reply is None or self.reply.complete:
            raise Broken("more than one response")
        self.reply.headers = []
        self._head_size = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        assert self.reply is not None
        self._head_size += len(name) + len(value)
        if self._head_size > _HEAD_LIMIT:
            raise Broken("response head too long")
        self.reply.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is there; informational ones are passed over."""
        reply = self.reply
        assert reply is not None
        status = self._parser.get_status_code()
        if status < 200:
            return
        reply.status = status
        chunked = False
        for name, value in reply.headers:
            # Only names of these lengths are of interest: saves lowering all the others.
            size = len(name)
            if size == 14 and name.lower() == b"content-length":
                reply.length = int(value)
            elif size == 10 and name.lower() == b"connection":
                reply.connection.append(value.decode("latin-1"))
            elif size == 17 and name.lower() == b"transfer-encoding":
                chunked = True
        if chunked:
            reply.length = None
        reply.close_delimited = not chunked and reply.length is None
        if not reply.head.done():
            reply.head.set_result(None)

    def on_body(self, data: bytes) -> None:
        """Hand a piece over."""
        assert self.reply is not None
        self.reply.add(data)

    def on_message_complete(self) -> None:
        """The end of a response."""
        reply = self.reply
        assert reply is not None
        if reply.status == 0:
            return  # an informational one
        self.keep = self._parser.should_keep_alive()
        reply.complete = True
        reply.wake()

    # for Upstream and Reply

    def pause(self) -> None:
        """Stop reading: the client is behind."""
        if not self._paused_reading and self.transport is not None:
            self._paused_reading = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused_reading and self.transport is not None:
            self._paused_reading = False
            self.transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send, if there is still somebody."""
        if self.transport is not None:
            self.transport.write(data)

    @property
    def blocked(self) -> bool:
        """Whether the service does not take what is sent."""
        return self._paused_writing

    async def drain(self) -> None:
        """Wait until the service has taken enough, or is gone."""
        while self._paused_writing and self.transport is not None:
            self._drained = asyncio.get_running_loop().create_future()
            try:
                await self._drained
            finally:
                self._drained = None

    def abort(self) -> None:
        """End the connection at once."""
        self.closed = True
        if self.transport is not None:
            self.transport.abort()
