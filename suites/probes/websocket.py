"""WebSocket connections as a probe opens them, accepted or refused."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
import time
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Origin, Subprotocol

from harness import addresses
from harness.probe import tls_context

T = TypeVar("T")


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """The loop all sockets of this process live in, on a thread of its own.

    The library's synchronous client reads and writes one TLS session from two threads, which
    OpenSSL forbids: one handshake in 400 never got its answer on a busy machine.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="sockets", daemon=True).start()
    return loop


def _wait_for(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(work, _loop()).result()


class Socket:
    """An open connection, for callers that wait; use as a context manager or close it.

    Attributes:
        subprotocol: the one the server selected.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.subprotocol = connection.subprotocol

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def recv(self, timeout: float) -> str | bytes:
        """The next message.

        Raises:
            TimeoutError: none came within so many seconds.
            websockets.exceptions.ConnectionClosed: none will come.
        """
        return _wait_for(asyncio.wait_for(self._connection.recv(), timeout))

    def send(self, message: str) -> None:
        """Send a text message.

        Raises:
            websockets.exceptions.ConnectionClosed: it cannot be sent.
        """
        _wait_for(self._connection.send(message))

    def close(self) -> None:
        """Close the connection; harmless when it is closed."""
        _wait_for(self._connection.close())


def open_socket(
    url: str,
    token: str | None,
    *,
    ca: str = "",
    address: str | None = None,
    origin: str | None = None,
    by_query: bool = False,
    timeout: float = 10.0,
) -> Socket:
    """Open a connection with a token, by subprotocol or by query.

    Raises:
        websockets.exceptions.InvalidHandshake: it was refused.
        OSError, TimeoutError: nobody answered.
    """
    if token is not None and by_query:
        url = f"{url}?token={token}"
    offered = ["bearer", token] if token is not None and not by_query else None

    place = urlsplit(url)
    secure = place.scheme == "wss"
    host, port = place.hostname or "", place.port or (443 if secure else 80)
    ways: dict[str, Any] = {"local_addr": (address, 0)} if address else {}
    if address and not addresses.can_bind():
        ways = {"sock": addresses.connect(host, port, address, timeout)}

    async def opened() -> ClientConnection:
        return await connect(
            url,
            subprotocols=[Subprotocol(name) for name in offered] if offered else None,
            origin=Origin(origin) if origin else None,
            ssl=tls_context(ca) if secure else None,
            compression=None,
            open_timeout=timeout,
            close_timeout=2,
            ping_interval=None,
            proxy=None,
            **ways,
        )

    return Socket(_wait_for(opened()))


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
    socket: Socket, wanted: Mapping[str, Any], *, seconds: float
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


def closed_within(socket: Socket, seconds: float) -> tuple[float, int] | None:
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
