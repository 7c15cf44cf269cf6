"""WebSocket connections as a probe opens them, accepted or refused."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from harness.probe import tls_context


def open_socket(
    url: str,
    token: str | None,
    *,
    ca: str = "",
    address: str | None = None,
    origin: str | None = None,
    by_query: bool = False,
    timeout: float = 10.0,
) -> ClientConnection:
    """Open a connection with a token, by subprotocol or by query.

    Raises:
        websockets.exceptions.InvalidHandshake: it was refused.
        OSError, TimeoutError: nobody answered.
    """
    if token is not None and by_query:
        url = f"{url}?token={token}"
    offered = ["bearer", token] if token is not None and not by_query else None
    return connect(
        url,
        subprotocols=[Subprotocol(name) for name in offered] if offered else None,
        origin=Origin(origin) if origin else None,
        ssl=tls_context(ca) if urlsplit(url).scheme == "wss" else None,
        source_address=(address, 0) if address else None,
        compression=None,
        open_timeout=timeout,
        close_timeout=2,
        proxy=None,
        legacy=True,  # one connection; the other form reconnects by itself
    )


def handshake(url: str, token: str | None, **options: Any) -> dict[str, Any]:
    """Try a handshake and write down how it ended.

    Returns:
        ``status`` (101 when it was accepted, 0 when nobody answered), ``json`` (body of a
        refusal, or the first message), ``close`` (code, when it was closed at once), ``error``.
    """
    seen: dict[str, Any] = {"status": 0, "json": None, "close": None, "error": ""}
    try:
        with open_socket(url, token, **options) as socket:
            seen["status"] = 101
            seen["subprotocol"] = socket.subprotocol
            try:
                seen["json"] = json.loads(socket.recv(timeout=5))
            except ConnectionClosed as closed:
                seen["close"] = closed.rcvd.code if closed.rcvd else 1006
    except InvalidStatus as refusal:
        seen["status"] = refusal.response.status_code
        try:
            seen["json"] = json.loads(refusal.response.body or b"")
        except ValueError:
            seen["error"] = "the refusal has no JSON body"
    except (InvalidHandshake, OSError, TimeoutError, ValueError) as error:
        seen["error"] = f"{type(error).__name__}: {error}"
    return seen


def receive_until(
    socket: ClientConnection, wanted: Mapping[str, Any], *, seconds: float
) -> list[dict[str, Any]]:
    """Read messages until one has all the wanted top-level values, or the time is over."""
    messages: list[dict[str, Any]] = []
    deadline = time.monotonic() + seconds
    while (remaining := deadline - time.monotonic()) > 0:
        try:
            message = json.loads(socket.recv(timeout=remaining))
        except (TimeoutError, ConnectionClosed):
            break
        messages.append(message)
        if all(message.get(key) == value for key, value in wanted.items()):
            break
    return messages


def closed_within(socket: ClientConnection, seconds: float) -> tuple[float, int] | None:
    """Wait for the server to close; (seconds it took, close code), or None when it did not."""
    started = time.monotonic()
    while (remaining := started + seconds - time.monotonic()) > 0:
        try:
            socket.recv(timeout=remaining)
        except ConnectionClosed as closed:
            return time.monotonic() - started, closed.rcvd.code if closed.rcvd else 1006
        except TimeoutError:
            return None
    return None
