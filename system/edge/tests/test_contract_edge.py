"""What clients can see of section 5 beside routes, limits, headers and bodies: TLS, upstreams."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

import pytest

from system.edge.render import CIPHERS
from system.edge.tests.stand_in import Edge, StandIn, running_edge, wait_for

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def handshake(edge: Edge, context: ssl.SSLContext) -> ssl.SSLSocket:
    """A TLS connection; raises ssl.SSLError or ConnectionError when the edge refuses it."""
    raw = socket.create_connection(("127.0.0.1", edge.settings.https_port), 10, ("127.0.0.2", 0))
    return context.wrap_socket(raw, server_hostname="localhost")


def only(edge: Edge, version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client that speaks one version, the old ones too."""
    context = edge.tls
    context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_r5_1_both_protocols_are_spoken(edge: Edge, protocol: str) -> None:
    """The TLS port agrees to HTTP/2 and to HTTP/1.1."""
    context = edge.tls
    context.set_alpn_protocols([protocol])
    with handshake(edge, context) as connection:
        assert connection.selected_alpn_protocol() == protocol


def test_r5_1_a_foreign_host_is_sent_to_the_first(edge: Edge) -> None:
    """The redirect names a host of NGINX_HOST whatever was asked for."""
    answer = edge.raw_plain(b"GET /x HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 301 ")
    assert f"\r\nLocation: {edge.settings.public_origin}/x\r\n".encode() in answer


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_r5_2_versions_that_are_spoken(edge: Edge, version: ssl.TLSVersion) -> None:
    """TLS 1.2 and 1.3, without compression."""
    with handshake(edge, only(edge, version)) as connection:
        assert connection.version() == version.name.replace("_", ".")
        assert connection.compression() is None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_r5_2_versions_that_are_refused(edge: Edge, version: ssl.TLSVersion) -> None:
    """The edge says no: its alert arrives, so it is not this client that cannot."""
    context = only(edge, version)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        handshake(edge, context)


# The development certificate has a P-256 key, so the suites for RSA keys cannot be seen here.
ECDSA = [name for name in CIPHERS if "ECDSA" in name]


