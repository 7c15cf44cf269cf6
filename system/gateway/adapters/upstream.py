"""Speaks HTTP/1.1 to the services: pooled connections, streaming both ways, no request twice.

One `Upstream` stands for one service with all its instances.  `send` gives the response as soon as
its head is there; the body follows through `Reply.chunk`.  aiohttp's client is not used here: it
repeats PUT and DELETE on a connection that broke, which R1.52 forbids
(docs/decisions/0004-gateway-wire.md).

    UpstreamTrouble
    ├── Refused     nobody listens at any instance; nothing was sent
    ├── Broken      the connection ended, or what came was not HTTP
    └── Silent      no response head in time (R1.13)
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

log = logging.getLogger(__name__)

# Bytes of a response body kept for a client that reads slowly; then the service waits too.
_HIGH_WATER: Final = 256 * 1024
_LOW_WATER: Final = 64 * 1024
_HEAD_LIMIT: Final = 64 * 1024
# Services drop idle connections after 5 s or more; the gateway must be earlier, or a request could
# meet a connection that is just being closed.
IDLE_S: Final = 4.0
_IDLE_LIMIT: Final = 256


class UpstreamTrouble(Exception):
    """A service gave no answer."""


class Refused(UpstreamTrouble):
    """No instance accepted a connection."""


class Broken(UpstreamTrouble):
    """The connection broke, or the answer was not HTTP."""


class Silent(UpstreamTrouble):
    """No response head within the time limit."""


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

    def __init__(self, head: asyncio.Future[None], line: _Connection) -> None:
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


class _Connection(asyncio.Protocol):
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


class Instance:
    """One address of a service with its idle connections.

    Args:
        url: `http://host:port`, without a path.
        source_address: local address to connect from, or None.
    """

    def __init__(self, url: str, source_address: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"seen {url!r}, expected http://host:port")
        self.host: Final = parts.hostname
        self.port: Final = parts.port or 80
        self.authority: Final = parts.netloc.rpartition("@")[2].encode()
        self._source = source_address
        self._turn = 0
        self._idle: list[_Connection] = []
        self._reaper: asyncio.TimerHandle | None = None

    def idle(self) -> _Connection | None:
        """A connection that is open and was used a moment ago, or None."""
        limit = time.monotonic() - IDLE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.closed or connection.transport is None:
                continue
            if connection.idle_since < limit or connection.transport.is_closing():
                connection.abort()
                continue
            return connection
        return None

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection whose exchange is over."""
        if connection.closed or not connection.keep or len(self._idle) >= _IDLE_LIMIT:
            connection.abort()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        if self._reaper is None:
            self._reaper = asyncio.get_running_loop().call_later(IDLE_S, self._reap)

    async def connect(self) -> _Connection:
        """Open a connection.

        Raises:
            OSError: refused, unreachable, unknown name.
        """
        loop = asyncio.get_running_loop()
        local = (self._source, 0) if self._source else None
        connection: _Connection
        fault: OSError = ConnectionRefusedError(f"{self.host} has no address")
        for address in await self._addresses(loop):
            try:
                _, connection = await loop.create_connection(
                    _Connection, address, self.port, local_addr=local
                )
            except OSError as error:
                fault = error
                continue
            assert connection.transport is not None
            handle = connection.transport.get_extra_info("socket")
            if handle is not None:
                handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        raise fault

    async def _addresses(self, loop: asyncio.AbstractEventLoop) -> list[str]:
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            pass
        else:
            return [self.host]
        family = socket.AF_UNSPEC
        if self._source is not None:
            version = ipaddress.ip_address(self._source).version
            family = socket.AF_INET if version == 4 else socket.AF_INET6
        found = await loop.getaddrinfo(self.host, self.port, family=family, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        # Sorted by nearness (RFC 6724), so that the first of several would get everything.
        self._turn += 1
        first = self._turn % len(addresses)
        return addresses[first:] + addresses[:first]

    def close(self) -> None:
        """Close what is idle."""
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _reap(self) -> None:
        """Close connections that have been idle for too long, and those the service closed."""
        limit = time.monotonic() - IDLE_S
        kept = []
        for connection in self._idle:
            if connection.closed:
                continue
            if connection.idle_since <= limit:
                connection.abort()
            else:
                kept.append(connection)
        self._idle = kept
        self._reaper = (
            asyncio.get_running_loop().call_later(IDLE_S / 2, self._reap) if kept else None
        )


class Exchange:
    """One request to a service; a context that cancels it when it is left early (R1.51).

    Attributes:
        reply: the response, once `Upstream.send` has returned.
    """

    __slots__ = (
        "_instance",
        "_last",
        "_sent",
        "_timeout",
        "_timer",
        "_upload",
        "_waits_for_client",
        "reply",
    )

    def __init__(self, instance: Instance, reply: Reply, timeout_s: float) -> None:
        self.reply = reply
        self._instance = instance
        self._timeout = timeout_s
        self._last = 0.0
        self._sent = False
        self._waits_for_client = False
        self._upload: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        self._timer: asyncio.TimerHandle | None = loop.call_later(timeout_s, self._overdue)

    def send_whole(self, data: bytes) -> None:
        """Send head and body in one go."""
        self.reply.line.write(data)
        self._sent = True

    def send_stream(self, head: bytes, body: AsyncIterator[bytes], chunked: bool) -> None:
        """Send the head now and the body as it comes."""
        self.reply.line.write(head)
        self._upload = asyncio.get_running_loop().create_task(self._stream(body, chunked))

    async def _stream(self, body: AsyncIterator[bytes], chunked: bool) -> None:
        line = self.reply.line
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._waits_for_client = True
                data = await anext(body, b"")
                self._waits_for_client = False
                self._last = loop.time()
                if not data:
                    break
                line.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
                await line.drain()
                self._last = loop.time()
                if line.closed:
                    return
            if chunked:
                line.write(b"0\r\n\r\n")
            self._sent = True
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # The client's half of the body is broken: so must be the request upstream.
            if not self.reply.head.done():
                self.reply.head.set_exception(error)
            line.abort()

    async def head(self) -> None:
        """Wait for the head of the response.

        Raises:
            Broken, Silent: as named; or whatever reading the client's body raised.
        """
        try:
            await self.reply.head
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def finish(self) -> None:
        """Give the connection back if the exchange is over, else end it: this is the cancelling."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        reply, line = self.reply, self.reply.line
        if self._upload is not None and not self._upload.done():
            self._upload.cancel()
        if not reply.head.done():
            reply.head.cancel()
        elif not reply.head.cancelled():
            reply.head.exception()  # seen, so that nobody complains about it
        line.reply = None
        if reply.complete and self._sent:
            reply.taken()
            self._instance.give_back(line)
        else:
            line.abort()

    async def upload_ended(self) -> None:
        """Wait until nobody reads the client's body any more; call it after `finish`."""
        if self._upload is not None:
            await asyncio.wait((self._upload,))

    def _overdue(self) -> None:
        """Fail the exchange, unless it is the client that keeps everybody waiting."""
        loop = asyncio.get_running_loop()
        if self._waits_for_client:
            self._last = loop.time()
        left = self._last + self._timeout - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._overdue)
            return
        self._timer = None
        self.reply.fail(Silent(f"no response head in {self._timeout:g} s"))


