"""The messages between gateway and WebSocket client: read, judged, written (4.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from system.gateway.domain.frames import Opcode, encode

ID_LENGTH_LIMIT: Final = 64  # characters, R4.7

INVALID_MESSAGE: Final = ("INVALID_MESSAGE", "Invalid message format")
INVALID_ROOM: Final = ("INVALID_ROOM", "Invalid room name")
ROOM_FORBIDDEN: Final = ("ROOM_FORBIDDEN", "Not allowed to join this room")
TOO_MANY_ROOMS: Final = ("TOO_MANY_ROOMS", "Too many rooms on this connection")
RATE_LIMIT_EXCEEDED: Final = ("RATE_LIMIT_EXCEEDED", "Too many messages")

# Types that metrics name; everything else is `other` (R7.12).
CLIENT_TYPES: Final = frozenset({"ping", "subscribe", "unsubscribe", "reauth"})


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """What a client asked.

    Attributes:
        type: as sent.
        payload: the payload if it is an object, else empty.
        id: to be repeated in the direct reply (R4.7), or None.
    """

    type: str
    payload: Mapping[str, Any]
    id: str | None


def read(text: str) -> ClientMessage | None:
    """Read a client's message; None for what is INVALID_MESSAGE (R4.16)."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return None
    payload = message.get("payload")
    identifier = message.get("id")
    if not isinstance(identifier, str) or len(identifier) > ID_LENGTH_LIMIT:
        identifier = None
    return ClientMessage(message["type"], payload if isinstance(payload, dict) else {}, identifier)


def iso(moment_s: float) -> str:
    """Seconds since the epoch in the form of R0.4."""
    moment = datetime.fromtimestamp(moment_s, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def write(
    kind: str,
    payload: Mapping[str, Any] | None,
    timestamp: str,
    reply_to: str | None = None,
) -> bytes:
    """One server message as a frame, ready for the socket (R4.7).

    Args:
        kind: the message's type.
        payload: None leaves it out.
        timestamp: in the form of R0.4.
        reply_to: the client's id in a direct reply.
    """
    message: dict[str, Any] = {"type": kind}
    if payload is not None:
        message["payload"] = payload
    message["timestamp"] = timestamp
    if reply_to is not None:
        message["id"] = reply_to
    # Lone surrogates (a client may echo them through `id`) stay escaped; UTF-8 has none.
    return encode(Opcode.TEXT, json.dumps(message, separators=(",", ":")).encode())


def write_event(
    event_type: str,
    event_id: str,
    correlation_id: str,
    timestamp: str,
    data: Mapping[str, Any],
) -> bytes:
    """A bridged event as a frame (R4.14); its data are passed on unchanged (R4.23)."""
    return write(
        "event",
        {
            "eventType": event_type,
            "eventId": event_id,
            "correlationId": correlation_id,
            "data": data,
        },
        timestamp,
    )


def write_error(error: tuple[str, str], timestamp: str, reply_to: str | None = None) -> bytes:
    """An `error` message from its code and text (R4.15)."""
    return write("error", {"code": error[0], "message": error[1]}, timestamp, reply_to)
