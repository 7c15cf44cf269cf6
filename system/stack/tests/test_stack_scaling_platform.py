"""Members come and go while requests are under way, and no request notices."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import tomllib
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from system.stack import acts
from system.stack.native import Stack
from system.stack.parts import PARTS
from system.stack.state import StateFolder

pytestmark = pytest.mark.platform

_BODY = b'{"email": "nobody", "password": "x"}'  # no address, so it is refused with 400


class Clients:
    """What a stack's clients do: requests one after the other, some that take long, a socket."""

    def __init__(self, target: dict[str, Any]) -> None:
        self._context = ssl.create_default_context(cafile=target["http"]["ca"])
        self._address = target["addresses"]["exempt"][0]
        self._origin = target["http"]["origin"]
        self._place = ("localhost", urlsplit(self._origin).port or 443)
        self._account = target["accounts"]["admin"]

    def http(self) -> httpx.Client:
        """A client with connections of its own."""
        transport = httpx.HTTPTransport(verify=self._context, local_address=self._address)
        return httpx.Client(transport=transport, base_url=self._origin, timeout=30)

    def half_sent(self) -> ssl.SSLSocket:
        """A request whose body has begun, so that a gateway is at work on it."""
        raw = socket.create_connection(self._place, 30, source_address=(self._address, 0))
        held = self._context.wrap_socket(raw, server_hostname="localhost")
        held.sendall(
            b"POST /api/auth/login HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nConnection: close\r\n"
            + f"Content-Length: {len(_BODY)}\r\n\r\n".encode()
            + _BODY[:10]
        )
        return held

    def token(self) -> str:
        """An administrator's access token."""
        with self.http() as client:
            answer = client.post("/api/auth/login", json=self._account)
            return str(answer.raise_for_status().json()["data"]["accessToken"])

    def websocket(self, token: str) -> ClientConnection:
        """An open WebSocket."""
        raw = socket.create_connection(self._place, 30, source_address=(self._address, 0))
        url = self._origin.replace("https:", "wss:") + f"/ws?token={token}"
        return connect(url, sock=raw, ssl=self._context, server_hostname="localhost")

    @contextlib.contextmanager
    def asking(self, path: str, token: str) -> Iterator[Counter[int | str]]:
        """Ask over and over, each time on a new connection; how often came which answer."""
        seen: Counter[int | str] = Counter()
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                try:
                    with self.http() as client:
                        headers = {"Authorization": f"Bearer {token}"}
                        seen[client.get(path, headers=headers).status_code] += 1
                except httpx.HTTPError as error:
                    seen[repr(error)] += 1

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            done.set()
            for thread in threads:
                thread.join()


def _finished(held: ssl.SSLSocket) -> bytes:
    """The status line of a request whose body is sent to its end now."""
    with held:
        held.sendall(_BODY[10:])
        return held.recv(4096).partition(b"\r\n")[0]


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A stack that only this test starts, with one of each; ended whatever happens."""
    found = Stack(f"test-{os.getpid()}-scaling", progress=lambda _: None)
    try:
        found.up()
        yield found
    finally:
        found.down()


def test_members_come_and_go_under_way(stack: Stack) -> None:
    """Requests in flight are finished, new ones answered; whoever is new is asked."""
    state, said = StateFolder(stack.name), list[str]()
    stack = Stack(stack.name, progress=said.append)
    before = tomllib.loads(stack.target_file.read_text(encoding="utf-8"))
    clients = Clients(before)
    token = clients.token()
    gateway, profile = state.process_of("gateway"), state.process_of("profile")

    with clients.asking("/api/profile", token) as seen, clients.websocket(token) as websocket:
        held = [clients.half_sent() for _ in range(5)]
        stack.scale({"gateway": 2})
        assert [_finished(one) for one in held] == [b"HTTP/1.1 400 Bad Request"] * 5
        assert websocket.ping().wait(10), "an open WebSocket stays where it is"
        assert state.process_of("gateway-1") == gateway
        assert "  edge               reloaded" in said

        stack.scale({"profile": 2})
        assert state.process_of("profile-1") == profile
        assert state.process_of("gateway-1") != gateway, "it learns of members by a restart"
    assert set(seen) == {200}
    assert seen[200] > 20

    for away in ("gateway-1", "profile-1"):
        acts.control(state, away, "stop")
    with clients.asking("/api/profile", token) as seen:
        acts.control(state, "gateway-1", "start")
    assert set(seen) == {200}, "the new ones serve alone"
    acts.control(state, "profile-1", "start")

    with clients.asking("/api/profile", token) as seen:
        stack.scale({"profile": 1})
        held = [clients.half_sent() for _ in range(5)]
        said.clear()
        ending = threading.Thread(target=stack.scale, args=({"gateway": 1},))
        ending.start()
        while ending.is_alive() and not said:
            ending.join(0.05)
        assert [_finished(one) for one in held] == [b"HTTP/1.1 400 Bad Request"] * 5
        ending.join()
    assert set(seen) == {200}

    assert {part.part: part.state for part in stack.status()} == dict.fromkeys(PARTS, "ready")
    assert tomllib.loads(stack.target_file.read_text(encoding="utf-8")) == before
