"""WebSocket over real sockets: handshake, messages, rooms, events, every way to end (section 4)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket as network
import time
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from system.gateway.domain import lifetime, messages
from system.gateway.entrypoints.websocket import SLOW_WAIT_S, Socket
from system.gateway.ports import Parties
from system.gateway.tests.stand_ins import (
    ADMIN,
    ALICE,
    BOB,
    CAROL,
    ORIGIN,
    PAYMENT,
    Running,
    event,
    free_port,
    payment_event,
    principal,
    running_gateway,
    until,
)

OTHER_PAYMENT = "88888888-8888-4888-8888-888888888888"


@pytest.fixture
async def gateway() -> AsyncIterator[Running]:
    """A gateway whose services are not there: nothing here needs them."""
    async with running_gateway(f"http://127.0.0.1:{free_port()}") as running:
        running.parties.known[PAYMENT] = Parties(ALICE, BOB)
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client session."""
    async with aiohttp.ClientSession() as session:
        yield session


class Peer:
    """A WebSocket client that fails instead of waiting for ever."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket

    async def next(self, seconds: float = 5.0) -> dict[str, Any]:
        """The next message."""
        message = await self.socket.receive(timeout=seconds)
        assert message.type is WSMsgType.TEXT, message
        parsed: dict[str, Any] = json.loads(message.data)
        return parsed

    async def say(self, kind: str, payload: Any = None, **more: Any) -> None:
        """Send a message."""
        message = {"type": kind, **({} if payload is None else {"payload": payload}), **more}
        await self.socket.send_str(json.dumps(message))

    async def ask(self, kind: str, payload: Any = None, **more: Any) -> dict[str, Any]:
        """Send a message and read the next one."""
        await self.say(kind, payload, **more)
        return await self.next()

    async def closed(self, seconds: float = 5.0) -> tuple[int | None, str]:
        """Wait for the close, skipping messages; its code and reason."""
        while True:
            message = await self.socket.receive(timeout=seconds)
            if message.type is WSMsgType.CLOSE:
                return message.data, message.extra or ""
            if message.type in (WSMsgType.CLOSED, WSMsgType.CLOSING, WSMsgType.ERROR):
                return self.socket.close_code, ""

    async def nothing(self) -> None:
        """Nothing else is on its way: the answer to a ping comes first."""
        assert (await self.ask("ping", id="quiet?"))["type"] == "pong"


Connect = Any


@pytest.fixture
async def connect(gateway: Running, http: aiohttp.ClientSession) -> AsyncIterator[Connect]:
    """Opens connections that are closed after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_one(token: str = "alice", *, greeted: bool = True, **named: Any) -> Peer:
            peer = Peer(
                await stack.enter_async_context(
                    http.ws_connect(f"{gateway.url}/ws", protocols=("bearer", token), **named)
                )
            )
            if greeted:
                assert (await peer.next())["type"] == "connected"
            return peer

        yield open_one


# Handshake


async def test_the_first_message_greets(connect: Connect) -> None:
    """R4.2, R4.8, R4.6."""
    peer = await connect(greeted=False)
    assert peer.socket.protocol == "bearer"
    assert peer.socket.compress == 0
    message = await peer.next()
    assert message["type"] == "connected"
    assert message["payload"]["userId"] == ALICE
    assert message["payload"]["rooms"] == [f"user:{ALICE}", "role:customer", "broadcast"]
    assert message["payload"]["expiresAt"].endswith(".000Z")
    assert message["timestamp"].endswith("Z")


async def test_the_token_may_come_in_the_query(
    gateway: Running, http: aiohttp.ClientSession
) -> None:
    """R4.2: then no subprotocol is selected; with both the subprotocol counts."""
    async with http.ws_connect(f"{gateway.url}/ws?x=1&token=bob") as socket:
        assert socket.protocol is None
        assert (await Peer(socket).next())["payload"]["userId"] == BOB
    async with http.ws_connect(
        f"{gateway.url}/ws?token=bob", protocols=("bearer", "alice")
    ) as socket:
        assert (await Peer(socket).next())["payload"]["userId"] == ALICE


HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/ws", {}, 401, "UNAUTHORIZED"),
        ("/ws?token=", {}, 401, "UNAUTHORIZED"),
        ("/ws", {"Sec-WebSocket-Protocol": "bearer"}, 401, "UNAUTHORIZED"),
        ("/ws", {"Sec-WebSocket-Protocol": "other"}, 401, "UNAUTHORIZED"),
        ("/ws", {"Authorization": "Bearer alice"}, 401, "UNAUTHORIZED"),
        ("/ws", {"Sec-WebSocket-Protocol": "bearer, wrong"}, 401, "TOKEN_INVALID"),
        ("/ws?token=wrong", {}, 401, "TOKEN_INVALID"),
        ("/ws?token=alice", {"Sec-WebSocket-Protocol": "bearer, wrong"}, 401, "TOKEN_INVALID"),
        ("/ws?token=expired", {}, 401, "TOKEN_EXPIRED"),
        ("/ws?token=carol", {}, 401, "TOKEN_REVOKED"),
        ("/ws?token=alice", {"Origin": "https://evil.test"}, 403, "ORIGIN_NOT_ALLOWED"),
        ("/ws", {"Origin": "https://evil.test"}, 403, "ORIGIN_NOT_ALLOWED"),
        ("/ws", {"Origin": "null"}, 403, "ORIGIN_NOT_ALLOWED"),
        ("/ws/?token=alice", {}, 404, "NOT_FOUND"),
        ("//ws?token=alice", {}, 404, "NOT_FOUND"),
        ("/%77s?token=alice", {}, 404, "NOT_FOUND"),
        ("/api/payments", {"Authorization": "Bearer alice"}, 404, "NOT_FOUND"),
        ("/health", {}, 404, "NOT_FOUND"),
        ("/ws?token=alice", {"Sec-WebSocket-Version": "8"}, 400, "BAD_REQUEST"),
        ("/ws?token=alice", {"Sec-WebSocket-Key": "short"}, 400, "BAD_REQUEST"),
        ("/ws?token=alice", {"Upgrade": "h2c"}, 400, "BAD_REQUEST"),
        ("/ws?token=alice", {"Connection": "keep-alive"}, 400, "BAD_REQUEST"),
    ],
)
async def test_refusals_are_complete_answers(
    gateway: Running, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    """R4.1, R4.3, R4.4: JSON error body, correlation id, no upgrade."""
    gateway.authentication.revoked.add(f"session-of-{CAROL}")
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    lines = [f"GET {path} HTTP/1.1", "Host: a"]
    lines += [f"{name}: {value}" for name, value in {**HANDSHAKE, **headers}.items()]
    writer.write("\r\n".join((*lines, "", "")).encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert head.count("X-Correlation-ID: ") == 1
    assert "application/json" in head
    length = int(head.partition("Content-Length: ")[2].partition("\r\n")[0])
    body = json.loads(await reader.readexactly(length))
    assert body["success"] is False
    assert body["error"]["code"] == code
    # The connection is an ordinary one again.
    writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_listed_origin_is_welcome(connect: Connect) -> None:
    """R4.4."""
    await connect(origin=ORIGIN)


async def test_nobody_can_judge_sessions(gateway: Running, http: aiohttp.ClientSession) -> None:
    """R4.5: 503."""
    gateway.authentication.down = True
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(f"{gateway.url}/ws?token=alice")
    assert refused.value.status == 503


async def test_a_user_has_twenty_connections(
    gateway: Running, http: aiohttp.ClientSession, connect: Connect
) -> None:
    """R4.5: the older ones stay; another user is not concerned; a place becomes free again."""
    peers = [await connect() for _ in range(20)]
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(f"{gateway.url}/ws?token=alice")
    assert refused.value.status == 429
    await peers[0].nothing()
    await connect("bob")
    await peers[5].socket.close()
    await until(lambda: gateway.realtime.connections == 20)
    await connect()


async def test_a_flood_of_handshakes_does_not_get_past_the_bound(
    gateway: Running, http: aiohttp.ClientSession
) -> None:
    """Forty at once: twenty are in, twenty are told why not."""

    async def attempt() -> ClientWebSocketResponse | int:
        try:
            return await http.ws_connect(f"{gateway.url}/ws?token=alice")
        except aiohttp.WSServerHandshakeError as refused:
            return refused.status

    results = await asyncio.gather(*(attempt() for _ in range(40)))
    sockets = [result for result in results if not isinstance(result, int)]
    assert len(sockets) == 20
    assert [result for result in results if isinstance(result, int)] == [429] * 20
    for socket in sockets:
        await socket.close()


# Messages


async def test_ping_is_answered(connect: Connect) -> None:
    """R4.7, R4.9: the reply repeats the id if it is a short string."""
    peer = await connect()
    assert (await peer.ask("ping", id="7"))["id"] == "7"
    assert "id" not in await peer.ask("ping")
    assert "id" not in await peer.ask("ping", id=7)
    assert "id" not in await peer.ask("ping", id="x" * 65)
    await peer.socket.ping(b"proto")
    await peer.nothing()


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "7", '"x"', "{}", '{"type":1}'])
async def test_unreadable_messages_get_an_error_and_no_more(connect: Connect, text: str) -> None:
    """R4.16: the connection stays."""
    peer = await connect()
    await peer.socket.send_str(text)
    message = await peer.next()
    assert message["type"] == "error"
    assert message["payload"] == {
        "code": "INVALID_MESSAGE",
        "message": "Invalid message format",
    }
    await peer.nothing()


