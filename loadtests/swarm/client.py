"""One socket of a swarm: reads what the gateway sends, and writes down when."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport

_now = time.monotonic


class Payload(msgspec.Struct, frozen=True):
    """What a swarm wants to know of a message's payload (R4.8, R4.14, R4.15)."""

    eventId: str = ""  # noqa: N815 - the contract's spelling
    eventType: str = ""  # noqa: N815
    correlationId: str = ""  # noqa: N815
    rooms: tuple[str, ...] = ()
    code: str = ""


class Message(msgspec.Struct, frozen=True):
    """A message of the gateway (R4.7)."""

    type: str
    payload: Payload | None = None
    timestamp: str = ""


class ClientRecord(msgspec.Struct, kw_only=True):
    """What one socket saw; times are seconds of the system's monotonic clock.

    Attributes:
        user: the plan's label. address: the source address bound, empty for the system's choice.
        status: of the handshake, 0 if there was no answer. code: ``error.code`` of a refusal.
        error: why there is no connection.
        opened, welcomed: when the handshake was complete and the ``connected`` message came.
        protocol: the subprotocol that the server chose.
        rooms: as the ``connected`` message says.
        events: pairs of event number (index into the evidence's events) and time.
        pings: pings of the server. pongs: when pings of the swarm were answered.
        asked: when the swarm pinged.
        other: other messages, by type, ``not-json``, ``binary``.
        closed: when it was closed, None while open; close_code and close_reason say how
            (1006 without a close frame).
        closed_by_us: it was the swarm that closed.
    """

    user: str
    address: str = ""
    status: int = 0
    code: str = ""
    error: str = ""
    opened: float | None = None
    welcomed: float | None = None
    protocol: str = ""
    rooms: tuple[str, ...] = ()
    events: list[tuple[int, float]] = []
    pings: int = 0
    asked: list[float] = []
    pongs: list[float] = []
    other: dict[str, int] = {}
    closed: float | None = None
    close_code: int = 0
    close_reason: str = ""
    closed_by_us: bool = False

    @property
    def is_open(self) -> bool:
        """Connected and not closed."""
        return self.opened is not None and self.closed is None


_decode = msgspec.json.Decoder(Message).decode


class SwarmListener(WSListener):
    """Feeds a client's record.

    Args:
        record: of this socket.
        number_of: gives each event its number.
        changed: called after everything that somebody may be waiting for.
    """

    def __init__(
        self,
        record: ClientRecord,
        number_of: Callable[[Message, Payload], int],
        changed: Callable[[], None],
    ) -> None:
        super().__init__()
        self.record = record
        self.transport: WSTransport | None = None
        self._number_of = number_of
        self._changed = changed
        self._parts = b""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is complete."""
        self.transport = transport
        self.record.opened = _now()
        self.record.status = 101
        self.record.protocol = transport.response.headers.get("Sec-WebSocket-Protocol", "")

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Write down a frame; answer pings and the closing handshake."""
        now = _now()
        kind = frame.msg_type
        if kind is WSMsgType.TEXT or kind is WSMsgType.CONTINUATION:
            self._parts += frame.get_payload_as_bytes()
            if frame.fin:
                whole, self._parts = self._parts, b""
                self._on_text(whole, now)
        elif kind is WSMsgType.PING:
            self.record.pings += 1
            transport.send_pong(frame.get_payload_as_bytes())
        elif kind is WSMsgType.PONG:
            self.record.pongs.append(now)
            self._changed()
        elif kind is WSMsgType.CLOSE:
            body = frame.get_payload_as_bytes()
            self.record.close_code = int.from_bytes(body[:2], "big") if len(body) >= 2 else 1005
            self.record.close_reason = body[2:].decode(errors="replace")
            if not transport.is_close_frame_sent:
                transport.send_close()
            transport.disconnect()
        else:
            self._count("binary")

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The connection is gone."""
        self.record.closed = _now()
        self.record.close_code = self.record.close_code or 1006
        self._changed()

    def _on_text(self, text: bytes, now: float) -> None:
        try:
            message = _decode(text)
        except msgspec.DecodeError:
            self._count("not-json")
            return
        payload = message.payload or Payload()
        if message.type == "event":
            self.record.events.append((self._number_of(message, payload), now))
        elif message.type == "connected":
            self.record.welcomed = now
            self.record.rooms = payload.rooms
        else:
            self._count(f"error {payload.code}" if message.type == "error" else message.type)
        self._changed()

    def _count(self, what: str) -> None:
        self.record.other[what] = self.record.other.get(what, 0) + 1
