"""Whether a part answers, seen from outside with nothing but sockets; cheap enough to poll."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any

from system.stack.launch import Readiness

_SECONDS = 3.0
_EXEMPT = "127.0.0.2"  # R0.16: asking at the edge must not use up anybody's limit


def problem(readiness: Readiness, *, strict: bool) -> str | None:
    """Why the part is not ready yet, as a phrase; None when it is.

    Args:
        strict: services must have all their dependencies; otherwise it is enough that they serve.
    """
    try:
        return _KINDS[readiness.kind](readiness, strict)
    except OSError as error:
        return f"port {readiness.port}: {error.strerror or error}"
    except ValueError as error:
        return f"port {readiness.port}: answer not understood ({error})"


def _postgres(readiness: Readiness, _strict: bool) -> str | None:
    """A server that asks for a password accepts connections; one that starts up says so."""
    parameters = b"user\0postgres\0database\0postgres\0\0"
    with _connect(readiness.port) as connection:
        connection.sendall(struct.pack("!ii", 8 + len(parameters), 196608) + parameters)
        answer = connection.recv(1024)
    return None if answer[:1] == b"R" else "the database system is starting up"


def _redis(readiness: Readiness, _strict: bool) -> str | None:
    with _connect(readiness.port) as connection:
        connection.sendall(b"PING\r\n")
        answer = connection.recv(256)
    # NOAUTH shows a server that serves; LOADING one that still reads its file.
    return None if answer.startswith((b"+PONG", b"-NOAUTH")) else answer.decode("ascii", "replace")


def _rabbitmq(readiness: Readiness, _strict: bool) -> str | None:
    """The AMQP port opens last but for the management port."""
    with _connect(readiness.port) as connection:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        if connection.recv(1) != b"\x01":
            return "AMQP port answers, but not with Connection.Start"
    if readiness.second:
        status, _body = _get(readiness.second, "/api/overview")
        if status != 401:
            return f"management answers {status}, expected 401 without credentials"
    return None


def _http(readiness: Readiness, strict: bool) -> str | None:
    if not strict:
        status, _body = _get(readiness.port, "/health/live")
        return None if status == 200 else f"/health/live answers {status}, expected 200"
    status, body = _get(readiness.port, "/health/ready")
    return _readiness_problem(status, body)


def _edge(readiness: Readiness, strict: bool) -> str | None:
    import ssl  # costs 20 ms, which only this part pays

    context = ssl.create_default_context()
    context.check_hostname = False  # whether the certificate is right is the trial's business
    context.verify_mode = ssl.CERT_NONE
    raw = socket.create_connection(("127.0.0.1", readiness.port), _SECONDS, (_EXEMPT, 0))
    with context.wrap_socket(raw, server_hostname="localhost") as connection:
        status, body = _exchange(connection, "/health/ready")
    if not strict:
        return None
    return _readiness_problem(status, body)


def _port(readiness: Readiness, _strict: bool) -> str | None:
    _connect(readiness.port).close()
    return None


_KINDS: Mapping[str, Callable[[Readiness, bool], str | None]] = {
    "postgres": _postgres,
    "redis": _redis,
    "rabbitmq": _rabbitmq,
    "http": _http,
    "edge": _edge,
    "port": _port,
}


def _readiness_problem(status: int, body: bytes) -> str | None:
    """Judge an answer of /health/ready (R1.54, R1.56): ready, and nothing down."""
    try:
        document: dict[str, Any] = json.loads(body)
    except ValueError:
        return f"/health/ready answers {status} without JSON"
    data = document.get("data") or {}
    if status == 200 and data.get("status") == "ready":
        return None
    checks = data.get("checks") or (document.get("error") or {}).get("details", {}).get("checks")
    down = [name for name, check in (checks or {}).items() if check.get("status") != "up"]
    state = data.get("status") or f"status {status}"
    return f"/health/ready: {state}" + (f", down: {', '.join(down)}" if down else "")


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), _SECONDS)
    connection.settimeout(_SECONDS)
    return connection


def _get(port: int, path: str) -> tuple[int, bytes]:
    with _connect(port) as connection:
        return _exchange(connection, path)


def _exchange(connection: socket.socket, path: str) -> tuple[int, bytes]:
    """One HTTP/1.0 request: the server closes at the end, so there is nothing to parse."""
    deadline = time.monotonic() + _SECONDS
    connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    received = b""
    while time.monotonic() < deadline:
        piece = connection.recv(65536)
        if not piece:
            break
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1][:3].isdigit():
        raise ValueError(f"{received[:40]!r} is not HTTP")
    return int(words[1][:3]), body
