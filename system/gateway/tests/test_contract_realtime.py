"""Section 4 through the edge: handshake, messages, rooms and what the bridge brings (4.1-4.4)."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import psycopg
import pytest

from system.gateway.tests.people import (
    Broker,
    Person,
    ending,
    heard,
    member,
    newcomer,
    next_event,
    reply,
    short_token,
)
from system.platform.events.envelope import Event, new_event

pytestmark = pytest.mark.platform

PAYMENT = {"amount": "12.50", "currency": "USD", "type": "instant", "description": "live"}
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
MOMENT = "2026-01-17T10:00:00.000Z"


@pytest.fixture
def broker(stack: Any) -> Iterator[Broker]:
    """Publishes what the services need not know."""
    operator = Broker(stack)
    yield operator
    operator.close()


async def refusal(
    http: aiohttp.ClientSession, url: str, **headers: str
) -> tuple[int, str | None, dict[str, Any]]:
    """Status, error code and whole body of a handshake that is refused."""
    async with http.get(url, headers={**HANDSHAKE, **headers}) as answer:
        assert answer.status != 101
        body = json.loads(await answer.text()) if answer.content_type.endswith("json") else {}
        return answer.status, body.get("error", {}).get("code"), body


def bearer(token: str) -> dict[str, str]:
    """The subprotocol of R4.2."""
    return {"Sec-WebSocket-Protocol": f"bearer, {token}"}


async def paid(payer: Person, recipient: Person) -> str:
    """The id of a payment just made."""
    status, made, _ = await payer.ask(
        "POST", "/api/payments", json={**PAYMENT, "recipientId": recipient.id}
    )
    assert status == 201, made
    return str(made["data"]["id"])


async def test_r4_1_only_ws_is_upgraded(http: aiohttp.ClientSession, stack: Any) -> None:
    """The gateway answers an upgrade elsewhere 404; the edge passes on no other path as one."""
    person = await newcomer(http, stack)
    gateway = stack.services["gateway"]
    for path in ("/ws/", "/ws/x", "/api/ws", "/api/payments", "/graphql", "/health", "/"):
        status, code, _ = await refusal(http, gateway + path, **bearer(person.token))
        assert (status, code) == (404, "NOT_FOUND"), path
    for path in ("/ws/", "/api/ws", "/health", "/"):
        async with http.get(
            stack.origin + path, headers={**HANDSHAKE, **bearer(person.token)}
        ) as answer:
            assert answer.status in (200, 404), path
    for base in (stack.origin, gateway):
        async with http.ws_connect(f"{base}/ws?x=1", protocols=("bearer", person.token)) as open_:
            assert (await open_.receive_json(timeout=10))["type"] == "connected"


async def test_r4_2_the_token_comes_in_two_ways(http: aiohttp.ClientSession, stack: Any) -> None:
    """If both are sent the subprotocol counts; no log has any of the tokens."""
    person, other = await newcomer(http, stack), await newcomer(http, stack)
    url = f"{stack.origin}/ws"
    async with http.ws_connect(url, protocols=("bearer", person.token)) as socket:
        assert socket.protocol == "bearer"
        assert (await socket.receive_json())["payload"]["userId"] == person.id
    async with http.ws_connect(f"{url}?token={person.token}") as socket:
        assert socket.protocol is None
        assert (await socket.receive_json())["payload"]["userId"] == person.id
    both = f"{url}?token={other.token}"
    async with http.ws_connect(both, protocols=("bearer", person.token)) as socket:
        assert (await socket.receive_json())["payload"]["userId"] == person.id
    bad = await refusal(http, f"{url}?token={person.token}", **bearer("x"))
    assert bad[:2] == (401, "TOKEN_INVALID")
    written = "".join(
        path.read_text("utf-8", "replace") for path in (stack.folder / "logs").iterdir()
    )
    assert "/ws?token=[REDACTED]" in written
    for token in (person.token, other.token):
        assert token not in written
        assert token.rpartition(".")[2] not in written


async def test_r4_3_refusals_are_complete_answers(http: aiohttp.ClientSession, stack: Any) -> None:
    """Each case of a token that does not count, with the error body of R1.2."""
    person, gone = await newcomer(http, stack), await newcomer(http, stack)
    await gone.ask("POST", "/api/auth/logout", json={})
    body = {"email": person.email, "password": "Harbour-Light-42"}
    async with http.post(f"{stack.origin}/api/auth/login", json=body) as answer:
        refresh = (await answer.json())["data"]["refreshToken"]
    for headers, code in (
        ({}, "UNAUTHORIZED"),
        ({"Sec-WebSocket-Protocol": "bearer"}, "UNAUTHORIZED"),
        (bearer("x.y.z"), "TOKEN_INVALID"),
        (bearer(person.token[:-4] + "AAAA"), "TOKEN_INVALID"),
        (bearer(refresh), "TOKEN_INVALID"),
        (bearer(short_token(stack, person.token, -10)), "TOKEN_EXPIRED"),
        (bearer(gone.token), "TOKEN_REVOKED"),
    ):
        status, seen, refused = await refusal(http, f"{stack.origin}/ws", **headers)
        assert (status, seen) == (401, code)
        assert refused["success"] is False
        assert set(refused["error"]) == {"code", "message"}


async def test_r4_4_the_origin_is_judged_before_the_token(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """A foreign one is 403 with any token and with none; a listed one and none are welcome."""
    person = await newcomer(http, stack)
    url = f"{stack.origin}/ws"
    for headers in ({}, bearer("x"), bearer(person.token)):
        seen = await refusal(http, url, Origin="https://elsewhere.test", **headers)
        assert seen[:2] == (403, "ORIGIN_NOT_ALLOWED")
    async with http.ws_connect(
        url, protocols=("bearer", person.token), headers={"Origin": stack.origin}
    ) as socket:
        assert (await socket.receive_json(timeout=10))["type"] == "connected"


async def test_r4_5_a_user_has_twenty_connections(http: aiohttp.ClientSession, stack: Any) -> None:
    """The twenty-first is refused, the older ones stay, and a place given back can be taken."""
    person, other = await newcomer(http, stack), await newcomer(http, stack)
    sockets = [await person.listen() for _ in range(20)]
    seen = await refusal(http, f"{stack.origin}/ws", **bearer(person.token))
    assert seen[:2] == (429, "TOO_MANY_CONNECTIONS")
    sockets.append(await other.listen())
    for socket in sockets:
        assert (await reply(socket, "ping"))["type"] == "pong"
    await sockets.pop(0).close()
    sockets.append(await person.listen())
    for socket in sockets:
        await socket.close()


async def test_r4_6_no_compression_and_no_binary(http: aiohttp.ClientSession, stack: Any) -> None:
    """An offered compression is not taken; a binary message closes with 1003."""
    person = await newcomer(http, stack)
    async with http.ws_connect(
        f"{stack.origin}/ws", protocols=("bearer", person.token), compress=15
    ) as socket:
        assert socket.compress == 0
        await socket.receive_json(timeout=10)
        await socket.send_bytes(b'{"type":"ping"}')
        assert (await ending(socket))[0] == 1003


async def test_r4_7_a_reply_repeats_a_short_id(http: aiohttp.ClientSession, stack: Any) -> None:
    """A string of 64 characters; not 65, no number, none where none was sent."""
    socket = await (await newcomer(http, stack)).listen()
    for sent, repeated in (("i" * 64, "i" * 64), ("i" * 65, None), (7, None), (None, None)):
        await socket.send_json({"type": "ping"} if sent is None else {"type": "ping", "id": sent})
        answer = await socket.receive_json(timeout=10)
        assert answer.get("id") == repeated
    await socket.close()


async def test_r4_8_r4_17_r4_18_r4_19_the_first_message(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """Who, the three rooms of one's own, and the token's end; for each role."""
    for role in ("customer", "vendor", "admin"):
        person = await member(http, stack, role)
        async with http.ws_connect(
            f"{stack.origin}/ws", protocols=("bearer", person.token)
        ) as socket:
            greeting = await socket.receive_json(timeout=10)
        assert set(greeting) == {"type", "payload", "timestamp"}
        assert greeting["type"] == "connected"
        assert set(greeting["payload"]) == {"userId", "rooms", "expiresAt"}
        assert greeting["payload"]["userId"] == person.id
        assert greeting["payload"]["rooms"] == [f"user:{person.id}", f"role:{role}", "broadcast"]
        left = datetime.fromisoformat(greeting["payload"]["expiresAt"]) - datetime.now(UTC)
        assert 800 < left.total_seconds() <= 900


async def test_r4_9_ping_is_answered_by_pong(http: aiohttp.ClientSession, stack: Any) -> None:
    """Text for text, and a protocol ping by a protocol pong."""
    socket = await (await newcomer(http, stack)).listen()
    pong = await reply(socket, "ping")
    assert set(pong) == {"type", "timestamp", "id"}
    assert pong["type"] == "pong"
    await socket.close()


async def test_r4_10_r4_11_r4_20_a_payments_room(
    http: aiohttp.ClientSession, stack: Any, broker: Broker
) -> None:
    """Subscribed twice it delivers once; unsubscribed it delivers no more, to a reading ADMIN."""
    payer, recipient = await newcomer(http, stack), await newcomer(http, stack)
    payment = await paid(payer, recipient)
    room = {"room": f"payment:{payment}"}
    for person in (payer, recipient, await member(http, stack, "admin")):
        socket = await person.listen()
        for _ in range(2):
            taken = await reply(socket, "subscribe", payload=room)
            assert (taken["type"], taken["payload"]) == ("subscribed", room)
        await heard(socket)
        await payer.ask("PUT", f"/api/payments/{payment}", json={"description": f"{uuid.uuid4()}"})
        updated = await next_event(socket, "payment.updated")
        assert updated["data"]["paymentId"] == payment
        assert updated["eventId"] not in await heard(socket)
        left = await reply(socket, "unsubscribe", payload=room)
        assert (left["type"], left["payload"]) == ("unsubscribed", room)
        await socket.close()


async def test_r4_14_an_event_is_told_as_it_was_published(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """Type, id, data, correlation id and time are those of the outbox."""
    payer, recipient = await newcomer(http, stack), await newcomer(http, stack)
    socket = await recipient.listen()
    status, _, headers = await payer.ask(
        "POST",
        "/api/payments",
        json={**PAYMENT, "recipientId": recipient.id},
        headers={"X-Correlation-ID": f"c-{payer.id}"},
    )
    assert (status, headers["X-Correlation-ID"]) == (201, f"c-{payer.id}")
    while (message := await socket.receive_json(timeout=10))["type"] != "event":
        pass
    with psycopg.connect(stack.database("payments")) as db:
        row = db.execute(
            "SELECT envelope FROM outbox WHERE envelope->>'id' = %s",
            [message["payload"]["eventId"]],
        ).fetchone()
    assert row is not None
    envelope = row[0]
    assert message == {
        "type": "event",
        "payload": {
            "eventType": "payment.created",
            "eventId": envelope["id"],
            "data": envelope["data"],
            "correlationId": f"c-{payer.id}",
        },
        "timestamp": envelope["timestamp"],
    }
    await socket.close()


async def test_r4_15_r4_21_rooms_that_are_refused(http: aiohttp.ClientSession, stack: Any) -> None:
    """By their codes; a refused room delivers nothing."""
    payer, recipient, stranger = [await newcomer(http, stack) for _ in range(3)]
    payment = await paid(payer, recipient)
    socket = await stranger.listen()
    for room, code in (
        (f"user:{payer.id}", "ROOM_FORBIDDEN"),
        ("role:admin", "ROOM_FORBIDDEN"),
        ("role:vendor", "ROOM_FORBIDDEN"),
        (f"payment:{payment}", "ROOM_FORBIDDEN"),
        (f"payment:{uuid.uuid4()}", "ROOM_FORBIDDEN"),
        ("payments", "INVALID_ROOM"),
        ("payment:1", "INVALID_ROOM"),
        ("role:root", "INVALID_ROOM"),
        (f"payment:{'a' * 121}", "INVALID_ROOM"),
        ("", "INVALID_ROOM"),
        (7, "INVALID_ROOM"),
        (None, "INVALID_ROOM"),
    ):
        refused = await reply(socket, "subscribe", payload={"room": room})
        assert (refused["type"], refused["payload"]["code"]) == ("error", code), room
        assert set(refused["payload"]) == {"code", "message"}
    assert (await reply(socket, "subscribe"))["payload"]["code"] == "INVALID_ROOM"
    await payer.ask("PUT", f"/api/payments/{payment}", json={"description": "unheard"})
    witness = await recipient.listen()
    await payer.ask("PUT", f"/api/payments/{payment}", json={"description": "heard"})
    await next_event(witness, "payment.updated")
    assert await heard(socket) == []
    for open_ in (socket, witness):
        await open_.close()


async def test_r4_21_a_hundred_payment_rooms_are_the_most(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """The hundred-first is TOO_MANY_ROOMS; after an unsubscribe there is room for one."""
    payer, recipient = await newcomer(http, stack), await newcomer(http, stack)
    payment = await paid(payer, recipient)
    with psycopg.connect(stack.database("payments"), autocommit=True) as db:
        names = [
            column
            for (column,) in db.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_name = 'payments' "
                "AND column_name <> 'id' AND is_generated = 'NEVER'"
            ).fetchall()
        ]
        columns = ", ".join(names)
        more = db.execute(
            f"INSERT INTO payments (id, {columns}) SELECT gen_random_uuid(), {columns} "
            "FROM payments, generate_series(1, 100) WHERE id = %s RETURNING id::text",
            [payment],
        ).fetchall()
    rooms = [f"payment:{payment}", *(f"payment:{id}" for (id,) in more)]
    socket = await payer.listen()
    for room in rooms[:100]:
        taken = await reply(socket, "subscribe", payload={"room": room})
        assert taken["type"] == "subscribed", taken
        await asyncio.sleep(0.025)  # R4.28: fifty a second are the most
    refused = await reply(socket, "subscribe", payload={"room": rooms[100]})
    assert refused["payload"]["code"] == "TOO_MANY_ROOMS"
    await reply(socket, "unsubscribe", payload={"room": rooms[0]})
    taken = await reply(socket, "subscribe", payload={"room": rooms[100]})
    assert taken["type"] == "subscribed"
    await socket.close()


async def test_r4_16_what_cannot_be_read_is_named(http: aiohttp.ClientSession, stack: Any) -> None:
    """INVALID_MESSAGE and the connection stays; other types are passed over."""
    socket = await (await newcomer(http, stack)).listen()
    for text in ("no json", "null", "[]", '"ping"', "{}", '{"type":7}', '{"type":null}', "{"):
        await socket.send_str(text)
        answer = await socket.receive_json(timeout=10)
        assert (answer["type"], answer["payload"]) == (
            "error",
            {"code": "INVALID_MESSAGE", "message": "Invalid message format"},
        ), text
    for kind in ("event", "connected", "nothing", ""):
        await socket.send_json({"type": kind, "id": "unanswered"})
    assert (await reply(socket, "ping"))["type"] == "pong"
    await socket.close()


def told(type: str, data: dict[str, Any]) -> Event:
    """An event as its publisher would make it."""
    return new_event(type, data, source="auth-service", actor_id=None)


async def test_r4_23_each_event_reaches_its_rooms_once(
    http: aiohttp.ClientSession, stack: Any, broker: Broker
) -> None:
    """Row by row of the table: the user, administrators, both, or everybody; never twice."""
    person, other = await newcomer(http, stack), await newcomer(http, stack)
    admin = await member(http, stack, "admin")
    sockets = {
        name: await who.listen()
        for name, who in (("user", person), ("other", other), ("admin", admin))
    }
    by = {"email": person.email, "ipAddress": None}
    who = {"userId": person.id}
    session = {**who, "sessionId": str(uuid.uuid4())}
    snapshot = {
        **who,
        "email": person.email,
        "name": "N",
        "role": "CUSTOMER",
        "status": "active",
        "emailVerified": False,
        "userVersion": 9,
        "changes": ["name"],
        "updatedAt": MOMENT,
    }
    config = {"oldValue": None, "newValue": 1, "updatedBy": person.id, "updatedAt": MOMENT}
    cases: list[tuple[Event, set[str]]] = [
        (told("user.updated", snapshot), {"user", "admin"}),
        (told("user.login", {**session, **by, "loginAt": MOMENT}), {"user", "admin"}),
        (told("user.logout", {**session, **by, "logoutAt": MOMENT}), {"user", "admin"}),
        (told("user.password_changed", {**who, "changedAt": MOMENT}), {"user", "admin"}),
        (told("user.login_failed", {**who, **by, "attemptedAt": MOMENT}), {"admin"}),
        (
            told("user.locked", {**who, **by, "scope": "pair", "lockedUntil": MOMENT}),
            {"admin"},
        ),
        (told("user.unlocked", {**who, **by, "unlockedAt": MOMENT}), {"admin"}),
        (
            told("token.reuse_detected", {**session, "ipAddress": None, "detectedAt": MOMENT}),
            {"user"},
        ),
        (
            told(
                "session.revoked",
                {**session, "deviceId": None, "reason": "logout", "timestamp": MOMENT},
            ),
            {"user"},
        ),
        (told("config.updated", {"key": "fees.rate", **config}), {"admin"}),
        (told("config.updated", {"key": "public.banner", **config}), {"user", "other", "admin"}),
    ]
    for name in sockets:
        await heard(sockets[name])
    broker.publish(*(event for event, _ in cases))
    # The last one goes to everybody, and a connection hears events in their order.
    for name, socket in sockets.items():
        expected = [event.id for event, rooms in cases if name in rooms]
        seen: list[str] = []
        while not seen or seen[-1] != expected[-1]:
            message = await socket.receive_json(timeout=10)
            if message["type"] == "event" and message["payload"]["eventId"] in {
                event.id for event, _ in cases
            }:
                seen.append(message["payload"]["eventId"])
        assert seen == expected, name
        assert not set(await heard(socket)) & set(expected)
        await socket.close()


async def test_r4_23_an_event_comes_within_two_seconds(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """Of the HTTP answer that caused it, for profile, payment and configuration."""
    person, payer = await newcomer(http, stack), await newcomer(http, stack)
    socket = await person.listen()
    for number in range(5):
        assert (await person.ask("PUT", "/api/profile", json={"bio": f"b{number}"}))[0] == 200
        answered = time.monotonic()
        await next_event(socket, "profile.updated")
        assert time.monotonic() - answered < 2.0
    await paid(payer, person)
    answered = time.monotonic()
    await next_event(socket, "payment.created")
    assert time.monotonic() - answered < 2.0
    await socket.close()


async def test_r4_24_an_event_without_a_room_is_dropped(
    http: aiohttp.ClientSession, stack: Any, broker: Broker
) -> None:
    """Unreadable, of no known type or without the field that routes it; the next one arrives."""
    person = await newcomer(http, stack)
    socket = await person.listen()
    good = told("user.password_changed", {"userId": person.id, "changedAt": MOMENT})
    odd = json.loads(good.encode())
    broker.publish(
        b"no json",
        b"{}",
        json.dumps({**odd, "id": str(uuid.uuid4()), "type": "weather.changed"}).encode(),
        json.dumps({**odd, "id": str(uuid.uuid4()), "data": {"changedAt": MOMENT}}).encode(),
        good,
    )
    assert (await next_event(socket, "user.password_changed"))["eventId"] == good.id
    assert await heard(socket) == []
    await socket.close()
