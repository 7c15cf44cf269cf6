"""A stand-in for a service: it takes the service's place on its port and says what it saw when."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

Behaviour = Callable[["Conversation"], None]


@dataclass
class Conversation:
    """One request as the stand-in reads it, and the connection it came on.

    Attributes:
        connection: the socket; a behaviour writes its answer there.
        head: request line and headers, as text.
        early: the beginning of the body, if it came together with the head.
    """

    connection: socket.socket
    head: str
    early: bytes = b""
    received: bytearray = field(default_factory=bytearray)

    def header(self, name: str) -> str:
        """The value of a header; empty when it is not there."""
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.strip().lower() == name.lower():
                return value.strip()
        return ""

    def read(self, seconds: float) -> bytes:
        """The next bytes of the body; empty when the peer has ended.

        Raises:
            TimeoutError: nothing came within so many seconds.
        """
        if self.early:
            found, self.early = self.early, b""
            return found
        self.connection.settimeout(seconds)
        return self.connection.recv(65536)

    def gone_at(self, seconds: float) -> float | None:
        """When the peer ended the connection (`time.monotonic`); None if not in so many seconds."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                if not self.read(left):
                    return time.monotonic()
            except TimeoutError:
                return None
            except OSError:  # reset: that is an end, too
                return time.monotonic()
        return None


class StandIn:
    """Listens on a port and answers each request by a behaviour, a thread for each connection.

    Use as a context manager.

    Args:
        place: host and port.
        behaviour: is handed each conversation; exceptions end that conversation only.
    """

    def __init__(self, place: tuple[str, int], behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._listener = socket.create_server(place)
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(30)
            try:
                received = b""
                while b"\r\n\r\n" not in received:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    received += piece
                head, _, early = received.partition(b"\r\n\r\n")
                self._behaviour(Conversation(connection, head.decode("latin-1"), early))
            except OSError:
                return
