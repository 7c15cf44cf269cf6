"""The health check that runs inside our containers."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from system.images.build import HERE


@contextmanager
def answering(line: bytes) -> Iterator[int]:
    """A server that answers one connection with a status line."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while b"\r\n\r\n" not in (connection.recv(1024, socket.MSG_PEEK) or b"\r\n\r\n"):
                    time.sleep(0.01)  # bash writes a line at a time
                connection.recv(1024)
                connection.sendall(line)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def asked(port: int, **environment: str) -> int:
    """The check's exit code."""
    return subprocess.run(
        ["bash", str(HERE / "health.sh")],
        env={"PATH": "/usr/bin:/bin", "HEALTH_PORT": str(port), **environment},
        capture_output=True,
        check=False,
    ).returncode


@pytest.mark.parametrize(
    ("line", "healthy"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 301 Moved Permanently\r\n\r\n", True),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False),
        (b"HTTP/1.1 502 Bad Gateway\r\nX: 200 \r\n\r\n", False),
        (b"", False),
    ],
)
def test_a_status_is_judged(line: bytes, healthy: bool) -> None:
    """200 and a redirect are health, everything else is not."""
    with answering(line) as port:
        assert (asked(port) == 0) == healthy


def test_nobody_there_is_not_health() -> None:
    """A closed port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    assert asked(port) != 0


def test_without_a_path_a_connection_is_enough() -> None:
    """For those that speak no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert asked(server.getsockname()[1], HEALTH_PATH="") == 0