async def test_unknown_types_are_ignored(connect: Connect) -> None:
    """R4.16."""
    peer = await connect()
    await peer.say("event", {"eventType": "payment.completed"})
    await peer.say("nonsense")
    await peer.nothing()


async def test_rooms_open_for_those_they_belong_to(connect: Connect) -> None:
    """R4.10, R4.17-R4.20."""
    alice, carol, admin = await connect(), await connect("carol"), await connect("admin")
    for room in (f"payment:{PAYMENT}", f"user:{ALICE}", "role:customer", "broadcast"):
        reply = await alice.ask("subscribe", {"room": room}, id="r")
        assert (reply["type"], reply["payload"], reply["id"]) == ("subscribed", {"room": room}, "r")
    assert (await admin.ask("subscribe", {"room": f"payment:{PAYMENT}"}))["type"] == "subscribed"
    for room in (f"payment:{PAYMENT}", f"user:{ALICE}", "role:customer", "role:admin"):
        reply = await carol.ask("subscribe", {"room": room}, id="r")
        assert (reply["type"], reply["id"]) == ("error", "r")
        assert reply["payload"]["code"] == "ROOM_FORBIDDEN"
    for peer in (alice, admin):
        reply = await peer.ask("subscribe", {"room": f"payment:{OTHER_PAYMENT}"})
        assert reply["payload"]["code"] == "ROOM_FORBIDDEN"


@pytest.mark.parametrize(
    "payload",
    [None, {}, {"room": 7}, {"room": "x"}, {"room": "payment:x"}, "x", {"room": "x" * 200}],
)
async def test_what_is_no_room_is_invalid(connect: Connect, payload: Any) -> None:
    """R4.21."""
    peer = await connect()
    for kind in ("subscribe", "unsubscribe"):
        reply = await peer.ask(kind, payload)
        assert reply["payload"]["code"] == "INVALID_ROOM"


async def test_a_hundred_payment_rooms_are_the_most(gateway: Running, connect: Connect) -> None:
    """R4.21: TOO_MANY_ROOMS; a room one is in may be asked for again."""
    peer = await connect()
    rooms = [f"payment:{number:08d}-9999-4999-8999-999999999999" for number in range(101)]
    for room in rooms:
        gateway.parties.known[room.removeprefix("payment:")] = Parties(ALICE, BOB)
    for number, room in enumerate(rooms):
        if number % 40 == 39:
            await asyncio.sleep(1.0)  # R4.28 applies here too
        reply = await peer.ask("subscribe", {"room": room})
        assert (reply["type"] == "subscribed") == (number < 100)
    assert reply["payload"]["code"] == "TOO_MANY_ROOMS"
    assert (await peer.ask("subscribe", {"room": rooms[0]}))["type"] == "subscribed"
    assert (await peer.ask("unsubscribe", {"room": rooms[0]}))["type"] == "unsubscribed"
    assert (await peer.ask("subscribe", {"room": rooms[100]}))["type"] == "subscribed"


async def test_the_last_word_counts(gateway: Running, connect: Connect) -> None:
    """Subscribe and unsubscribe in one breath: the slow first does not undo the quick second."""
    peer = await connect("alice")
    gateway.parties.gate = asyncio.Event()
    await peer.say("subscribe", {"room": f"payment:{PAYMENT}"})
    await peer.say("unsubscribe", {"room": f"payment:{PAYMENT}"})
    await until(lambda: bool(gateway.parties.asked))
    gateway.parties.gate.set()
    assert [(await peer.next())["type"] for _ in range(2)] == ["subscribed", "unsubscribed"]
    gateway.realtime.deliver(payment_event(sender=CAROL, recipient=BOB))
    await peer.nothing()