class Upstream:
    """A service with its instances.

    Requests go round the instances; another one is tried only while no connection could be made,
    so nothing is ever done twice (R0.13, R1.52).

    Args:
        name: for the log.
        urls: `http://host:port` of each instance.
        timeout_s: for connecting and for the response head (R1.13).
        source_address: local address to connect from; None leaves it to the system.
    """

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        *,
        timeout_s: float,
        source_address: str | None = None,
    ) -> None:
        if not urls:
            raise ValueError(f"seen no address of {name}, expected at least one")
        self.name: Final = name
        self._instances = tuple(Instance(url, source_address) for url in urls)
        self._timeout = timeout_s
        self._turn = 0

    async def send(
        self,
        method: bytes,
        path: bytes,
        headers: bytes,
        body: bytes | AsyncIterator[bytes] = b"",
        *,
        chunked: bool = False,
        timeout_s: float | None = None,
    ) -> Exchange:
        """Send a request and wait for the head of the response.

        Args:
            method: as in the request line.
            path: escaped, with query.
            headers: lines, each with its end, without `Host`; framing included.
            body: whole, or as it comes.
            chunked: the framing of a body that comes in pieces and has no length.
            timeout_s: instead of the service's own.

        Returns:
            The exchange; the caller must `finish` it, whatever happens.

        Raises:
            UpstreamTrouble: see the module.
        """
        timeout = self._timeout if timeout_s is None else timeout_s
        repeatable = method == b"GET" and body == b""
        while True:
            instance, connection = await self._connection(timeout)
            reused = connection.used
            connection.used = True
            connection.keep = False
            reply = Reply(asyncio.get_running_loop().create_future(), connection)
            connection.reply = reply
            exchange = Exchange(instance, reply, timeout)
            head = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (
                method,
                path,
                instance.authority,
                headers,
            )
            try:
                if isinstance(body, bytes):
                    exchange.send_whole(head + body)
                else:
                    exchange.send_stream(head, body, chunked)
                await exchange.head()
            except Broken:
                exchange.finish()
                # A GET has no effect; on a connection that the service closed while it was idle
                # it was not even seen (RFC 9112, 9.3.1).  On a fresh one it may have been.
                if repeatable and reused and not reply.headers:
                    continue
                raise
            except BaseException:
                exchange.finish()
                raise
            return exchange

    async def fetch(
        self, path: str, headers: dict[str, str], *, timeout_s: float, limit: int = 1_000_000
    ) -> tuple[int, bytes]:
        """GET a small document.

        Raises:
            UpstreamTrouble: no answer, or one of more than `limit` bytes.
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
        exchange = await self.send(b"GET", path.encode(), lines, timeout_s=timeout_s)
        try:
            document = bytearray()
            try:
                async with asyncio.timeout(timeout_s):
                    while data := await exchange.reply.chunk():
                        document += data
                        if len(document) > limit:
                            raise Broken(f"more than {limit} bytes")
            except TimeoutError as error:
                raise Silent(f"body not complete in {timeout_s:g} s") from error
            return exchange.reply.status, bytes(document)
        finally:
            exchange.finish()

    def close(self) -> None:
        """Close idle connections; exchanges under way end with their owners."""
        for instance in self._instances:
            instance.close()

    async def _connection(self, timeout_s: float) -> tuple[Instance, _Connection]:
        count = len(self._instances)
        # Others take their turns while a connection is made; each must get round all instances.
        turn = self._turn = (self._turn + 1) % count
        fault: OSError | None = None
        for step in range(count):
            instance = self._instances[(turn + step) % count]
            connection = instance.idle()
            if connection is not None:
                return instance, connection
            try:
                async with asyncio.timeout(timeout_s):
                    return instance, await instance.connect()
            except TimeoutError as error:
                raise Silent(f"{self.name}: no connection in {timeout_s:g} s") from error
            except OSError as error:
                fault = error
        raise Refused(f"{self.name}: {fault}") from fault
