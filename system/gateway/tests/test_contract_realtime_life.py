"""4.4, 4.5 through the edge: how connections live and end, and what happens around them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import resource
import socket as network
import struct
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from system.gateway.tests.people import (
    Broker,
    Person,
    ending,
    heard,
    newcomer,
    next_event,
    reply,
    short_token,
    within,
)
from system.gateway.tests.processes import SHORT_PINGS, second_gateway
from system.platform.events.envelope import Event, new_event

pytestmark = pytest.mark.platform

MOMENT = "2026-01-17T10:00:00.000Z"


def changed(user_id: str) -> Event:
    """A small event that concerns one user and administrators."""
    return new_event(
        "user.password_changed",
        {"userId": user_id, "changedAt": MOMENT},
        source="auth-service",
        actor_id=None,
    )


def announced() -> Event:
    """An event for everybody."""
    return new_event(
        "config.updated",
        {"key": "public.banner", "newValue": "x", "updatedBy": None, "updatedAt": MOMENT},
        source="admin-service",
        actor_id=None,
    )


def bulky(user_id: str, size: int) -> Event:
    """An event of so many bytes for one user; the session it tells of is nobody's."""
    return new_event(
        "session.revoked",
        {
            "userId": user_id,
            "sessionId": str(uuid.uuid4()),
            "deviceId": "d" * size,
            "reason": "logout",
            "timestamp": MOMENT,
        },
        source="auth-service",
        actor_id=None,
    )


@contextlib.contextmanager
def operator(stack: Any) -> Iterator[Broker]:
    """The broker, for as long as needed."""
    broker = Broker(stack)
    try:
        yield broker
    finally:
        broker.close()


async def told_of_expiry(socket: ClientWebSocketResponse) -> str:
    """The end that the next `token_expiring` names."""
    while (message := await socket.receive_json(timeout=15))["type"] != "token_expiring":
        pass
    assert set(message["payload"]) == {"expiresAt"}
    return str(message["payload"]["expiresAt"])