@pytest.mark.parametrize("suite", ECDSA)
def test_r5_2_suites_of_the_profile(edge: Edge, suite: str) -> None:
    """Each of the profile is taken."""
    context = only(edge, ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(suite)
    with handshake(edge, context) as connection:
        assert (connection.cipher() or ("",))[0] == suite


@pytest.mark.parametrize(
    "suite",
    [
        "ECDHE-ECDSA-AES128-SHA256",
        "ECDHE-ECDSA-AES256-SHA384",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA",
        "ECDHE-ECDSA-AES128-CCM",
    ],
)
def test_r5_2_other_suites_are_refused(edge: Edge, suite: str) -> None:
    """Nothing outside the profile, though the key would do for it."""
    context = only(edge, ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(f"{suite}:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match="ALERT_HANDSHAKE_FAILURE"):
        handshake(edge, context)


def test_r5_2_the_client_chooses(edge: Edge) -> None:
    """No server preference: the first suite of the client's list is taken, whichever it is."""
    for order in (ECDSA, ECDSA[::-1]):
        context = only(edge, ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(":".join(order))
        with handshake(edge, context) as connection:
            assert (connection.cipher() or ("",))[0] == order[0]


@pytest.mark.parametrize(
    ("curve", "taken"),
    [("X25519", True), ("prime256v1", True), ("secp384r1", True), ("secp521r1", False)],
)
def test_r5_2_curves(edge: Edge, curve: str, taken: bool) -> None:
    """The three of the profile and no other."""
    context = edge.tls
    context.set_ecdh_curve(curve)
    if taken:
        handshake(edge, context).close()
    else:
        with pytest.raises(ssl.SSLError, match="ALERT_HANDSHAKE_FAILURE"):
            handshake(edge, context)


def test_r5_2_no_session_tickets(edge: Edge) -> None:
    """A session of TLS 1.2 can be resumed, but not by a ticket."""
    with handshake(edge, only(edge, ssl.TLSVersion.TLSv1_2)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        session = connection.session
    assert session is not None
    assert not session.has_ticket


def test_r5_4_no_version_anywhere(edge: Edge) -> None:
    """Neither in `Server` nor in a page or error the edge makes."""
    with edge.client() as client:
        for path in ("/", "/metrics", "/api/drop", "/assets/none.js", "/offline.html"):
            answer = client.get(path)
            assert answer.headers.get_list("server") == ["nginx"]
            assert "nginx/" not in answer.text
    assert b"nginx/" not in edge.raw(b"GARBAGE\r\n\r\n")


def test_r5_5_room_for_connections(edge: Edge) -> None:
    """A worker may hold 16,384 connections, and the running one may open as many files."""
    configuration = (Path(edge.settings.temp_folder) / "nginx.conf").read_text("utf-8")
    assert "worker_connections 16384;" in configuration
    pid = int(Path(edge.settings.pid_path).read_text("utf-8"))
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()
    for worker in children:
        limits = Path(f"/proc/{worker}/limits").read_text("utf-8")
        (files,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
        assert int(files.split()[3]) == edge.settings.file_limit
    assert edge.settings.file_limit >= 16_384


def test_r5_9_a_quiet_connection_stays(impatient_edge: Edge) -> None:
    """Where others are given up after a second without a byte, `/ws` waits on."""
    with impatient_edge.connect() as connection:
        connection.sendall(UPGRADE)
        assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")
        # Control: the same silence ends an ordinary request.
        with impatient_edge.client() as client:
            assert client.get("/api/silent").status_code == 504
            assert client.get("/api/silent").status_code == 504
        connection.sendall(b"still there?")
        assert connection.recv(4096) == b"still there?"


def test_r5_16_connections_upstream_are_kept(edge: Edge) -> None:
    """Thirty requests of thirty clients, one after the other, need no new connection each."""
    with edge.client() as client:
        client.get("/api/first")
    before = edge.upstream.connections
    for number in range(30):
        with edge.client() as client:
            assert client.get(f"/api/{number}").status_code == 200
    assert edge.upstream.connections - before <= 2


def test_r5_16_the_least_busy_gateway_is_asked(edge_folder: Path) -> None:
    """While one gateway is busy, the other gets all requests."""
    folder = edge_folder / "least"
    folder.mkdir()
    second = StandIn()
    second.start()
    try:
        with (
            running_edge(folder, second_gateway=f"127.0.0.1:{second.port}") as edge,
            edge.connect() as busy,
            edge.client() as client,
        ):
            busy.sendall(b"GET /api/silent HTTP/1.1\r\nHost: localhost\r\n\r\n")
            both = (edge.upstream, second)
            wait_for(lambda: any(stand_in.heard for stand_in in both), "the busy request")
            idle = second if edge.upstream.heard else edge.upstream
            for _ in range(12):
                assert client.get("/api/x").status_code == 200
            assert len(idle.heard) == 12
    finally:
        second.stop()


def test_r5_16_timeouts_upstream(edge: Edge) -> None:
    """Connect 5 s, send and read 60 s; what shorter ones do is tested with a shorter one."""
    configuration = (Path(edge.settings.temp_folder) / "nginx.conf").read_text("utf-8")
    for name, seconds in (("connect", 5), ("send", 60), ("read", 60)):
        assert f"\n    proxy_{name}_timeout {seconds}s;" in configuration


@pytest.mark.parametrize(
    ("method", "path", "at_once", "address"),
    [
        ("GET", "/api/x", 21, "127.0.3.201"),
        ("POST", "/api/auth/login", 6, "127.0.3.202"),
        ("GET", "/", 101, "127.0.3.203"),
    ],
)
def test_r5_20_a_burst_is_not_delayed(
    edge: Edge, method: str, path: str, at_once: int, address: str
) -> None:
    """All of it is answered at once; queued at the zone's rate it would take 6 s at least."""
    ask = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()
    last = ask.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    started = time.monotonic()
    answer = edge.raw(ask * (at_once - 1) + last, address)
    took = time.monotonic() - started
    assert answer.count(b"HTTP/1.1 200 ") == at_once
    assert took < 5


def test_r5_24_the_policy_word_for_word(edge: Edge) -> None:
    """Of a page and of an API answer alike."""
    port = edge.settings.https_port
    expected = (
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob: https:; font-src 'self' data:; "
        f"connect-src 'self' wss://localhost:{port}; worker-src 'self'; manifest-src 'self'; "
        "frame-src 'self'; frame-ancestors 'self'; object-src 'none'; base-uri 'self'; "
        "form-action 'self'"
    )
    with edge.client() as client:
        for path in ("/", "/api/x", "/metrics"):
            assert client.get(path).headers.get_list("content-security-policy") == [expected]


def test_r5_28_no_api_answer_is_cached_at_the_edge(edge: Edge) -> None:
    """Each of two equal requests reaches the gateway."""
    before = len(edge.upstream.heard)
    with edge.client() as client:
        for _ in range(2):
            assert client.get("/api/same").headers.get_list("cache-control") == ["no-store"]
    assert [heard.target for heard in edge.upstream.heard[before:]] == ["/api/same"] * 2


def test_r5_32_a_slow_head_or_body_is_logged_as_408(impatient_edge: Edge) -> None:
    """nginx closes without an answer and notes 408; 10 s are two in this configuration."""
    head = b"POST /api/slow408 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc"
    with impatient_edge.connect() as connection:
        connection.sendall(head)
        started = time.monotonic()
        assert connection.recv(4096) == b""
        assert 1.5 < time.monotonic() - started < 8
    wait_for(
        lambda: any(
            (line["path"], line["status"]) == ("/api/slow408", 408)
            for line in impatient_edge.log_lines()
        ),
        "408 in the log",
    )
