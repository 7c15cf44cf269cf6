"""The gateway in its place: real services, broker and Redis behind it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

pytestmark = pytest.mark.platform


class Person:
    """Somebody who is logged in."""

    def __init__(self, session: aiohttp.ClientSession, url: str, data: dict[str, Any]) -> None:
        self._session = session
        self._url = url
        self.id: str = data["user"]["id"]
        self.token: str = data["accessToken"]

    async def ask(self, method: str, path: str, **named: Any) -> tuple[int, dict[str, Any]]:
        """Status and body of a request."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self._session.request(
            method, self._url + path, headers=headers, **named
        ) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else {}

    async def listen(self) -> ClientWebSocketResponse:
        """A WebSocket connection that has been greeted."""
        socket = await self._session.ws_connect(f"{self._url}/ws", protocols=("bearer", self.token))
        assert (await socket.receive_json(timeout=10))["type"] == "connected"
        return socket


@pytest.fixture
async def http(stack: Any) -> AsyncIterator[aiohttp.ClientSession]:
    """A session from an address that no limit counts."""
    connector = aiohttp.TCPConnector(local_addr=(stack.exempt, 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def log_in(http: aiohttp.ClientSession, stack: Any, role: str) -> Person:
    """Log a seeded account in at the gateway."""
    url = stack.services["gateway"]
    account = stack.account(role)
    body = {"email": account["email"], "password": account["password"]}
    async with http.post(f"{url}/api/auth/login", json=body) as answer:
        data = (await answer.json())["data"]
        assert answer.status == 200, data
    return Person(http, url, data)


async def _event(socket: ClientWebSocketResponse, kind: str, seconds: float = 10) -> dict[str, Any]:
    """The next event of a type, passing others over."""
    async with asyncio.timeout(seconds):
        while True:
            message = await socket.receive_json()
            if message["type"] == "event" and message["payload"]["eventType"] == kind:
                payload: dict[str, Any] = message["payload"]
                return payload


async def test_a_payment_reaches_its_parties_live(http: aiohttp.ClientSession, stack: Any) -> None:
    """R4.20, R4.23: over REST, outbox, broker and bridge to exactly the right sockets."""
    customer, vendor = await log_in(http, stack, "customer"), await log_in(http, stack, "vendor")
    admin = await log_in(http, stack, "admin")
    sockets = [await person.listen() for person in (customer, vendor, admin)]
    body = {
        "amount": "12.50",
        "currency": "USD",
        "type": "instant",
        "description": "live",
        "recipientId": vendor.id,
    }
    status, created = await customer.ask("POST", "/api/payments", json=body)
    assert status == 201, created
    payment = created["data"]["id"]
    for socket in sockets:
        found = await _event(socket, "payment.created")
        assert found["data"]["paymentId"] == payment
    room = f"payment:{payment}"
    await sockets[1].send_json({"type": "subscribe", "payload": {"room": room}, "id": "1"})
    reply = await sockets[1].receive_json(timeout=10)
    assert (reply["type"], reply["payload"]) == ("subscribed", {"room": room})
    unknown = "payment:99999999-9999-4999-8999-999999999999"
    await sockets[2].send_json({"type": "subscribe", "payload": {"room": unknown}})
    reply = await sockets[2].receive_json(timeout=10)
    assert reply["payload"]["code"] == "ROOM_FORBIDDEN"
    for socket in sockets:
        await socket.close()


async def test_a_logout_ends_token_and_socket(http: aiohttp.ClientSession, stack: Any) -> None:
    """R1.32, R4.25: within a second, and the other session of the user goes on."""
    leaving, staying = await log_in(http, stack, "customer"), await log_in(http, stack, "customer")
    gone, kept = await leaving.listen(), await staying.listen()
    assert (await leaving.ask("POST", "/api/auth/logout", json={}))[0] == 200
    began = time.monotonic()
    while (message := await gone.receive(timeout=10)).type is WSMsgType.TEXT:
        pass
    assert (message.data, message.extra) == (4401, "session revoked")
    took = time.monotonic() - began
    status, refused = await leaving.ask("GET", "/api/payments")
    assert (status, refused["error"]["code"]) == (401, "TOKEN_REVOKED")
    assert (await staying.ask("GET", "/api/payments"))[0] == 200
    await kept.send_json({"type": "ping", "id": "here"})
    while (await kept.receive_json(timeout=10)).get("id") != "here":
        pass
    await kept.close()
    await gone.close()
    assert took < 5, f"closed after {took:.1f} s"  # the criterion judges the second, unloaded


async def test_the_gateway_hides_what_is_internal(http: aiohttp.ClientSession, stack: Any) -> None:
    """R1.50, R1.153: alive at the service, 404 through the gateway, even with the token of it."""
    token = {"X-Internal-Token": stack.target["access"]["internal"]["token"]}
    path = "/internal/users/by-email?email=nobody@x.test"
    async with http.get(stack.services["auth"] + path, headers=token) as alive:
        assert b"Route GET" not in await alive.read()
        assert alive.status != 401
    for spelling in ("/api/auth" + path, "/api/auth/%69nternal/users", path):
        url = stack.services["gateway"] + spelling
        async with http.get(url, headers=token) as hidden:
            assert hidden.status == 404
            assert (await hidden.json())["error"]["code"] == "NOT_FOUND"


async def test_readiness_names_every_dependency(http: aiohttp.ClientSession, stack: Any) -> None:
    """R1.55."""
    async with http.get(stack.services["gateway"] + "/health/ready") as answer:
        body = await answer.json()
    assert (answer.status, body["data"]["status"]) == (200, "ready"), body
    assert {
        name: check["status"] for name, check in body["data"]["checks"].items()
    } == dict.fromkeys(
        ("redis", "rabbitmq", "authService", "paymentsService", "adminService", "profileService"),
        "up",
    )
