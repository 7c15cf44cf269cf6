"""Bodies, caching, compression, errors, slow clients and logs (R5.26-R5.32)."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import time
from pathlib import Path

import httpx
import pytest

from system.edge.tests.stand_in import Edge, StandIn, received, running_edge, wait_for

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOjF9.c2lnbmF0dXJl"


def asset(edge: Edge, pattern: str) -> str:
    """The path of a built file."""
    root = Path(edge.settings.static_root)
    return "/" + str(next(root.glob(pattern)).relative_to(root))


def error_code(answer: bytes) -> str:
    """The code of the JSON error in a whole answer."""
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"])


@pytest.mark.parametrize(
    ("path", "policy"),
    [
        ("/", "no-cache"),
        ("/some/page", "no-cache"),
        ("/offline.html", "no-cache"),
        ("/sw.js", "no-cache"),
        ("/remoteEntry.js", "no-cache"),
        ("/mfe/auth/remoteEntry.js", "no-cache"),
        ("/auth-mfe/remoteEntry.js", "no-cache"),
        ("/site.webmanifest", "public, max-age=3600"),
        ("assets/page.*.js", "public, max-age=31536000, immutable"),
        ("assets/page.*.css", "public, max-age=31536000, immutable"),
        ("assets/mark.*.png", "public, max-age=31536000, immutable"),
        ("/api/x", "no-store"),
        ("/api/x.0123456789abcdef.js", "no-store"),
        ("/api/own-cache", "no-store, private"),
        ("/graphql", "no-store"),
        ("/metrics", "no-store"),
        ("/assets/none.0123456789abcdef.js", "no-store"),
    ],
)
def test_r5_28_cache_control(edge: Edge, path: str, policy: str) -> None:
    """One Cache-Control per answer, by class; a missing file is not kept for a year."""
    with edge.client() as client:
        reply = client.get(path if path.startswith("/") else asset(edge, path))

    assert reply.headers.get_list("cache-control") == [policy]


def test_r5_27_compression(edge: Edge) -> None:
    """Text from 1,024 bytes is compressed, from the built copy where there is one; PNG is not."""
    with edge.client() as client:
        script = asset(edge, "assets/page.*.js")
        packed = client.get(script, headers={"Accept-Encoding": "gzip"})
        plain = client.get(script, headers={"Accept-Encoding": "identity"})
        picture = client.get(asset(edge, "assets/*.png"), headers={"Accept-Encoding": "gzip"})
        small = client.get("/remoteEntry.js", headers={"Accept-Encoding": "gzip"})
        api = client.get("/api/large", headers={"Accept-Encoding": "gzip"})
        kept = (Path(edge.settings.static_root) / (script[1:] + ".gz")).read_bytes()

    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["content-length"] == str(len(kept))
    assert packed.content == plain.content == gzip.decompress(kept)
    assert "Accept-Encoding" in packed.headers["vary"]
    assert "Accept-Encoding" in plain.headers["vary"]
    assert "content-encoding" not in picture.headers
    assert "content-encoding" not in small.headers
    assert api.headers["content-encoding"] == "gzip"
    assert {"Origin", "Accept-Encoding"} <= set(api.headers.get_list("vary", split_commas=True))


def test_r5_29_remotes_are_open_to_other_origins(edge: Edge) -> None:
    """Remote files say `*`, and OPTIONS on them is 204; nothing else does (R5.29)."""
    with edge.client() as client:
        for path in ("/remoteEntry.js", "/mfe/auth/remoteEntry.js", "/auth-mfe/remoteEntry.js"):
            assert client.get(path).headers.get_list("access-control-allow-origin") == ["*"]
            preflight = client.options(path)
            assert preflight.status_code == 204
            assert preflight.headers.get_list("access-control-allow-origin") == ["*"]
        for path in ("/", "/sw.js", "/api/x", "/mfe/auth/none.js"):
            assert "access-control-allow-origin" not in client.get(path).headers
        assert client.options("/").status_code == 405


@pytest.mark.parametrize("size", [10_485_760, 10_485_761])
@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_r5_26_body_limit(edge: Edge, size: int, chunked: bool) -> None:
    """10 MiB reach the gateway, one byte more is 413 (R5.26), sized and chunked."""
    body = b"x" * size
    with edge.client() as client:
        if chunked:
            reply = client.post(
                "/api/x", content=(body[i : i + 65536] for i in range(0, size, 65536))
            )
        else:
            reply = client.post("/api/x", content=body)

    if size == 10_485_760:
        assert reply.status_code == 200
        assert edge.upstream.heard[-1].body == size
    else:
        assert reply.status_code == 413
        assert reply.json()["error"]["code"] == "PAYLOAD_TOO_LARGE"


MALFORMED = [
    ("no request line", b"GARBAGE\r\n\r\n", 400),
    ("no path", b"GET HTTP/1.1\r\n\r\n", 400),
    ("space in the path", b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ("no host", b"GET /api/x HTTP/1.1\r\n\r\n", 400),
    ("two hosts", b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n", 400),
    ("bad escape", b"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ("NUL", b"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ("above the root", b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ("space in a name", b"GET / HTTP/1.1\r\nHost: localhost\r\nA b: c\r\n\r\n", 400),
    ("folded line", b"GET / HTTP/1.1\r\nHost: localhost\r\nA: b\r\n c\r\n\r\n", 400),
    (
        "length and chunks",
        b"POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "two lengths",
        b"POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
        b"Content-Length: 5\r\n\r\nabcd",
        400,
    ),
    (
        "bad length",
        b"POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: +4\r\n\r\nabcd",
        400,
    ),
    (
        "other coding",
        b"POST /api/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        501,
    ),
    ("version", b"GET / HTTP/3.7\r\nHost: localhost\r\n\r\n", 505),
    ("connect", b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ("asterisk", b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ("long path", b"GET /" + b"a" * 16384 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    (
        "long header",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 16384 + b"\r\n\r\n",
        431,
    ),
    (
        "many headers",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"Aaaa: bbbb\r\n" * 1500 + b"\r\n",
        431,
    ),
]


@pytest.mark.parametrize(
    ("name", "request_bytes", "status"), MALFORMED, ids=[row[0] for row in MALFORMED]
)
def test_r5_30_malformed_request(edge: Edge, name: str, request_bytes: bytes, status: int) -> None:
    """A malformed request gets the envelope with its headers once, and never reaches upstream."""
    before = len(edge.upstream.heard)
    answer = edge.raw(request_bytes)

    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert error_code(answer) == ("INTERNAL_ERROR" if status >= 500 else "BAD_REQUEST")
    assert answer.count(b"\r\nStrict-Transport-Security: ") == 1
    assert answer.count(b"\r\nX-Correlation-ID: ") == 1
    assert len(edge.upstream.heard) == before


def test_r5_32_sixteen_kibibytes_of_head(edge: Edge) -> None:
    """A head just below 16 KiB passes whole."""
    start = b"GET /api/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nA: "
    answer = edge.raw(start + b"a" * 14_000 + b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 ")


def test_r5_30_http09_is_closed(edge: Edge) -> None:
    """HTTP/0.9 gets nothing at all (R5.30)."""
    assert edge.raw(b"GET /\r\n") == b""
    assert edge.raw(b"GET /api/x\r\n") == b""


def test_r5_30_plain_http_on_the_tls_port(edge: Edge) -> None:
    """Plain HTTP where TLS is spoken is 400 with the envelope."""
    with httpx.Client(trust_env=False) as client:
        reply = client.get(f"http://127.0.0.1:{edge.settings.https_port}/")

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "BAD_REQUEST")


def test_r5_30_upstream_errors_pass_unchanged(edge: Edge) -> None:
    """An upstream's own status and body are not replaced."""
    with edge.client() as client:
        reply = client.get("/api/teapot")

    assert reply.status_code == 418
    assert reply.json()["success"] is True


