"""People behind the edge who log in, ask and listen, for the tests on a running platform."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from typing import Any

import aiohttp
import pika
from aiohttp import ClientWebSocketResponse, WSMsgType

from system.platform.events.envelope import Event
from system.platform.security.tokens import KeyRing, TokenType, environment_keys, issue_access

PASSWORD = "Harbour-Light-42"


class Person:
    """A newcomer, behind the edge."""

    def __init__(self, http: aiohttp.ClientSession, stack: Any, data: dict[str, Any]) -> None:
        self._http = http
        self._stack = stack
        self.id: str = data["user"]["id"]
        self.email: str = data["user"]["email"]
        self.token: str = data["accessToken"]

    async def ask(self, method: str, path: str, **named: Any) -> tuple[int, Any, Any]:
        """Status, JSON body and headers of a request."""
        headers = {"Authorization": f"Bearer {self.token}", **named.pop("headers", {})}
        url = self._stack.origin + path
        async with self._http.request(method, url, headers=headers, **named) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None, answer.headers

    async def again(self) -> Person:
        """The same user in another session."""
        body = {"email": self.email, "password": PASSWORD}
        async with self._http.post(f"{self._stack.origin}/api/auth/login", json=body) as answer:
            return Person(self._http, self._stack, (await answer.json())["data"])

    async def listen(self, token: str = "", origin: str = "") -> ClientWebSocketResponse:
        """A WebSocket that has been greeted, with another token or at another origin if given."""
        socket = await self._http.ws_connect(
            f"{origin or self._stack.origin}/ws", protocols=("bearer", token or self.token)
        )
        assert (await socket.receive_json(timeout=10))["type"] == "connected"
        return socket


async def newcomer(http: aiohttp.ClientSession, stack: Any) -> Person:
    """Register somebody."""
    body = {"email": f"{uuid.uuid4()}@x.test", "password": PASSWORD, "name": "Newcomer"}
    async with http.post(f"{stack.origin}/api/auth/register", json=body) as answer:
        assert answer.status == 201, await answer.text()
        return Person(http, stack, (await answer.json())["data"])


async def member(http: aiohttp.ClientSession, stack: Any, role: str) -> Person:
    """Log the seeded ``admin``, ``customer`` or ``vendor`` in."""
    account = stack.account(role)
    body = {"email": account["email"], "password": account["password"]}
    async with http.post(f"{stack.origin}/api/auth/login", json=body) as answer:
        assert answer.status == 200, await answer.text()
        return Person(http, stack, (await answer.json())["data"])


async def reply(socket: ClientWebSocketResponse, type: str, **message: Any) -> dict[str, Any]:
    """The direct reply to a message; what else comes meanwhile is passed over."""
    id = str(uuid.uuid4())
    await socket.send_json({"type": type, "id": id, **message})
    while True:
        received: dict[str, Any] = await socket.receive_json(timeout=10)
        if received.get("id") == id:
            return received


async def next_event(socket: ClientWebSocketResponse, type: str) -> dict[str, Any]:
    """The payload of the next event of a type."""
    while True:
        received = await socket.receive_json(timeout=10)
        if received["type"] == "event" and received["payload"]["eventType"] == type:
            payload: dict[str, Any] = received["payload"]
            return payload


async def heard(socket: ClientWebSocketResponse) -> list[str]:
    """The ids of all events that arrived before this moment."""
    id = str(uuid.uuid4())
    await socket.send_json({"type": "ping", "id": id})
    found = []
    while (received := await socket.receive_json(timeout=10)).get("id") != id:
        if received["type"] == "event":
            found.append(received["payload"]["eventId"])
    return found


async def ending(socket: ClientWebSocketResponse) -> tuple[Any, Any, list[dict[str, Any]]]:
    """Close code, reason, and the messages before."""
    messages = []
    while (message := await socket.receive(timeout=10)).type is WSMsgType.TEXT:
        messages.append(json.loads(message.data))
    return message.data, message.extra, messages


def short_token(stack: Any, token: str, seconds: int) -> str:
    """The same token, signed with the platform's key, for the same session but another time."""
    part = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    key = {**stack.target["access"]["keys"]["access"], "isActive": True}
    key["createdAt"] = "2026-01-01T00:00:00.000Z"
    ring = KeyRing({TokenType.ACCESS: environment_keys(json.dumps([key]), None)})
    return issue_access(
        ring,
        user_id=claims["userId"],
        email=claims["email"],
        name=claims["name"],
        role=claims["role"],
        session_id=claims["sid"],
        lifetime=seconds,
    )


class Broker:
    """The event hub, asked as its operator."""

    def __init__(self, stack: Any) -> None:
        granted = stack.target["access"]["amqp"]
        self._exchange: str = granted["exchange"]
        self._connection = pika.BlockingConnection(pika.URLParameters(granted["url"]))
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()

    def publish(self, *events: Event | bytes) -> None:
        """Give the gateways events, and no service, by a key that no service's queue is bound to.

        Returns when the broker has them.
        """
        for event in events:
            body = event if isinstance(event, bytes) else event.encode()
            self._channel.basic_publish(self._exchange, "test.for.gateways", body)

    def close(self) -> None:
        """Leave."""
        self._connection.close()


async def within(seconds: float, condition: Any, what: str) -> None:
    """Ask again until it is so; the condition may be a coroutine function."""
    give_up = time.monotonic() + seconds
    while True:
        found = condition()
        if await found if asyncio.iscoroutine(found) else found:
            return
        assert time.monotonic() < give_up, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.05)
