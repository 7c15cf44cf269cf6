"""WebSockets that connect again whenever they are closed, as a client library does (R4.33)."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from suites.probes.websocket import Socket, open_socket

_PAUSE = 0.2  # seconds between two tries to come back
_TURN = 0.25  # seconds after which a reader looks whether it is to end
_PATIENCE = 15.0  # seconds for one handshake; a socket that does not come back is given up later


class KeptSocket:
    """One socket with its losses; runs in a thread of its own between `start` and `end`.

    Args:
        url: of the edge.
        token: access token.
        ca: file of the CA.
        address: source address, or None.

    Attributes:
        losses: for each close the ``code``, and the ``seconds`` until the socket was welcomed
            again; None while it is not.
        correlations: of the events it got.
    """

    def __init__(self, url: str, token: str, *, ca: str, address: str | None) -> None:
        self._url, self._token, self._ca, self._address = url, token, ca, address
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._lock = threading.Lock()
        self._socket: Socket | None = None
        self.losses: list[dict[str, Any]] = []
        self.correlations: set[str] = set()

    def start(self) -> None:
        """Connect, and go on by itself.

        Raises:
            websockets.exceptions.InvalidHandshake, OSError, TimeoutError: the first try failed.
        """
        self._socket = self._welcomed()
        self._thread.start()

    def end(self) -> None:
        """Close it and wait for its thread."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._socket is not None:
            with contextlib.suppress(ConnectionClosed, OSError):
                self._socket.close()

    @property
    def is_open(self) -> bool:
        """Whether it is connected and welcomed now."""
        return self._socket is not None

    def _run(self) -> None:
        while not self._ending.is_set():
            if self._socket is None:
                self._come_back()
                continue
            try:
                message = json.loads(self._socket.recv(timeout=_TURN))
            except TimeoutError:
                continue
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else 1006
                self._socket = None
                self.losses.append({"code": code, "at": time.monotonic(), "seconds": None})
                continue
            payload = message.get("payload")
            if message.get("type") == "event" and isinstance(payload, dict):
                self.correlations.add(str(payload.get("correlationId")))

    def _come_back(self) -> None:
        loss = self.losses[-1]
        try:
            self._socket = self._welcomed()
        except (InvalidHandshake, OSError, TimeoutError, ConnectionClosed):
            self._ending.wait(_PAUSE)
            return
        loss["seconds"] = round(time.monotonic() - loss["at"], 3)

    def _welcomed(self) -> Socket:
        """An open connection that has said ``connected`` (R4.8)."""
        socket = open_socket(
            self._url, self._token, ca=self._ca, address=self._address, timeout=_PATIENCE
        )
        message = json.loads(socket.recv(timeout=_PATIENCE))
        if message.get("type") != "connected":
            raise OSError(f"seen {message.get('type')!r} as the first message")
        return socket
