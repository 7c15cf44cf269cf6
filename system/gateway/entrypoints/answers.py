"""Writes complete HTTP answers: heads as bytes, bodies whole, the framing of each kind of client.

Heads are written here and not by aiohttp's response classes: upstream headers pass as the bytes
they came in, repeated, in order, none added.
"""

from __future__ import annotations

import asyncio
import email.utils
import time
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

READ_ON_BYTES: Final = 10 * 1024 * 1024  # R1.10
READ_ON_S: Final = 5.0

JSON: Final = b"Content-Type: application/json; charset=utf-8"
NO_STORE: Final = b"Cache-Control: no-store"
# R1.6: the answer names no framework; the field is expected by some clients.
SERVER: Final = b"Server: gateway"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_encode = msgspec.json.Encoder().encode


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    return f"HTTP/1.1 {status} {phrase}".encode()


_STATUS_LINES: Final = {status: _status_line(status) for status in range(100, 600)}
_date: tuple[int, bytes] = (0, b"")


def date_line() -> bytes:
    """The `Date` header, made once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, b"Date: " + email.utils.formatdate(now, usegmt=True).encode())
    return _date[1]


class Sent(web.StreamResponse):
    """Tells aiohttp that the answer is on its way already; keeps no state of a request."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Nothing is left to prepare."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""


def _sent(keep_alive: bool) -> Sent:
    sent = Sent()
    sent._keep_alive = keep_alive  # aiohttp has a setter for False only
    return sent


SENT_KEEP: Final = _sent(True)
SENT_CLOSE: Final = _sent(False)


def sent(keep_alive: bool) -> Sent:
    """What a handler returns after it has written its answer itself."""
    return SENT_KEEP if keep_alive else SENT_CLOSE


def head(request: web.BaseRequest, status: int, lines: list[bytes], keep_alive: bool) -> bytes:
    """A response head.

    Args:
        request: what is answered.
        status: HTTP status.
        lines: headers without line ends; framing included.
        keep_alive: whether the connection may be used again.
    """
    if not keep_alive:
        lines.append(b"Connection: close")
    elif request.version.minor == 0:
        lines.append(b"Connection: keep-alive")
    return b"\r\n".join((_STATUS_LINES.get(status) or _status_line(status), *lines, b"", b""))


def write(request: web.BaseRequest, data: bytes) -> None:
    """Hand bytes to the client's connection.

    Raises:
        ConnectionResetError: it is gone.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("client is gone")
    transport.write(data)


async def whole(
    request: web.BaseRequest,
    status: int,
    lines: list[bytes],
    body: bytes,
    *,
    keep_alive: bool,
) -> Sent:
    """Send an answer of the gateway itself.

    Args:
        request: what is answered.
        status: HTTP status.
        lines: headers without line ends and without framing.
        body: the whole body; left out where the method or the status has none.
        keep_alive: whether the connection may be used again.
    """
    lines += (date_line(), SERVER)
    if status != 204:
        lines.append(b"Content-Length: %d" % len(body))
    data = head(request, status, lines, keep_alive)
    if body and status != 204 and request.method != "HEAD":
        data += body
    write(request, data)
    await request.writer.drain()
    return sent(keep_alive)


def json(value: Any) -> bytes:
    """A JSON body."""
    return _encode(value)


async def read_on(request: web.BaseRequest) -> None:
    """Read the rest of a body nobody wants, so that the answer arrives (R1.10).

    What is left after the limits is not read: the connection ends.
    """
    payload = request.content
    left = READ_ON_BYTES
    try:
        async with asyncio.timeout(READ_ON_S):
            while left > 0:
                data = await payload.readany()
                if not data:
                    return
                left -= len(data)
    except (TimeoutError, web.RequestPayloadError):
        return