async def test_r4_13_a_token_that_ends_is_announced_once(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """60 s before its end and not earlier; at once if less remains; anew for a new token."""
    person = await newcomer(http, stack)
    later = await person.listen(short_token(stack, person.token, 63))
    soon = await person.listen(short_token(stack, person.token, 40))
    first = await soon.receive_json(timeout=10)
    assert first["type"] == "token_expiring"
    assert (await reply(later, "ping"))["type"] == "pong"  # nothing came before this answer
    ends = datetime.fromisoformat(await told_of_expiry(later)).timestamp()
    assert 58.2 < ends - time.time() < 60.5
    # Once: what follows is the answer to a ping, without another warning before it.
    for socket in (later, soon):
        await socket.send_json({"type": "ping", "id": "next"})
        assert (await socket.receive_json(timeout=10))["type"] == "pong"
    renewed = short_token(stack, person.token, 50)
    taken = await reply(soon, "reauth", payload={"token": renewed})
    assert taken["payload"]["expiresAt"] == await told_of_expiry(soon)
    assert taken["payload"]["expiresAt"] != first["payload"]["expiresAt"]
    for socket in (later, soon):
        await socket.close()


async def test_r4_26_an_expired_token_ends_the_connection(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """With 4401, not before its end; with a new token in time the connection goes on."""
    person = await newcomer(http, stack)
    token = short_token(stack, person.token, 3)
    ends = time.time() + 2  # `exp` is in whole seconds
    left, kept = await person.listen(token), await person.listen(token)
    renewed = await reply(kept, "reauth", payload={"token": person.token})
    assert renewed["type"] == "reauthenticated"
    code, reason, _ = await ending(left)
    assert (code, reason) == (4401, "token expired")
    assert time.time() > ends
    assert (await reply(kept, "ping"))["type"] == "pong"
    await kept.close()


async def test_r4_25_a_revocation_is_found_without_the_broker(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """Within 5 s; the user's other session goes on."""
    person = await newcomer(http, stack)
    other = await person.again()
    gone, kept = await person.listen(), await other.listen()
    stack.control("rabbitmq", "stop")
    try:
        assert (await person.ask("POST", "/api/auth/logout", json={}))[0] == 200
        began = time.monotonic()
        code, reason, _ = await ending(gone)
        took = time.monotonic() - began
        assert (await reply(kept, "ping"))["type"] == "pong"
    finally:
        stack.control("rabbitmq", "start")
    await asyncio.to_thread(stack.until_ready, 60)
    assert (code, reason) == (4401, "session revoked")
    assert took < 5.0
    await kept.close()


class SlowReader:
    """A WebSocket client with small buffers that reads nothing until it is told to."""

    def __init__(self, stack: Any, token: str) -> None:
        port = urlsplit(stack.origin).port or 443
        raw = network.socket()
        raw.setsockopt(network.SOL_SOCKET, network.SO_RCVBUF, 4096)
        raw.bind((stack.exempt, 0))
        raw.settimeout(30)
        raw.connect(("127.0.0.1", port))
        self._socket = stack.trust.wrap_socket(raw, server_hostname="localhost")
        key = base64.b64encode(b"0" * 16).decode()
        self._socket.sendall(
            f"GET /ws HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Protocol: bearer, {token}\r\n\r\n".encode()
        )
        self._data = b""
        while b'"connected"' not in self._data:
            self._data += self._socket.recv(4096)
        assert self._data.startswith(b"HTTP/1.1 101 ")
        self._data = self._data.partition(b"\r\n\r\n")[2]

    def wake_up(self) -> tuple[int, int, str]:
        """Read to the end: messages that came, close code and reason."""
        messages = 0
        while True:
            opcode, payload = self._frame()
            if opcode == 8:
                self._socket.close()
                return messages, struct.unpack("!H", payload[:2])[0], payload[2:].decode()
            messages += opcode == 1

    def _frame(self) -> tuple[int, bytes]:
        first, length = self._take(2)
        if length == 126:
            (length,) = struct.unpack("!H", self._take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._take(8))
        return first & 15, self._take(length)

    def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            piece = self._socket.recv(65_536)
            assert piece, "the connection ended without a close frame"
            self._data += piece
        taken, self._data = self._data[:size], self._data[size:]
        return taken


async def test_r4_29_a_slow_reader_is_closed_and_delays_nobody(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """1013 for it; meanwhile each event for another arrives in its time."""
    slow, quick = await newcomer(http, stack), await newcomer(http, stack)
    reader = SlowReader(stack, slow.token)
    socket = await quick.listen()
    # 32 MB: more than the buffers of all the systems in between can hold.
    rounds, a_round = 32, 50
    slowest = 0.0
    with operator(stack) as broker:
        for _ in range(rounds):
            broker.publish(*(bulky(slow.id, 20_000) for _ in range(a_round)))
            marker = changed(quick.id)
            broker.publish(marker)
            published = time.monotonic()
            assert (await next_event(socket, marker.type))["eventId"] == marker.id
            slowest = max(slowest, time.monotonic() - published)
    messages, code, _ = await asyncio.to_thread(reader.wake_up)
    assert code == 1013
    assert messages < rounds * a_round
    assert slowest < 2.0, f"another connection waited {slowest:.2f} s"
    await socket.close()


async def test_r4_30_shutdown_says_goodbye(http: aiohttp.ClientSession, stack: Any) -> None:
    """1001 to everybody; after the start they can come back."""
    person = await newcomer(http, stack)
    sockets = [await person.listen() for _ in range(3)]
    closes = [asyncio.create_task(ending(socket)) for socket in sockets]
    await asyncio.to_thread(stack.control, "gateway", "restart")
    for close in closes:
        assert (await close)[:2] == (1001, "Server shutting down")
    await asyncio.to_thread(stack.until_ready)
    socket = await person.listen()
    await socket.close()


async def pings(
    http: aiohttp.ClientSession, stack: Any, person: Person, *, answer: bool, most: int
) -> tuple[int, ClientWebSocketResponse, WSMsgType]:
    """Count protocol pings until there were `most`, or something else came."""
    socket = await http.ws_connect(
        f"{stack.origin}/ws", protocols=("bearer", person.token), autoping=False
    )
    count = 0
    while True:
        message = await socket.receive(timeout=20)
        if message.type is WSMsgType.PING:
            count += 1
            if answer:
                await socket.pong(message.data)
            if count == most:
                return count, socket, message.type
        elif message.type is not WSMsgType.TEXT:
            return count, socket, message.type


async def test_r4_31_a_dead_peer_is_dropped(http: aiohttp.ClientSession, stack: Any) -> None:
    """Without a close frame; who answers the pings stays. The times are shortened here."""
    person = await newcomer(http, stack)
    await asyncio.to_thread(stack.restart_wrapped, "gateway", *SHORT_PINGS)
    try:
        (dead_pings, dead, last), (living_pings, living, _) = await asyncio.gather(
            pings(http, stack, person, answer=False, most=20),
            pings(http, stack, person, answer=True, most=4),
        )
        assert dead_pings == 1
        assert last in (WSMsgType.CLOSED, WSMsgType.ERROR)
        assert dead.close_code == 1006
        assert living_pings == 4
        assert not living.closed
        await living.close()
    finally:
        await asyncio.to_thread(stack.restart, "gateway")
        await asyncio.to_thread(stack.until_ready)


async def test_r4_24_each_gateway_delivers_to_its_own_connections(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """An event reaches the user's connections at both, once each; so does a revocation."""
    person, payer = await newcomer(http, stack), await newcomer(http, stack)
    async with second_gateway(stack) as other:
        sockets = [
            await person.listen(origin=origin) for origin in (stack.services["gateway"], other)
        ]
        body = {"amount": "1.00", "currency": "USD", "type": "instant", "description": "both"}
        status, _, _ = await payer.ask(
            "POST", "/api/payments", json={**body, "recipientId": person.id}
        )
        assert status == 201
        ids = {(await next_event(socket, "payment.created"))["eventId"] for socket in sockets}
        assert len(ids) == 1
        for socket in sockets:
            assert not ids & set(await heard(socket))
        await person.ask("POST", "/api/auth/logout", json={})
        for socket in sockets:
            assert (await ending(socket))[:2] == (4401, "session revoked")


async def test_r4_24_the_bridge_returns_with_the_broker(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """Within 15 s of the broker's return, on connections that stayed open."""
    person = await newcomer(http, stack)
    socket = await person.listen()
    await asyncio.to_thread(stack.control, "rabbitmq", "restart")
    back = time.monotonic()
    sent: set[str] = set()

    async def arrived() -> bool:
        with operator(stack) as broker:
            event = changed(person.id)
            broker.publish(event)
            sent.add(event.id)
        return bool(sent & set(await heard(socket)))

    await within(15, arrived, "an event after the broker's return")
    assert time.monotonic() - back < 16
    await asyncio.to_thread(stack.until_ready, 60)
    await socket.close()


async def test_r4_5_nobody_can_judge_the_session(http: aiohttp.ClientSession, stack: Any) -> None:
    """With Redis and auth-service down a handshake is 503; with Redis alone it is judged."""
    person = await newcomer(http, stack)
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Protocol": f"bearer, {person.token}",
    }
    stack.control("redis", "stop")
    try:
        socket = await person.listen()
        await socket.close()
        stack.control("auth", "stop")
        try:

            async def refused() -> bool:
                async with http.get(f"{stack.origin}/ws", headers=handshake) as answer:
                    if answer.status == 101:  # R1.38: what was just judged may be remembered
                        return False
                    body = json.loads(await answer.text())
                    assert (answer.status, body["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
                    return True

            await within(5, refused, "a refusal")
        finally:
            stack.control("auth", "start")
    finally:
        stack.control("redis", "start")
    await asyncio.to_thread(stack.until_ready, 60)


async def test_r4_32_r5_5_a_thousand_connections(http: aiohttp.ClientSession, stack: Any) -> None:
    """Through the edge all of them hear an event, and requests go on beside them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
    people = [await newcomer(http, stack) for _ in range(50)]
    sockets: list[ClientWebSocketResponse] = []
    for person in people:
        sockets += await asyncio.gather(*(person.listen() for _ in range(20)))
    async with http.get(f"{stack.services['gateway']}/metrics") as answer:
        (line,) = [
            line
            for line in (await answer.text()).splitlines()
            if line.startswith("websocket_connections ")
        ]
    assert float(line.split()[1]) >= 1000
    event = announced()
    with operator(stack) as broker:
        broker.publish(event)
    told = await asyncio.gather(*(next_event(socket, event.type) for socket in sockets))
    assert {payload["eventId"] for payload in told} == {event.id}
    assert len(told) == 1000
    for person in people[:10]:
        assert (await person.ask("GET", "/api/auth/me"))[0] == 200
    await asyncio.gather(*(socket.close() for socket in sockets))
