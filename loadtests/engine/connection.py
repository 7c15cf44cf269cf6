"""One HTTP/1.1 connection: sends a request when told, reads the answer, says when it is free."""

from __future__ import annotations

import asyncio
import re
from typing import Protocol, cast

import httptools

from loadtests.engine.samples import Failure


class Owner(Protocol):
    """What a connection tells, and to whom."""

    def first_byte(self, sample: int) -> None:
        """The first byte of the answer has come."""

    def answered(
        self, connection: Connection, sample: int, status: int, chunks: list[bytes], head: bytes
    ) -> None:
        """The answer is complete; the connection may be used again unless it is closing."""

    def failed(self, connection: Connection, sample: int, failure: Failure, reusable: bool) -> None:
        """The answer will not come; `reusable` says that not one byte of it had come, on a
        connection that had answered before (it was closed while idle: RFC 9112 9.3.1)."""

    def opened(self, connection: Connection) -> None:
        """The connection (TLS included) is up and idle."""

    def closed(self, connection: Connection) -> None:
        """The connection is gone; comes after any `failed`."""


_HAS_LENGTH = re.compile(rb"\r\n(?:content-length|transfer-encoding):", re.IGNORECASE)
_IDLE = -1


class Connection(asyncio.Protocol):
    """The client's side of one keep-alive connection; one request at a time.

    Args:
        owner: told about everything that happens.

    Attributes:
        answers: how many requests it has answered.
        closing: it takes no further request.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._sample = _IDLE
        self._begun = False  # a byte of the answer has come
        self._headers_done = False
        self._head = b""
        self._chunks: list[bytes] = []
        self.answers = 0
        self.closing = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own are no subclasses
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._sample == _IDLE:
            self.close()  # nobody asked
            return
        if not self._begun:
            self._begun = True
            self._owner.first_byte(self._sample)
        if not self._headers_done:
            self._head = self._head + data if self._head else data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise  # a fault of our own; the generator stops on it
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(Failure.PROTOCOL)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        if self._sample != _IDLE:
            if exc is None and self._ends_with_connection():
                self.on_message_complete()
            else:
                self._fail(Failure.BROKEN)
        self._owner.closed(self)

    # httptools

    def on_headers_complete(self) -> None:
        self._headers_done = True

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        if self._sample == _IDLE:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:  # an interim answer; the real one follows
            self._headers_done = False
            self._head = b""
            return
        if not self._parser.should_keep_alive():
            self.close()
        sample, chunks, head = self._sample, self._chunks, self._head
        self._free()
        self.answers += 1
        self._owner.answered(self, sample, status, chunks, head)

    # for the owner

    @property
    def was_up(self) -> bool:
        """Whether it was ever connected, TLS included."""
        return self._transport is not None

    def send(self, sample: int, request: bytes) -> None:
        """Send one request; the connection must be idle."""
        assert self._sample == _IDLE
        assert self._transport is not None
        self._sample = sample
        self._transport.write(request)

    def give_up(self) -> None:
        """Stop waiting for the answer and close; the owner has already noted why."""
        self._free()
        self.closing = True
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close when idle, or after the answer that is complete now."""
        self.closing = True
        if self._transport is not None:
            self._transport.close()

    def _free(self) -> None:
        self._sample = _IDLE
        self._begun = False
        self._headers_done = False
        self._head = b""
        self._chunks = []

    def _fail(self, failure: Failure) -> None:
        sample, begun = self._sample, self._begun
        reusable = failure is Failure.BROKEN and not begun and self.answers > 0
        self._free()
        self.closing = True
        self._owner.failed(self, sample, failure, reusable)
        if self._transport is not None:
            self._transport.abort()

    def _ends_with_connection(self) -> bool:
        """Whether the answer has neither length nor chunks, so that closing completes it."""
        return self._headers_done and not _HAS_LENGTH.search(self._head.partition(b"\r\n\r\n")[0])