def test_r5_30_gateway_gone(edge_folder: Path) -> None:
    """A refused gateway is 502 at once: JSON for APIs, a page for pages; files go on."""
    folder = edge_folder / "alone"
    folder.mkdir()
    with running_edge(folder) as edge, edge.client() as client:
        edge.upstream.stop()
        replies = {path: client.get(path) for path in ("/api/x", "/graphql", "/ws", "/health")}
        page = client.get("/api-docs")
        assert client.get("/").status_code == 200
        edge.upstream.start()
        assert client.get("/api/x").status_code == 200  # healed at once

    assert {path: reply.status_code for path, reply in replies.items()} == dict.fromkeys(
        replies, 502
    )
    assert {reply.json()["error"]["code"] for reply in replies.values()} == {"BAD_GATEWAY"}
    # as nginx saw it: a client on a busy machine takes long to read its first answer
    lines = [line for line in edge.log_lines() if line["status"] == 502]
    assert len(lines) == len(replies) + 1
    assert max(line["requestSeconds"] for line in lines) < 1
    assert page.status_code == 502
    assert page.headers["content-type"].startswith("text/html")
    assert "nginx" not in page.text


def test_r5_16_one_of_two_gateways_gone(edge_folder: Path) -> None:
    """With one gateway gone the other answers everything; a returned one is used at once."""
    folder = edge_folder / "two"
    folder.mkdir()
    second = StandIn()
    second.start()
    try:
        with (
            running_edge(folder, second_gateway=f"127.0.0.1:{second.port}") as edge,
            edge.client() as client,
        ):
            second.stop()
            statuses = [client.post("/api/x").status_code for _ in range(20)]
            second.start()
            heard = len(second.heard)
            statuses += [client.post("/api/x").status_code for _ in range(20)]
            assert len(second.heard) > heard
    finally:
        second.stop()

    assert statuses == [200] * 40


