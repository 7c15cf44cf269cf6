"""R0.11: at SIGTERM callers leave a service before it ends, so that no request is lost."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[4]
# A service with nothing but its own routes.
SERVICE = """
import os
from system.platform.config.loading import load
from system.platform.http.app import create_app
from system.platform.http.serving import run
settings = load("auth", os.environ)
run(create_app(settings, [], checks={}, essential=()), settings)
"""


@pytest.fixture
def port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def service(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A service that serves at the port."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(PROJECT),
        "AUTH_SERVICE_PORT": str(port),
        "BIND_ADDRESS": "127.0.0.1",
        "OTEL_ENABLED": "false",
        "AUTH_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/auth_db",
    }
    with subprocess.Popen([sys.executable, "-c", SERVICE], env=environment) as process:
        try:
            deadline = time.monotonic() + 60
            while not listens(port):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def asked(connection: http.client.HTTPConnection) -> tuple[int, str | None]:
    """Status and Connection header of one more answer on a kept connection."""
    connection.request("GET", "/health/live")
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("Connection")


def test_a_caller_that_kept_a_connection_is_answered_once_more(
    service: subprocess.Popen[bytes], port: int
) -> None:
    """A request on a kept connection succeeds, and its answer asks to close; no other waits."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as kept:
        assert asked(kept) == (200, None)

        service.send_signal(signal.SIGTERM)
        until_refused(port)

        assert asked(kept) == (200, "close")
    assert service.wait(3) == 0


def test_without_callers_it_ends_at_once(service: subprocess.Popen[bytes], port: int) -> None:
    """Nobody is waited for who is not there."""
    service.send_signal(signal.SIGTERM)

    assert service.wait(3) == 0


def test_a_caller_that_stays_is_left(service: subprocess.Popen[bytes], port: int) -> None:
    """An idle connection that its owner never closes keeps nobody from ending within 10 s."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as kept:
        assert asked(kept) == (200, None)

        service.send_signal(signal.SIGTERM)

        assert service.wait(10) == 0


def until_refused(port: int) -> None:
    deadline = time.monotonic() + 10
    while listens(port):
        assert time.monotonic() < deadline, "it still accepts connections"
        time.sleep(0.02)
