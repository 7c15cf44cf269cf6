"""1.6-1.8 and section 4 through the whole platform: edge, gateway, services, broker."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import aiohttp
import pytest

from system.gateway.tests.people import (
    PASSWORD,
    ending,
    heard,
    newcomer,
    next_event,
    reply,
)

pytestmark = pytest.mark.platform

PAYMENT = {"amount": "12.50", "currency": "USD", "type": "instant", "description": "live"}


async def test_r1_40_no_header_moves_a_clients_address(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """The session shows the address of the connection at the edge."""
    person = await newcomer(http, stack)
    body = {"email": person.email, "password": PASSWORD}
    lies = dict.fromkeys(("X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Actor-IP"), "203.0.113.9")
    async with http.post(f"{stack.origin}/api/auth/login", json=body, headers=lies) as answer:
        assert answer.status == 200
    _, listed, _ = await person.ask("GET", "/api/auth/sessions")
    assert {session["ipAddress"] for session in listed["data"]} == {stack.exempt}


async def test_r1_42_r1_44_counted_answers_show_the_quota(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """From an address that counts, and not on health; an exempt one has none."""
    person = await newcomer(http, stack)
    _, _, exempt = await person.ask("GET", "/api/auth/me")
    assert "RateLimit-Limit" not in exempt
    connector = aiohttp.TCPConnector(local_addr=(f"127.0.3.{uuid.uuid4().int % 100 + 120}", 0))
    async with aiohttp.ClientSession(connector=connector) as counted:
        gateway = stack.services["gateway"]
        async with counted.get(f"{gateway}/api/auth/me") as first:
            assert first.headers["RateLimit-Policy"] == "2000;w=900"
            assert first.headers["RateLimit-Limit"] == "2000"
            left = int(first.headers["RateLimit-Remaining"])
            assert 1 <= int(first.headers["RateLimit-Reset"]) <= 900
        async with counted.get(f"{gateway}/health") as health:
            assert "RateLimit-Limit" not in health.headers
        async with counted.get(f"{gateway}/api/auth/me") as second:
            assert int(second.headers["RateLimit-Remaining"]) == left - 1


async def test_r1_46_r1_47_a_listed_origin(http: aiohttp.ClientSession, stack: Any) -> None:
    """Preflight without a token, and what scripts may read of the answer."""
    url, origin = f"{stack.origin}/api/payments", {"Origin": stack.origin}
    async with http.options(
        url, headers={**origin, "Access-Control-Request-Method": "POST"}
    ) as preflight:
        assert preflight.status == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == stack.origin
        assert preflight.headers["Access-Control-Allow-Credentials"] == "true"
        assert preflight.headers["Access-Control-Max-Age"] == "86400"
        assert preflight.headers["Access-Control-Allow-Methods"] == (
            "GET,POST,PUT,PATCH,DELETE,OPTIONS"
        )
        assert "Idempotency-Key" in preflight.headers["Access-Control-Allow-Headers"]
    async with http.get(url, headers=origin) as answer:
        assert answer.status == 401
        assert answer.headers.getall("Access-Control-Allow-Origin") == [stack.origin]
        assert "Origin" in answer.headers["Vary"]
        assert answer.headers["Access-Control-Expose-Headers"] == (
            "X-Request-ID, X-Correlation-ID, X-Cache, Retry-After, RateLimit-Limit, "
            "RateLimit-Remaining, RateLimit-Reset, Idempotency-Replayed"
        )


async def test_r1_48_a_foreign_origin_gets_no_cors_header(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """The ordinary answer, and 204 for its preflight."""
    headers = {"Origin": "https://elsewhere.test", "Access-Control-Request-Method": "GET"}
    for method, status in (("OPTIONS", 204), ("GET", 401)):
        async with http.request(method, f"{stack.origin}/api/auth/me", headers=headers) as answer:
            assert answer.status == status
            assert not [n for n in answer.headers if n.lower().startswith("access-control-")]


async def test_r1_51_queries_pass_unchanged(http: aiohttp.ClientSession, stack: Any) -> None:
    """A parameter given twice arrives twice: the service refuses it, as it would alone."""
    person = await newcomer(http, stack)
    status, body, _ = await person.ask("GET", "/api/payments?page=1&page=2")
    assert (status, body["error"]["code"]) == (400, "VALIDATION_ERROR")
    assert [issue["path"] for issue in body["error"]["details"]] == [["page"]]


async def test_r1_53_headers_occur_once(http: aiohttp.ClientSession, stack: Any) -> None:
    """Whoever answers: a service, the gateway, the edge."""
    person = await newcomer(http, stack)
    for path in ("/api/auth/me", "/api/nothing", "/metrics", "/health", "/graphql"):
        _, _, headers = await person.ask("GET", path)
        for name in ("X-Correlation-ID", "Content-Security-Policy", "X-Content-Type-Options"):
            assert len(headers.getall(name)) == 1, (path, name)


async def test_r4_12_reauth_takes_a_token_of_the_same_user_only(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """The new session counts from then on; a bad token changes nothing."""
    person, other = await newcomer(http, stack), await newcomer(http, stack)
    socket = await person.listen()
    for token in (other.token, "x"):
        refused = await reply(socket, "reauth", payload={"token": token})
        assert (refused["type"], refused["payload"]["code"]) == ("error", "TOKEN_INVALID")
    renewed = await person.again()
    taken = await reply(socket, "reauth", payload={"token": renewed.token})
    assert taken["type"] == "reauthenticated"
    assert set(taken["payload"]) == {"expiresAt"}
    # The session it began with may end now; the one it has now may not.
    await person.ask("POST", "/api/auth/logout", json={})
    await next_event(socket, "session.revoked")
    assert (await reply(socket, "ping"))["type"] == "pong"
    await renewed.ask("POST", "/api/auth/logout", json={})
    code, reason, _ = await ending(socket)
    assert (code, reason) == (4401, "session revoked")


async def test_r4_22_who_is_no_party_any_more_leaves_the_room(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """The former recipient does not hear what happens after the change."""
    payer, former, new = [await newcomer(http, stack) for _ in range(3)]
    _, made, _ = await payer.ask(
        "POST", "/api/payments", json={**PAYMENT, "recipientId": former.id}
    )
    path, room = f"/api/payments/{made['data']['id']}", f"payment:{made['data']['id']}"
    listening = await former.listen()
    joined = await reply(listening, "subscribe", payload={"room": room})
    assert joined["type"] == "subscribed"
    succeeding = await new.listen()
    assert (await payer.ask("PUT", path, json={"recipientId": new.id}))[0] == 200
    await next_event(succeeding, "payment.updated")
    await heard(listening)
    assert (await payer.ask("PUT", path, json={"description": "after"}))[0] == 200
    after = await next_event(succeeding, "payment.updated")
    assert after["eventId"] not in await heard(listening)
    again = await reply(listening, "subscribe", payload={"room": room})
    assert again["payload"]["code"] == "ROOM_FORBIDDEN"
    for socket in (listening, succeeding):
        await socket.close()


async def test_r4_25_a_revoked_session_closes_its_own_sockets(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """All of the user hear of it, only those of the session are closed."""
    leaving = await newcomer(http, stack)
    staying = await leaving.again()
    gone, kept = await leaving.listen(), await staying.listen()
    _, listed, _ = await leaving.ask("GET", "/api/auth/sessions")
    session = next(entry["id"] for entry in listed["data"] if entry["current"])
    assert (await staying.ask("DELETE", f"/api/auth/sessions/{session}"))[0] == 204
    code, reason, messages = await ending(gone)
    assert (code, reason) == (4401, "session revoked")
    assert [m["payload"]["eventType"] for m in messages if m["type"] == "event"] == [
        "session.revoked"
    ]
    assert (await next_event(kept, "session.revoked"))["data"]["sessionId"] == session
    assert (await reply(kept, "ping"))["type"] == "pong"
    await kept.close()


async def test_r1_94_the_sessions_of_a_device_end_with_it(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """An event and a closed socket for each of them; nothing of another user's device so named."""
    owner, other = await newcomer(http, stack), await newcomer(http, stack)
    on_device = [await owner.again(), await owner.again()]
    register, device = "/api/auth/devices/register", {"deviceId": "shared", "deviceName": "Mine"}
    for person in (*on_device, other):
        status, _, _ = await person.ask("POST", register, json=device)
        assert status == 200
    _, before, _ = await other.ask("GET", "/api/auth/devices")
    sockets = [await person.listen() for person in on_device]
    watching, foreign = await owner.listen(), await other.listen()
    ids = set()
    for person in on_device:
        _, listed, _ = await person.ask("GET", "/api/auth/sessions")
        ids |= {entry["id"] for entry in listed["data"] if entry["current"]}

    assert (await owner.ask("DELETE", "/api/auth/devices/shared"))[0] == 204

    for socket in sockets:
        code, reason, _ = await ending(socket)
        assert (code, reason) == (4401, "session revoked")
    told = [(await next_event(watching, "session.revoked"))["data"] for _ in ids]
    assert {data["sessionId"] for data in told} == ids
    assert {(data["deviceId"], data["reason"]) for data in told} == {("shared", "device_revoked")}
    assert not await heard(watching), "more events than sessions"
    assert not await heard(foreign)
    assert (await other.ask("GET", "/api/auth/devices"))[1] == before
    for socket in (watching, foreign):
        await socket.close()


async def test_r4_27_messages_above_64_kib_close_with_1009(
    http: aiohttp.ClientSession, stack: Any
) -> None:
    """One of exactly 65,536 bytes is answered, one more byte is too much."""
    person = await newcomer(http, stack)
    socket = await person.listen()
    frame = '{"type":"ping","id":"1","x":"%s"}'
    whole = frame % ("y" * (65_536 - len(frame) + 2))
    assert len(whole) == 65_536
    await socket.send_str(whole)
    assert (await socket.receive_json(timeout=10))["type"] == "pong"
    await socket.send_str(whole + " ")
    assert (await ending(socket))[0] == 1009


async def test_r4_28_a_flood_is_named_and_closed(http: aiohttp.ClientSession, stack: Any) -> None:
    """The error comes first, then 1008."""
    person = await newcomer(http, stack)
    socket = await person.listen()
    await asyncio.gather(*(socket.send_json({"type": "ping"}) for _ in range(60)))
    code, _, messages = await ending(socket)
    assert code == 1008
    assert messages[-1]["payload"]["code"] == "RATE_LIMIT_EXCEEDED"
    assert len([message for message in messages if message["type"] == "pong"]) == 50
