"""Every class of answer carries each security header exactly once (R5.23-R5.25, R1.53)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from system.edge.render import security_headers
from system.edge.tests.stand_in import Edge, running_edge

# Class, method, path, body, the status that proves the class.
CLASSES = [
    ("page", "GET", "/", b"", 200),
    ("page of the shell", "GET", "/payments", b"", 200),
    ("worker", "GET", "/sw.js", b"", 200),
    ("remote", "GET", "/mfe/payments/remoteEntry.js", b"", 200),
    ("remote by its other name", "GET", "/payments-mfe/remoteEntry.js", b"", 200),
    ("preflight of a remote", "OPTIONS", "/mfe/payments/remoteEntry.js", b"", 204),
    ("api", "GET", "/api/payments", b"", 200),
    ("credentials", "POST", "/api/auth/login", b"{}", 200),
    ("api error of upstream", "GET", "/api/teapot", b"", 418),
    ("graphql", "POST", "/graphql", b"{}", 200),
    ("health", "GET", "/health/ready", b"", 200),
    ("api description", "GET", "/api-docs.json", b"", 200),
    ("web socket without upgrade", "GET", "/ws", b"", 200),
    ("hidden", "GET", "/metrics", b"", 404),
    ("missing asset", "GET", "/assets/none.js", b"", 404),
    ("method", "DELETE", "/", b"", 405),
    ("trace", "TRACE", "/", b"", 405),
    ("trace of the api", "TRACE", "/api/payments", b"", 404),
    ("broken upstream", "GET", "/api/drop", b"", 502),
    ("large", "POST", "/api/x", b"x" * 10_485_761, 413),
    ("precondition", "GET", "/", b"", 412),
    ("not modified", "GET", "/", b"", 304),
    ("range", "GET", "/sw.js", b"", 200),
    ("range beyond the end", "GET", "/sw.js", b"", 200),
]
REQUEST_HEADERS = {
    "precondition": {"If-Match": '"other"'},
    "not modified": {"If-None-Match": "*"},
    "range": {"Range": "bytes=0-3", "Accept-Encoding": "identity"},
    "range beyond the end": {"Range": "bytes=99999-", "Accept-Encoding": "identity"},
}


def once(reply: httpx.Response, expected: dict[str, str]) -> dict[str, Any]:
    """The headers that are not there exactly once with the expected value."""
    seen = {name: reply.headers.get_list(name) for name in expected}
    return {name: values for name, values in seen.items() if values != [expected[name]]}


@pytest.mark.parametrize(
    ("name", "method", "path", "body", "status", "http2"),
    [
        pytest.param(*row, http2, id=f"{row[0]}-{'h2' if http2 else 'http/1.1'}")
        for row in CLASSES
        for http2 in (False, True)
        # httpx sends a whole body before it looks at an HTTP/2 answer.
        if not (http2 and row[0] == "large")
    ],
)
def test_r5_4_r5_23_headers_once(
    edge: Edge, name: str, method: str, path: str, body: bytes, status: int, http2: bool
) -> None:
    """Each class of answer, in both protocols, has each header once and one correlation id."""
    with edge.client(http2=http2) as client:
        reply = client.request(
            method,
            path,
            content=body,
            headers={"X-Correlation-ID": "t-1"} | REQUEST_HEADERS.get(name, {}),
        )

    assert reply.status_code == status
    assert once(reply, security_headers(edge.settings)) == {}
    assert reply.headers.get_list("x-correlation-id") == ["t-1"]
    assert reply.headers.get_list("x-powered-by") == []
    assert reply.headers.get_list("server") == ["nginx"]
    assert len(reply.headers.get_list("cache-control")) == 1


def test_r5_23_timeout_headers(impatient_edge: Edge) -> None:
    """A 504 carries them too, and is JSON below /api."""
    with impatient_edge.client() as client:
        reply = client.get("/api/silent")

    assert reply.status_code == 504
    assert reply.json()["error"]["code"] == "GATEWAY_TIMEOUT"
    assert once(reply, security_headers(impatient_edge.settings)) == {}


def test_r5_25_redirect_headers(edge: Edge) -> None:
    """The plain port's 301 has all but Strict-Transport-Security."""
    expected = security_headers(edge.settings)
    del expected["Strict-Transport-Security"]
    with edge.plain_client() as client:
        reply = client.get("/api/x?y=1")

    assert reply.status_code == 301
    assert once(reply, expected) == {}
    assert reply.headers.get_list("strict-transport-security") == []


def test_r5_9_upgrade_passes(edge: Edge) -> None:
    """`/ws` is upgraded and bytes go both ways; no other path is upgraded."""
    ask = (
        "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with edge.connect() as connection:
        connection.sendall(ask.format("/ws?token=abc").encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")
        connection.sendall(b"ping")
        assert connection.recv(4096) == b"ping"
    for path in ("/ws/", "/api/ws", "/"):
        answer = edge.raw(ask.format(path).replace(": Upgrade", ": Upgrade, close").encode())
        assert answer.startswith(b"HTTP/1.1 200 ")


def test_header_dropped_in_the_template_is_noticed(edge_folder: Any) -> None:
    """With a location-level add_header, the classic fault, the look at headers fails."""
    folder = edge_folder / "faulty"
    folder.mkdir()

    def faulty(text: str) -> str:
        return text.replace(
            "location / {\n            limit_req",
            "location / {\n            add_header X-Own 1;\n            limit_req",
        )

    with running_edge(folder, faulty) as started, started.client() as client:
        missing = once(client.get("/"), security_headers(started.settings))

    assert set(missing) == set(security_headers(started.settings))
