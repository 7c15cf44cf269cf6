"""A relay for tests: reads the PROXY line, and connects on from the address it names."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from harness.addresses import carry


@contextlib.contextmanager
def relay(place: tuple[str, int]) -> Iterator[tuple[str, list[str]]]:
    """Lead to a place until the end of the block.

    Yields:
        ``host:port`` of the relay, and the lines it was told so far.
    """
    lines: list[str] = []
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        thread = threading.Thread(target=_accept, args=(listener, place, lines), daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", lines
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _accept(listener: socket.socket, place: tuple[str, int], lines: list[str]) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(near, place, lines), daemon=True).start()


def _serve(near: socket.socket, place: tuple[str, int], lines: list[str]) -> None:
    with near, contextlib.suppress(OSError):
        line = b""
        while not line.endswith(b"\r\n"):
            byte = near.recv(1)
            if not byte or len(line) > 107:  # the longest line there is
                return
            line += byte
        lines.append(line.decode("ascii").rstrip("\r\n"))
        words = lines[-1].split(" ")
        if words[0] != "PROXY" or len(words) != 6:
            return
        with socket.create_connection(place, 10, source_address=(words[2], 0)) as far:
            carry(near, far)
