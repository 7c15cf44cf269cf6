"""Source addresses: bound here, or taken by a relay; the other side cannot tell which."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from harness import addresses
from harness.probe import exchange, http_client
from harness.tests.relay import relay

ADDRESS = "127.0.3.9"


class _Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the address and the Host it saw."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.client_address[0]} {self.headers['Host']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[int]:
    """Port of a plain server on 127.0.0.1."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield int(running.server_address[1])
        running.shutdown()


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = os.environ.get(addresses.VARIABLE)
    assert before is None
    yield
    addresses.use({})


def _ask(host: str, port: int, address: str | None) -> str:
    with addresses.connect(host, port, address, 5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\nHost: there\r\n\r\n")
        received = b""
        while piece := connection.recv(4096):
            received += piece
    return received.rpartition(b"\r\n")[2].decode()


def test_without_relays_the_address_is_bound(server: int) -> None:
    """The server sees the address that was asked for."""
    assert addresses.can_bind()
    assert _ask("127.0.0.1", server, ADDRESS) == f"{ADDRESS} there"
    assert _ask("127.0.0.1", server, None) == "127.0.0.1 there"


def test_a_relay_takes_the_address(server: int) -> None:
    """The server sees the address; the relay was told in version 1 of the PROXY protocol."""
    with relay(("127.0.0.1", server)) as (place, lines):
        addresses.use({f"shop.example:{server}": place})
        seen = _ask("shop.example", server, ADDRESS)

    assert seen == f"{ADDRESS} there"
    port = place.rpartition(":")[2]
    assert lines == [f"PROXY TCP4 {ADDRESS} 127.0.0.1 1024 {port}"]


def test_an_address_of_a_relay_is_never_bound_here(server: int) -> None:
    """Where no relay leads, and where no address is asked for, the system chooses."""
    with relay(("127.0.0.1", server)) as (place, lines):
        addresses.use({"elsewhere:1": place, f"127.0.0.2:{server}": place})
        assert not addresses.can_bind()
        # 192.0.2.0/24 is nobody's (RFC 5737): binding it would fail.
        assert _ask("127.0.0.1", server, "192.0.2.1") == "127.0.0.1 there"
        assert lines == []


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("10.0.0.7", b"PROXY TCP4 10.0.0.7 127.0.0.1 1024 443\r\n"),
        ("2001:db8::7", b"PROXY TCP6 2001:db8::7 ::1 1024 443\r\n"),
    ],
)
def test_the_line_names_the_family(address: str, line: bytes) -> None:
    """TCP4 and TCP6, each with addresses of its own kind."""
    assert addresses.introduction(address, ("relay", 443)) == line


def test_no_address_no_line() -> None:
    """A line with an address that is none would be an injection."""
    with pytest.raises(ValueError, match="does not appear to be"):
        addresses.introduction("1.2.3.4\r\nGET /", ("relay", 443))


def test_clients_go_through_the_relay_with_the_hosts_name(server: int) -> None:
    """httpx: the relay's connection carries Host of the origin, over one connection."""
    with relay(("127.0.0.1", server)) as (place, lines):
        addresses.use({f"127.0.0.1:{server}": place})
        with http_client(f"http://127.0.0.1:{server}", address=ADDRESS) as client:
            bodies = {exchange(client, "GET", "/")["body"] for _ in range(3)}
        with http_client(f"http://127.0.0.1:{server}") as client:
            direct = exchange(client, "GET", "/")["body"]

    assert bodies == {f"{ADDRESS} 127.0.0.1:{server}"}
    assert len(lines) == 1
    assert direct == f"127.0.0.1 127.0.0.1:{server}"


def test_a_relay_that_is_gone_is_told(server: int) -> None:
    """Nothing goes past the relay: no way, no answer."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gone = taken.getsockname()[1]
    addresses.use({f"127.0.0.1:{server}": f"127.0.0.1:{gone}"})
    with http_client(f"http://127.0.0.1:{server}", address=ADDRESS) as client:
        assert exchange(client, "GET", "/")["error"].startswith("ConnectError")
    with pytest.raises(ConnectionRefusedError):
        addresses.connect("127.0.0.1", server, ADDRESS, 5)


def test_processes_started_from_here_know_the_ways() -> None:
    """The load engine is a process of its own; so are scanners."""
    addresses.use({"shop.example:443": "127.0.0.1:4711"})
    program = "from harness import addresses; print(addresses.relay_to('shop.example', 443))"

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert said.stdout.strip() == "('127.0.0.1', 4711)"
    addresses.use({})
    assert addresses.relay_to("shop.example", 443) is None


@pytest.mark.parametrize("relayed", [False, True], ids=["bound here", "by relay"])
def test_a_forwarder_gives_an_address_to_who_has_none(server: int, relayed: bool) -> None:
    """A program that knows nothing of addresses is seen with the one that was chosen for it."""
    with relay(("127.0.0.1", server)) as (place, _):
        if relayed:
            addresses.use({f"127.0.0.1:{server}": place})
        with addresses.forwarder("127.0.0.1", server, ADDRESS) as port:
            seen = [_ask("127.0.0.1", port, None) for _ in range(3)]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5)

    assert seen == [f"{ADDRESS} there"] * 3


def test_a_forwarder_ends_what_it_carries(server: int) -> None:
    """When the block ends, so do connections that are still open; a dead place ends at once."""
    with addresses.forwarder("127.0.0.1", server, ADDRESS) as port:
        left = socket.create_connection(("127.0.0.1", port), 5)
        left.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert left.recv(4096).startswith(b"HTTP/1.1 200")
    with left:
        left.settimeout(5)
        while left.recv(4096):
            pass
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gone = taken.getsockname()[1]
    with (
        addresses.forwarder("127.0.0.1", gone, None) as port,
        socket.create_connection(("127.0.0.1", port), 5) as ended,
    ):
        ended.settimeout(5)
        assert ended.recv(10) == b""