# Events


async def test_an_event_comes_once_to_those_it_concerns(gateway: Running, connect: Connect) -> None:
    """R4.14, R4.23: however many rooms match, and to nobody else."""
    alice, bob = await connect(), await connect("bob")
    carol, admin = await connect("carol"), await connect("admin")
    for peer in (alice, admin):
        await peer.ask("subscribe", {"room": f"payment:{PAYMENT}"})
        await peer.ask("subscribe", {"room": f"payment:{PAYMENT}"})
    sent = payment_event()
    gateway.realtime.deliver(sent)
    for peer in (alice, bob, admin):
        message = await peer.next()
        assert message == {
            "type": "event",
            "payload": {
                "eventType": "payment.completed",
                "eventId": sent.id,
                "data": dict(sent.data),
                "correlationId": "corr-1",
            },
            "timestamp": "2026-01-17T10:00:00.000Z",
        }
        await peer.nothing()
    await carol.nothing()


async def test_refused_rooms_deliver_nothing(gateway: Running, connect: Connect) -> None:
    """R4.21: an event into each refused room, which its owner gets."""
    alice, carol = await connect(), await connect("carol")
    for room in (f"user:{ALICE}", f"payment:{PAYMENT}", "role:admin"):
        assert (await carol.ask("subscribe", {"room": room}))["type"] == "error"
    gateway.realtime.deliver(event("profile.updated", {"userId": ALICE}, 1))
    gateway.realtime.deliver(payment_event(number=2))
    gateway.realtime.deliver(event("user.login_failed", {"userId": ALICE}, 3))
    assert [(await alice.next())["payload"]["eventType"] for _ in range(2)] == [
        "profile.updated",
        "payment.completed",
    ]
    await carol.nothing()


async def test_who_is_no_party_any_more_hears_nothing_more(
    gateway: Running, connect: Connect
) -> None:
    """R4.22; an ADMIN stays."""
    bob, carol, admin = await connect("bob"), await connect("carol"), await connect("admin")
    for peer in (bob, admin):
        await peer.ask("subscribe", {"room": f"payment:{PAYMENT}"})
    gateway.realtime.deliver(payment_event("payment.updated", ALICE, CAROL, 1))
    gateway.realtime.deliver(payment_event("payment.completed", ALICE, CAROL, 2))
    for peer in (carol, admin):
        assert [(await peer.next())["payload"]["eventType"] for _ in range(2)] == [
            "payment.updated",
            "payment.completed",
        ]
    await bob.nothing()


