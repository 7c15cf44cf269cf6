"""The WebSocket wire protocol, server side, without sockets (RFC 6455; R4.6, R4.27)."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

MESSAGE_LIMIT: Final = 65_536  # bytes, R4.27
# A message in more pieces than this is an attack on patience, not a message.
_FRAGMENT_LIMIT: Final = 4_096
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


class CloseCode(IntEnum):
    """Close codes of RFC 6455, 7.4.1, its registry, and R4.25."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005
    ABNORMAL = 1006
    INVALID_TEXT = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    TRY_AGAIN_LATER = 1013
    UNAUTHORIZED = 4401


class Opcode(IntEnum):
    """RFC 6455, 5.2."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True, slots=True)
class Text:
    """A whole text message."""

    text: str


@dataclass(frozen=True, slots=True)
class Ping:
    """A protocol ping; the answer is a pong with the same payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A protocol pong."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The client's close frame; 1005 if it gave no code."""

    code: int


@dataclass(frozen=True, slots=True)
class Violation:
    """The client broke a rule; the connection ends with this code."""

    code: CloseCode
    reason: str


Received = Text | Ping | Pong | Closed | Violation


def accept_key(key: str) -> str:
    """`Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455, 4.2.2)."""
    return base64.b64encode(
        hashlib.sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest()
    ).decode()


def usable_key(key: str) -> bool:
    """Whether a `Sec-WebSocket-Key` is 16 bytes in base64 (RFC 6455, 4.1)."""
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except ValueError:
        return False


def encode(opcode: Opcode, payload: bytes = b"") -> bytes:
    """One unmasked, final frame; the same bytes serve every client."""
    length = len(payload)
    if length < 126:
        head = bytes((0x80 | opcode, length))
    elif length < 65_536:
        head = bytes((0x80 | opcode, 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 127)) + length.to_bytes(8, "big")
    return head + payload


def encode_close(code: int, reason: str = "") -> bytes:
    """A close frame; 1005 is the code of a close without code."""
    if code == CloseCode.NO_STATUS:
        return encode(Opcode.CLOSE)
    return encode(Opcode.CLOSE, code.to_bytes(2, "big") + reason.encode()[:123])


def unmask(payload: bytes, mask: bytes) -> bytes:
    """Apply the client's mask (RFC 6455, 5.3)."""
    length = len(payload)
    if not length:
        return payload
    repeated = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(
        length, "big"
    )


class FrameReader:
    """Turns the bytes of a client into what it said.

    After a `Closed` or a `Violation` everything further is swallowed: the caller keeps reading so
    that its own close frame is not lost in a reset connection.

    Args:
        limit: bytes a message may have.
    """

    __slots__ = ("_buffer", "_ended", "_fragments", "_limit", "_opcode", "_size")

    def __init__(self, limit: int = MESSAGE_LIMIT) -> None:
        self._limit = limit
        self._buffer = b""
        self._fragments: list[bytes] = []
        self._size = 0
        self._opcode: Opcode | None = None
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the client has closed or broken a rule."""
        return self._ended

    def feed(self, data: bytes) -> list[Received]:
        """Take bytes as they come off the socket; give what they complete."""
        if self._ended:
            return []
        self._buffer = self._buffer + data if self._buffer else data
        received: list[Received] = []
        while not self._ended:
            taken = self._frame(received)
            if not taken:
                break
        if self._ended:
            self._buffer = b""
            self._fragments = []
        return received

    def _frame(self, received: list[Received]) -> bool:
        """Take one frame off the buffer; False if it is not whole yet."""
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        first, second = buffer[0], buffer[1]
        final, code, length = first & 0x80, first & 0x0F, second & 0x7F
        fault = self._head_fault(first, second, code, length)
        if fault is not None:
            return self._end(received, fault)
        offset = 2
        if length == 126:
            if len(buffer) < 4:
                return False
            length, offset = int.from_bytes(buffer[2:4], "big"), 4
        elif length == 127:
            if len(buffer) < 10:
                return False
            length, offset = int.from_bytes(buffer[2:10], "big"), 10
        if code < 8 and self._size + length > self._limit:
            return self._end(
                received, Violation(CloseCode.MESSAGE_TOO_BIG, f"over {self._limit} bytes")
            )
        end = offset + 4 + length
        if len(buffer) < end:
            return False
        payload = unmask(buffer[offset + 4 : end], buffer[offset : offset + 4])
        self._buffer = buffer[end:]
        if code >= 8:
            return self._control(received, Opcode(code), payload)
        return self._data(received, Opcode(code), payload, bool(final))

    def _head_fault(self, first: int, second: int, code: int, length: int) -> Violation | None:
        """What RFC 6455, 5.2, 5.4 and 5.5 forbid in the first two bytes."""
        broken = CloseCode.PROTOCOL_ERROR
        if first & 0x70:
            return Violation(broken, "reserved bit set")
        if not second & 0x80:
            return Violation(broken, "frame not masked")
        if code in (3, 4, 5, 6, 7) or code > 10:
            return Violation(broken, "unknown opcode")
        if code >= 8:
            if length > 125 or not first & 0x80:
                return Violation(broken, "control frame too long or in pieces")
            return None
        if code == Opcode.CONTINUATION:
            return Violation(broken, "nothing to continue") if self._opcode is None else None
        if self._opcode is not None:
            return Violation(broken, "message inside a message")
        if code == Opcode.BINARY:
            return Violation(CloseCode.UNSUPPORTED_DATA, "text only")
        return None

    def _data(self, received: list[Received], code: Opcode, payload: bytes, final: bool) -> bool:
        if not final or self._opcode is not None:
            if code is not Opcode.CONTINUATION:
                self._opcode = code
            self._fragments.append(payload)
            self._size += len(payload)
            if len(self._fragments) > _FRAGMENT_LIMIT:
                return self._end(
                    received, Violation(CloseCode.POLICY_VIOLATION, "too many fragments")
                )
            if not final:
                return True
            payload = b"".join(self._fragments)
            self._fragments = []
            self._size = 0
            self._opcode = None
        try:
            received.append(Text(payload.decode()))
        except UnicodeDecodeError:
            return self._end(received, Violation(CloseCode.INVALID_TEXT, "not UTF-8"))
        return True

    def _control(self, received: list[Received], code: Opcode, payload: bytes) -> bool:
        if code is Opcode.PING:
            received.append(Ping(payload))
            return True
        if code is Opcode.PONG:
            received.append(Pong(payload))
            return True
        return self._end(received, _read_close(payload))

    def _end(self, received: list[Received], last: Closed | Violation) -> bool:
        received.append(last)
        self._ended = True
        return True


def _read_close(payload: bytes) -> Closed | Violation:
    if not payload:
        return Closed(CloseCode.NO_STATUS)
    if len(payload) == 1:
        return Violation(CloseCode.PROTOCOL_ERROR, "half a close code")
    code = int.from_bytes(payload[:2], "big")
    # RFC 6455, 7.4: 1004-1006 and 1015 are never sent, 1016-2999 are not assigned.
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        return Violation(CloseCode.PROTOCOL_ERROR, "impossible close code")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        return Violation(CloseCode.INVALID_TEXT, "not UTF-8")
    return Closed(code)
