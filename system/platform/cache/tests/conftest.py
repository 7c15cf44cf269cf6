"""Starts a Redis of the tests' own on a free port and tells how to disturb it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

_DEADLINE_S = 10.0


class RedisServer:
    """A redis-server with an append-only file, so that a restart brings back old contents."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                "redis-server",
                *("--port", str(self.port)),
                *("--bind", "127.0.0.1"),
                *("--dir", str(self._folder)),
                *("--appendonly", "yes"),
                *("--appendfsync", "everysec"),
                *("--save", ""),
            ],
            stdout=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + _DEADLINE_S
        while time.monotonic() < give_up:
            with suppress(RedisError), Redis(port=self.port, socket_timeout=0.5) as client:
                client.ping()
                return
            time.sleep(0.02)
        raise AssertionError(f"redis-server on port {self.port} not ready in {_DEADLINE_S} s")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    with suppress(AssertionError):
        server.resume()
    server.kill()
