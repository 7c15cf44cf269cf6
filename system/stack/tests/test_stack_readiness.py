"""A part is ready when it says so, and what is missing is named when it is not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from system.stack.launch import Readiness
from system.stack.readiness import problem


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """A server on a free port that gives these answers, one to a connection, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _peer = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


def http(status: int, document: Any) -> bytes:
    """An HTTP answer with a JSON body."""
    return f"HTTP/1.0 {status} X\r\n\r\n{json.dumps(document)}".encode()


READY = {"success": True, "data": {"status": "ready", "checks": {"database": {"status": "up"}}}}
DEGRADED = {"data": {"status": "degraded", "checks": {"redis": {"status": "down"}}}}
NOT_READY = {"error": {"details": {"checks": {"database": {"status": "down"}}}}}


@pytest.mark.parametrize(
    ("kind", "answer", "expected"),
    [
        ("postgres", b"R\0\0\0\x08", None),
        ("postgres", b"E\0\0\0\x08", "starting up"),
        ("redis", b"-NOAUTH Authentication required.\r\n", None),
        ("redis", b"+PONG\r\n", None),
        ("redis", b"-LOADING Redis is loading\r\n", "LOADING"),
        ("rabbitmq", b"\x01\0\0", None),
        ("rabbitmq", b"AMQP\0\0\x09\x01", "Connection.Start"),
        ("http", http(200, READY), None),
        ("http", http(200, DEGRADED), "degraded, down: redis"),
        ("http", http(503, NOT_READY), "status 503, down: database"),
        ("http", http(502, {}), "status 502"),
        ("http", b"HTTP/1.0 200 OK\r\n\r\n<html>", "200 without JSON"),
        ("http", b"SSH-2.0-x", "not understood"),
        ("port", b"", None),
    ],
)
def test_each_kind_of_answer(kind: str, answer: bytes, expected: str | None) -> None:
    """None means ready; everything else says what was seen."""
    with answering(answer) as port:
        seen = problem(Readiness(kind, port), strict=True)

    assert seen == expected if expected is None else expected in (seen or "")


@pytest.mark.parametrize("kind", ["postgres", "redis", "rabbitmq", "http", "edge", "port"])
def test_nobody_there_is_a_problem(kind: str) -> None:
    """A closed port is never ready."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    assert "refused" in (problem(Readiness(kind, port), strict=True) or "")


def test_without_strictness_serving_is_enough() -> None:
    """A part that is restarted while others are down counts as started."""
    with answering(http(200, DEGRADED), http(503, {})) as port:
        assert problem(Readiness("http", port), strict=False) is None
        assert problem(Readiness("http", port), strict=False) is not None


def test_the_broker_is_not_ready_before_its_management() -> None:
    """Definitions and plugins are there when the management asks for credentials."""
    with answering(b"\x01", b"\x01") as amqp, answering(http(503, {}), http(401, {})) as second:
        assert "answers 503" in (problem(Readiness("rabbitmq", amqp, second), strict=True) or "")
        assert problem(Readiness("rabbitmq", amqp, second), strict=True) is None