def test_r5_16_a_silent_gateway_is_passed_over(edge_folder: Path) -> None:
    """Nothing was sent to whom no connection was made; whoever got a request is the only one."""
    folder = edge_folder / "silent"
    folder.mkdir()

    def shorter(text: str) -> str:
        for was, now in (
            ("proxy_connect_timeout 5s", "proxy_connect_timeout 1s"),
            ("proxy_next_upstream_timeout 10s", "proxy_next_upstream_timeout 2s"),
            ("proxy_read_timeout 60s", "proxy_read_timeout 3s"),
        ):
            assert was in text
            text = text.replace(was, now)
        return text

    second = StandIn()
    second.start()
    with (
        contextlib.ExitStack() as kept,
        running_edge(folder, shorter, second_gateway=f"127.0.0.1:{second.port}") as edge,
    ):
        with edge.client() as client:
            assert client.get("/api/silent").status_code == 504
        heard = [*edge.upstream.heard, *second.heard]
        assert [one.target for one in heard] == ["/api/silent"]

        second.stop()
        silent = kept.enter_context(socket.create_server(("127.0.0.1", second.port), backlog=0))
        silent.settimeout(0)
        while _is_connected(kept, silent.getsockname()):
            pass  # until its queue is full, and the system lets handshakes go unanswered
        with edge.client() as client:
            assert [client.post("/api/x").status_code for _ in range(6)] == [200] * 6
        assert max(line["requestSeconds"] for line in edge.log_lines()[-6:]) >= 1, "it was tried"


def _is_connected(kept: contextlib.ExitStack, place: tuple[str, int]) -> bool:
    """Take a place in a server's queue; false when there is none left."""
    try:
        kept.enter_context(socket.create_connection(place, 0.5))
    except TimeoutError:
        return False
    return True


def test_r5_32_slow_clients(impatient_edge: Edge) -> None:
    """A head or body that stops coming is closed, and before its head it costs no upstream."""
    before = len(impatient_edge.upstream.heard)
    started = time.monotonic()
    with impatient_edge.connect() as connection:
        connection.sendall(b"GET /api/x HTTP/1.1\r\nHost: loc")
        received(connection, 8)
        assert 1.5 < time.monotonic() - started < 7
    assert len(impatient_edge.upstream.heard) == before
    started = time.monotonic()
    with impatient_edge.connect() as connection:
        connection.sendall(
            b"POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc"
        )
        received(connection, 8)
        assert 1.5 < time.monotonic() - started < 7
    wait_for(lambda: impatient_edge.upstream.heard[-1].ended_early, "the upstream to notice")