async def test_a_broadcast_is_encoded_once(
    gateway: Running, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every connection gets the same bytes."""
    peers = [await connect(name) for name in ("alice", "bob", "carol") for _ in range(5)]
    encoded = 0
    write = messages.write_event

    def count(*args: Any) -> bytes:
        nonlocal encoded
        encoded += 1
        return write(*args)

    monkeypatch.setattr(messages, "write_event", count)
    gateway.realtime.deliver(event("config.updated", {"key": "public.banner"}))
    for peer in peers:
        assert (await peer.next())["payload"]["eventType"] == "config.updated"
    assert encoded == 1


# The end


async def test_a_revoked_session_ends_its_connections(gateway: Running, connect: Connect) -> None:
    """R4.25: the event first, to all the user's connections, then 4401 to those of the session."""
    gateway.authentication.tokens["alice2"] = principal(ALICE, session_id="second")
    first, same, other = await connect(), await connect(), await connect("alice2")
    began = time.monotonic()
    gateway.realtime.deliver(
        event("session.revoked", {"userId": ALICE, "sessionId": f"session-of-{ALICE}"})
    )
    for peer in (first, same, other):
        assert (await peer.next())["payload"]["eventType"] == "session.revoked"
    for peer in (first, same):
        assert await peer.closed() == (4401, "session revoked")
    assert time.monotonic() - began < 1
    await other.nothing()
    # A handshake whose check was answered before the event arrived is too late as well.
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await connect()
    assert refused.value.status == 401


async def test_a_revocation_is_found_without_the_broker(gateway: Running, connect: Connect) -> None:
    """R4.25: within 5 s, by asking."""
    alice, bob = await connect(), await connect("bob")
    gateway.authentication.revoked.add(f"session-of-{ALICE}")
    assert await alice.closed(seconds=5) == (4401, "session revoked")
    await bob.nothing()


async def test_connections_stay_while_nobody_can_judge_sessions(
    gateway: Running, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis and auth-service down: who is in stays in."""
    alice = await connect()
    gateway.authentication.down = True
    await gateway.realtime._sweep()
    await alice.nothing()


async def test_a_token_that_ends_is_announced_and_ends_the_connection(
    gateway: Running, connect: Connect
) -> None:
    """R4.13 (at once if less than 60 s remain), R4.26."""
    gateway.authentication.tokens["short"] = principal(expires_in=2)
    peer = await connect("short", greeted=False)
    expires_at = (await peer.next())["payload"]["expiresAt"]
    message = await peer.next()
    assert (message["type"], message["payload"]) == ("token_expiring", {"expiresAt": expires_at})
    assert await peer.closed() == (4401, "token expired")


async def test_a_new_token_keeps_the_connection(gateway: Running, connect: Connect) -> None:
    """R4.12: its session and expiry count from then on."""
    tokens = gateway.authentication.tokens
    tokens["short"] = principal(session_id="first", expires_in=2)
    tokens["long"] = principal(session_id="second", expires_in=900)
    peer = await connect("short")
    assert (await peer.next())["type"] == "token_expiring"
    reply = await peer.ask("reauth", {"token": "long"}, id="r")
    assert (reply["type"], reply["id"]) == ("reauthenticated", "r")
    gateway.realtime.deliver(event("session.revoked", {"userId": ALICE, "sessionId": "first"}))
    assert (await peer.next())["type"] == "event"
    await asyncio.sleep(2.1)
    await peer.nothing()
    gateway.realtime.deliver(event("session.revoked", {"userId": ALICE, "sessionId": "second"}))
    assert await peer.closed() == (4401, "session revoked")


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("wrong", "TOKEN_INVALID"),
        ("expired", "TOKEN_EXPIRED"),
        ("revoked", "TOKEN_REVOKED"),
        ("bob", "TOKEN_INVALID"),
        (None, "TOKEN_INVALID"),
        (7, "TOKEN_INVALID"),
    ],
)
async def test_a_bad_new_token_changes_nothing(
    gateway: Running, connect: Connect, token: object, code: str
) -> None:
    """R4.12: the connection goes on with the old one."""
    gateway.authentication.tokens["revoked"] = principal(session_id="gone")
    gateway.authentication.revoked.add("gone")
    peer = await connect()
    reply = await peer.ask("reauth", {"token": token})
    assert (reply["type"], reply["payload"]["code"]) == ("error", code)
    gateway.realtime.deliver(event("profile.updated", {"userId": ALICE}))
    assert (await peer.next())["type"] == "event"


async def test_another_role_opens_other_rooms(gateway: Running, connect: Connect) -> None:
    """A token of another role leaves what the old role opened."""
    gateway.authentication.tokens["demoted"] = principal(ADMIN, "CUSTOMER", session_id="new")
    peer = await connect("admin")
    await peer.ask("subscribe", {"room": f"payment:{PAYMENT}"})
    assert (await peer.ask("reauth", {"token": "demoted"}))["type"] == "reauthenticated"
    gateway.realtime.deliver(payment_event())
    await peer.nothing()
    reply = await peer.ask("subscribe", {"room": f"payment:{PAYMENT}"})
    assert reply["payload"]["code"] == "ROOM_FORBIDDEN"


async def test_messages_have_a_size(connect: Connect) -> None:
    """R4.27: 65,536 bytes pass, one more is 1009, and the client sees it while it still sends."""
    peer = await connect()
    frame = json.dumps({"type": "ping", "pad": ""})
    pad = "x" * (65_536 - len(frame))
    assert (await peer.ask("ping", pad=pad))["type"] == "pong"
    await peer.say("ping", pad=pad + "x")
    assert (await peer.closed())[0] == 1009
    peer = await connect()
    with contextlib.suppress(ConnectionError):
        await peer.socket.send_str("x" * 3_000_000)
    assert (await peer.closed())[0] == 1009


async def test_binary_messages_are_refused(connect: Connect) -> None:
    """R4.6: 1003."""
    peer = await connect()
    await peer.socket.send_bytes(b"x")
    assert (await peer.closed())[0] == 1003


async def test_fifty_messages_a_second_are_the_most(connect: Connect) -> None:
    """R4.28: an error first, then 1008."""
    peer = await connect()
    for _ in range(50):
        await peer.say("ignored")
    await asyncio.sleep(1.1)
    for _ in range(51):
        await peer.say("ignored")
    message = await peer.next()
    assert (message["type"], message["payload"]["code"]) == ("error", "RATE_LIMIT_EXCEEDED")
    assert (await peer.closed())[0] == 1008


async def _narrow(gateway: Running) -> network.socket:
    """A connection whose end here takes little unread, however much the kernel would take."""
    connection = network.socket()
    connection.setsockopt(network.SOL_SOCKET, network.SO_RCVBUF, 16_384)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", gateway.port))
    return connection


async def _stalled(gateway: Running, token: str) -> asyncio.Transport:
    """A client that shakes hands and then reads nothing."""
    loop = asyncio.get_running_loop()
    greeted: asyncio.Future[None] = loop.create_future()

    class Mute(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            if not greeted.done():
                greeted.set_result(None)

    transport, _ = await loop.create_connection(Mute, sock=await _narrow(gateway))
    lines = [f"GET /ws?token={token} HTTP/1.1", "Host: a"]
    lines += [f"{name}: {value}" for name, value in HANDSHAKE.items()]
    transport.write("\r\n".join((*lines, "", "")).encode())
    await greeted
    transport.pause_reading()
    return transport


async def test_r4_29_a_slow_reader_is_closed_and_holds_up_nobody(
    gateway: Running, connect: Connect
) -> None:
    """R4.29: memory stays bounded, others get every event in time."""
    await connect("bob")
    stalled = await _stalled(gateway, "alice")
    await until(lambda: gateway.realtime.connections == 2)
    admin = await connect("admin")
    filler = {"paymentId": PAYMENT, "senderId": ALICE, "recipientId": CAROL, "x": "y" * 8_000}
    tracemalloc.start()
    try:
        # What the kernel takes for the sleeper comes first; then the queue fills and is given up.
        for number in range(1_000):
            gateway.realtime.deliver(event("payment.updated", filler, number))
            began = time.monotonic()
            assert (await admin.next())["type"] == "event"
            assert time.monotonic() - began < 3
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    await until(lambda: gateway.realtime.connections == 2, SLOW_WAIT_S + 5)
    assert peak < 4 * 1024 * 1024
    await admin.nothing()
    stalled.abort()


async def test_a_slow_reader_that_wakes_up_sees_why(gateway: Running) -> None:
    """R4.29: 1013 comes after what was already on its way."""
    reader, writer = await asyncio.open_connection(sock=await _narrow(gateway), limit=1024)
    lines = ["GET /ws?token=alice HTTP/1.1", "Host: a"]
    lines += [f"{name}: {value}" for name, value in HANDSHAKE.items()]
    writer.write("\r\n".join((*lines, "", "")).encode())
    await until(lambda: gateway.realtime.connections == 1)
    for number in range(10_000):
        gateway.realtime.deliver(event("profile.updated", {"userId": ALICE, "n": number}))
    received = b""
    async with asyncio.timeout(20):
        while data := await reader.read(65_536):
            received = (received + data)[-200:]
            if b"reader too slow" in received:
                break
    assert b"\x03\xf5reader too slow" in received
    writer.close()


async def test_a_stuck_client_is_dropped_when_its_session_is_revoked(
    gateway: Running, connect: Connect
) -> None:
    """R4.25's second holds for a client that reads nothing, too."""
    stalled = await _stalled(gateway, "alice")
    await until(lambda: gateway.realtime.connections == 1)
    for number in range(300):
        gateway.realtime.deliver(
            event("profile.updated", {"userId": ALICE, "x": "y" * 3_000}, number)
        )
    gateway.realtime.deliver(
        event("session.revoked", {"userId": ALICE, "sessionId": f"session-of-{ALICE}"})
    )
    assert gateway.realtime.connections == 0
    async with asyncio.timeout(3.5):
        await gateway.entry.idle()
    stalled.abort()


async def test_r4_31_a_dead_peer_is_dropped(
    gateway: Running, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R4.31: pings come, who does not answer is terminated, who does stays."""
    monkeypatch.setattr(lifetime, "PING_INTERVAL_S", 0.3)
    monkeypatch.setattr(lifetime, "PONG_TIMEOUT_S", 0.2)
    dead = await connect("bob", autoping=False)
    alive = await connect()
    stop = asyncio.get_running_loop().time() + 1.0
    while asyncio.get_running_loop().time() < stop:
        with contextlib.suppress(TimeoutError):
            await alive.socket.receive(timeout=0.2)
    message = await dead.socket.receive(timeout=1)
    assert message.type is WSMsgType.PING
    while (message := await dead.socket.receive(timeout=2)).type is WSMsgType.PING:
        pass
    assert dead.socket.close_code == 1006
    await alive.nothing()


async def test_r4_30_shutdown_says_goodbye(gateway: Running, connect: Connect) -> None:
    """R4.30."""
    peers = [await connect(), await connect("bob")]
    await gateway.realtime.close()
    for peer in peers:
        assert await peer.closed() == (1001, "Server shutting down")


async def test_a_client_that_leaves_leaves_nothing(gateway: Running, connect: Connect) -> None:
    """Closed or lost: rooms, places and gauges are as before."""
    peer, lost = await connect(), await connect()
    await peer.ask("subscribe", {"room": f"payment:{PAYMENT}"})
    await peer.socket.close(code=4000)
    assert peer.socket.close_code == 4000
    assert lost.socket._response is not None
    lost.socket._response.close()
    await until(lambda: gateway.realtime.connections == 0)
    async with asyncio.timeout(5):
        await gateway.entry.idle()
    assert gateway.realtime._rooms.count() == 0
    assert gateway.realtime._slots == {}
    assert gateway.realtime._sessions_of == {}


async def test_metrics_count_what_happened(
    gateway: Running, connect: Connect, http: aiohttp.ClientSession
) -> None:
    """R7.10."""

    async def read() -> dict[str, float]:
        async with http.get(f"{gateway.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return {
            name: float(value)
            for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
        }

    before = await read()
    peer = await connect()
    await peer.nothing()
    await peer.say("whatever")
    await peer.socket.send_str("{")
    await peer.next()
    gateway.realtime.deliver(event("profile.updated", {"userId": ALICE}))
    await peer.next()
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await http.ws_connect(f"{gateway.url}/ws?token=wrong")
    during = await read()
    await peer.socket.close()
    await until(lambda: gateway.realtime.connections == 0)
    async with asyncio.timeout(5):
        await gateway.entry.idle()
    after = await read()

    def moved(name: str, since: dict[str, float], now: dict[str, float]) -> float:
        return now.get(name, 0.0) - since.get(name, 0.0)

    total = "websocket_messages_total"
    for name, by in {
        "websocket_connections": 1,
        f'{total}{{direction="in",type="ping"}}': 1,
        f'{total}{{direction="in",type="other"}}': 2,
        f'{total}{{direction="out",type="connected"}}': 1,
        f'{total}{{direction="out",type="pong"}}': 1,
        f'{total}{{direction="out",type="error"}}': 1,
        f'{total}{{direction="out",type="event"}}': 1,
        'websocket_rejected_total{code="TOKEN_INVALID"}': 1,
        'http_requests_total{method="GET",path="/ws",status="101"}': 1,
        "http_active_connections": 0,
    }.items():
        assert moved(name, before, during) == by, name
    assert moved("websocket_connections", before, after) == 0
    assert moved("http_active_connections", before, after) == 0
    assert moved('websocket_closed_total{code="1000"}', before, after) == 1


class _Stuck:
    """A transport, its request and its writer, whose client takes nothing."""

    writing_paused = True

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.protocol = self.writer = self

    def get_extra_info(self, _: str) -> None:
        """No kernel buffer to set."""

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 1

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        """Nothing to drop."""

    async def drain(self) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("size", "most"), [(10, 1_000), (1_000, 1_000), (2_048, 512), (1_048_576, 1)]
)
async def test_r4_29_exactly_so_much_may_wait(size: int, most: int) -> None:
    """1,000 messages or 1 MiB, whichever comes first; one more closes with 1013."""
    stuck = _Stuck()
    connection = Socket(stuck, stuck)  # type: ignore[arg-type] # as much as `Socket` uses of both
    for _ in range(most):
        connection.send(b"x" * size)
    assert (connection.code, stuck.written) == (1006, [])
    connection.send(b"x")
    assert connection.code == 1013
    assert [frame[2:4] for frame in stuck.written] == [(1013).to_bytes(2)]
    connection.release()
