"""Members come and go while requests are under way, and no request notices."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import socket
import ssl
import threading
import tomllib
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import ClientConnection, connect

from system.stack import acts, container_acts, containers, lifetime
from system.stack import docker_engine as engine
from system.stack.native import Stack
from system.stack.parts import PARTS
from system.stack.state import StateFolder

_BODY = b'{"email": "nobody", "password": "x"}'  # no address, so it is refused with 400


class Clients:
    """What a stack's clients do: requests one after the other, some that take long, a socket."""

    def __init__(self, target: dict[str, Any]) -> None:
        self._context = ssl.create_default_context(cafile=target["http"]["ca"])
        self._account = target["accounts"]["admin"]
        self._place = f"localhost:{urlsplit(target['http']['origin']).port}"
        self._relay = target["addresses"].get("relays", {}).get(self._place)
        # A network's first address where there is a network; its own where there is one address.
        self._address = target["addresses"]["exempt"][0].replace(".0/24", ".1")

    def _raw(self) -> socket.socket:
        """A connection from an exempt address (R0.16)."""
        if self._relay is None:
            port = int(self._place.partition(":")[2])
            return socket.create_connection(("localhost", port), 30, (self._address, 0))
        host, _, port = self._relay.partition(":")
        raw = socket.create_connection((host, int(port)), 30)
        raw.sendall(f"PROXY TCP4 {self._address} 127.0.0.1 1024 443\r\n".encode())
        return raw

    def begin(self, method: str, path: str, body: bytes = b"", token: str = "") -> ssl.SSLSocket:
        """A request on a connection of its own, of which the first half of the body is sent."""
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: localhost",
            "Content-Type: application/json",
            "Connection: close",
            f"Content-Length: {len(body)}",
            *([f"Authorization: Bearer {token}"] if token else []),
        ]
        begun = self._context.wrap_socket(self._raw(), server_hostname="localhost")
        begun.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body[: len(body) // 2])
        return begun

    def half_sent(self) -> ssl.SSLSocket:
        """A request that a gateway is at work on until it gets the rest of the body."""
        return self.begin("POST", "/api/auth/login", _BODY)

    def token(self) -> str:
        """An administrator's access token."""
        body = json.dumps(self._account).encode()
        with self.begin("POST", "/api/auth/login", body) as begun:
            begun.sendall(body[len(body) // 2 :])
            answer = http.client.HTTPResponse(begun)
            answer.begin()
            return str(json.load(io.BytesIO(answer.read()))["data"]["accessToken"])

    def websocket(self, token: str) -> ClientConnection:
        """An open WebSocket."""
        url = f"wss://{self._place}/ws?token={token}"
        return connect(url, sock=self._raw(), ssl=self._context, server_hostname="localhost")

    @contextlib.contextmanager
    def asking(self, path: str, token: str) -> Iterator[Counter[bytes]]:
        """Ask over and over, each time on a new connection; how often came which answer."""
        seen: Counter[bytes] = Counter()
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                try:
                    with self.begin("GET", path, token=token) as begun:
                        seen[_status(begun)] += 1
                except OSError as error:
                    seen[repr(error).encode()] += 1

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            done.set()
            for thread in threads:
                thread.join()


class Told:
    """What a stack says, and what is to be done when it says a certain thing.

    Attributes:
        held: requests that were begun when the second gateway was ready, so before the edge knew.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.clients: Clients | None = None
        self.held: list[ssl.SSLSocket] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if self.clients is not None and "gateway-2" in line and "ready" in line:
            self.held = [self.clients.half_sent() for _ in range(5)]


OK, REFUSED = b"HTTP/1.1 200 OK", b"HTTP/1.1 400 Bad Request"


def _status(begun: ssl.SSLSocket) -> bytes:
    return begun.recv(4096).partition(b"\r\n")[0]


def _finished(held: ssl.SSLSocket) -> bytes:
    """The status line of a request whose body is sent to its end now."""
    with held:
        held.sendall(_BODY[len(_BODY) // 2 :])
        return _status(held)


def _scaled_down(stack: lifetime.Stack, clients: Clients) -> list[bytes]:
    """Let one gateway remain; what requests were answered that were in flight meanwhile."""
    held = [clients.half_sent() for _ in range(5)]
    ending = threading.Thread(target=stack.scale, args=({"gateway": 1},))
    ending.start()
    ending.join(2.0)  # it is asked to end, or is about to be, and has the requests
    answers = [_finished(one) for one in held]
    ending.join()
    return answers


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A stack that only this test starts, with one of each; ended whatever happens."""
    found = Stack(f"test-{os.getpid()}-scaling", progress=lambda _: None)
    try:
        found.up()
        yield found
    finally:
        found.down()


@pytest.mark.platform
def test_members_come_and_go_under_way(stack: Stack) -> None:
    """Requests in flight are finished, new ones answered; whoever is new is asked."""
    state, told = StateFolder(stack.name), Told()
    stack = Stack(stack.name, progress=told)
    before = tomllib.loads(stack.target_file.read_text(encoding="utf-8"))
    told.clients = clients = Clients(before)
    token = clients.token()
    gateway, profile = state.process_of("gateway"), state.process_of("profile")

    with clients.asking("/api/profile", token) as seen, clients.websocket(token) as websocket:
        stack.scale({"gateway": 2})
        assert [_finished(one) for one in told.held] == [REFUSED] * 5
        assert websocket.ping().wait(10), "an open WebSocket stays where it is"
        assert state.process_of("gateway-1") == gateway
        assert any("edge" in line and "reloaded" in line for line in told.lines)

        stack.scale({"profile": 2})
        assert state.process_of("profile-1") == profile
        assert state.process_of("gateway-1") != gateway, "it learns of members by a restart"
    assert set(seen) == {OK}
    assert seen[OK] > 20

    for away in ("gateway-1", "profile-1"):
        acts.control(state, away, "stop")
    with clients.asking("/api/profile", token) as seen:
        acts.control(state, "gateway-1", "start")
    assert set(seen) == {OK}, "the new ones serve alone"
    acts.control(state, "profile-1", "start")

    with clients.asking("/api/profile", token) as seen:
        stack.scale({"profile": 1})
        assert _scaled_down(stack, clients) == [REFUSED] * 5
    assert set(seen) == {OK}

    assert {part.part: part.state for part in stack.status()} == dict.fromkeys(PARTS, "ready")
    assert tomllib.loads(stack.target_file.read_text(encoding="utf-8")) == before


@pytest.mark.engine
def test_containers_come_and_go_under_way() -> None:
    """As natively; the edge finds them itself, and callers find them by name."""
    told = Told()
    stack = containers.Stack(f"test-{os.getpid()}-scaling", progress=told)
    try:
        stack.up()
        before = tomllib.loads(stack.target_file.read_text(encoding="utf-8"))
        told.clients = clients = Clients(before)
        token = clients.token()

        with clients.asking("/api/profile", token) as seen, clients.websocket(token) as websocket:
            stack.scale({"gateway": 2, "profile": 2})
            assert [_finished(one) for one in told.held] == [REFUSED] * 5
            assert websocket.ping().wait(10)
        assert set(seen) == {OK}
        assert seen[OK] > 20

        for away in ("gateway-1", "profile-1"):
            container_acts.control(stack.state, away, "stop")
        with clients.asking("/api/profile", token) as seen:
            container_acts.control(stack.state, "gateway-1", "start")
        assert set(seen) == {OK}, "the new ones serve alone"
        container_acts.control(stack.state, "profile-1", "start")

        with clients.asking("/api/profile", token) as seen:
            assert _scaled_down(stack, clients) == [REFUSED] * 5
            stack.scale({"profile": 1})
        assert set(seen) == {OK}

        assert {part.part: part.state for part in stack.status()} == dict.fromkeys(PARTS, "ready")
        assert tomllib.loads(stack.target_file.read_text(encoding="utf-8")) == before
        left = {container_acts.PROJECT_LABEL: container_acts.project_of(stack.state)}
        assert not [
            c for c in engine.containers(left) if container_acts.STAND_IN_LABEL in c["Labels"]
        ]
    finally:
        stack.down()