def test_r5_32_bodies_stream_both_ways(edge: Edge) -> None:
    """The first bytes of a body reach the other side before the last are sent (R5.32)."""
    before = len(edge.upstream.heard)
    with edge.connect() as connection:
        connection.sendall(
            b"POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n"
            b"Connection: close\r\n\r\nabc"
        )
        wait_for(
            lambda: len(edge.upstream.heard) > before and edge.upstream.heard[-1].body == 3,
            "half a body at the upstream",
        )
        connection.sendall(b"def")
        assert received(connection, 5).startswith(b"HTTP/1.1 200 ")
    with edge.client() as client, client.stream("GET", "/api/slow-body") as reply:
        started = time.monotonic()
        pieces = [(time.monotonic() - started, piece) for piece in reply.iter_raw()]
    assert pieces[-1][0] - pieces[0][0] > 0.2  # the upstream waits half a second in between


def test_r5_32_client_abort_reaches_the_upstream(edge: Edge) -> None:
    """When the client goes away in the middle of its body, the upstream is told."""
    before = len(edge.upstream.heard)
    with edge.connect() as connection:
        connection.sendall(
            b"POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc"
        )
        wait_for(lambda: len(edge.upstream.heard) > before, "the request at the upstream")
    wait_for(lambda: edge.upstream.heard[-1].ended_early, "the abort at the upstream", 5)


TARGETS = [
    (f"/ws?token={JWT}", "/ws?token=[REDACTED]"),
    (f"/ws?a=1&token={JWT}&b=2", "/ws?a=1&token=[REDACTED]&b=2"),
    (f"/ws?Token={JWT}", "/ws?Token=[REDACTED]"),
    (f"/ws?%74oken={JWT}", "/ws?[REDACTED]"),
    ("/ws?token=abc&token=def", "/ws?[REDACTED]"),
    ("/ws?a=1;token=abc", "/ws?[REDACTED]"),
    ("/api/x?refreshToken=abc", "/api/x?[REDACTED]"),
    ("/api/x?password=abc&y=1", "/api/x?[REDACTED]"),
    (f"/api/x?q={JWT}", "/api/x?[REDACTED]"),
    (f"/api/{JWT}/x", "[REDACTED]"),
    ("/api/auth/password?limit=5", "/api/auth/password?limit=5"),
    ("/api/payments?status=pending&search=a%20b", "/api/payments?status=pending&search=a%20b"),
    ("/metrics?token=abc", "/metrics?token=[REDACTED]"),
    ("/api/drop?token=abc", "/api/drop?token=[REDACTED]"),
]


@pytest.mark.parametrize(("target", "logged"), TARGETS)
def test_r5_31_log_holds_no_token(edge: Edge, target: str, logged: str) -> None:
    """The access log has the request without its secrets; the error log has no request (R5.31)."""
    name = f"log-{abs(hash(target))}"
    edge.raw(
        f"GET {target} HTTP/1.1\r\nHost: localhost\r\nX-Correlation-ID: {name}\r\n"
        f"Authorization: Bearer {JWT}\r\nCookie: a={JWT}\r\nConnection: close\r\n\r\n".encode()
    )
    wait_for(lambda: any(line["correlationId"] == name for line in edge.log_lines()), "the line")
    line = next(line for line in edge.log_lines() if line["correlationId"] == name)

    assert line["path"] == logged
    assert (line["client"], line["method"], line["service"]) == ("127.0.0.2", "GET", "edge")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["timestamp"])
    assert {"status", "bytes", "requestSeconds", "upstreamConnectSeconds", "upstreamSeconds"} < set(
        line
    )
    assert JWT not in Path(edge.settings.access_log).read_text(encoding="utf-8")


def test_r5_31_error_log_holds_no_request(edge: Edge) -> None:
    """429 and 502 leave no request line in the error log, where nginx would write the token."""
    ask = b"GET /ws?token=abcdef HTTP/1.1\r\nHost: localhost\r\n"
    burst = (ask + b"\r\n") * 40 + ask + b"Connection: close\r\n\r\n"
    answers = edge.raw(burst, "127.0.3.250")
    seen = {int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:] if part[:3].isdigit()}
    with edge.client() as client:
        seen.add(client.get("/api/drop?token=abcdef").status_code)

    assert {429, 502} <= seen
    assert "token" not in edge.error_log()
    assert "request:" not in edge.error_log()
