"""Leads every connection on a port to another place; runs by itself in a place-holder container.

``python -c <this text> LISTEN_PORT HOST PORT``. Ends of either side are passed on as they come, so
that whoever stands in sees a client go away.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading


def serve(port: int, place: tuple[str, int]) -> None:
    """Forward for ever."""
    with socket.create_server(("0.0.0.0", port), backlog=128) as listener:
        print("listening", flush=True)
        while True:
            near, _ = listener.accept()
            threading.Thread(target=_forward, args=(near, place), daemon=True).start()


def _forward(near: socket.socket, place: tuple[str, int]) -> None:
    with near:
        try:
            far = socket.create_connection(place, 5)
        except OSError:
            return
        with far:
            far.settimeout(None)
            back = threading.Thread(target=_carry, args=(far, near), daemon=True)
            back.start()
            _carry(near, far)
            back.join()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    serve(int(sys.argv[1]), (sys.argv[2], int(sys.argv[3])))
