"""Callers of the running payments-service: people logged in, and the payment provider."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

import httpx
import pika
import psycopg

from system.platform.events.envelope import Event


class Stack(Protocol):
    """What these tests use of the fixture `stack`."""

    target: dict[str, Any]
    origin: str
    services: dict[str, str]
    exempt: str
    trust: ssl.SSLContext

    def account(self, role: str) -> dict[str, str]: ...
    def control(self, part: str, action: str) -> None: ...
    def database(self, service: str) -> str: ...


class User:
    """Somebody logged in, with calls to payments-service."""

    def __init__(self, stack: Stack, credentials: dict[str, str]) -> None:
        self.credentials = credentials
        self._http = httpx.Client(base_url=stack.services["payments"], timeout=10)
        answer = httpx.post(f"{stack.services['auth']}/auth/login", json=credentials, timeout=10)
        assert answer.status_code == 200, answer.text
        data = answer.json()["data"]
        self.id: str = data["user"]["id"]
        self.email: str = data["user"]["email"]
        self.authorization = f"Bearer {data['accessToken']}"
        self._http.headers["Authorization"] = self.authorization

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self._http.get(path, headers=headers)

    def pay(self, to: User, *, key: str | None = None, **changes: Any) -> httpx.Response:
        body = {
            "type": "instant",
            "amount": "100.50",
            "currency": "USD",
            "description": "Lunch",
            "recipientId": to.id,
            **changes,
        }
        headers = {} if key is None else {"Idempotency-Key": key}
        return self._http.post("/payments", json=body, headers=headers)

    def post(self, body: Any, **headers: str) -> httpx.Response:
        return self._http.post("/payments", json=body, headers=headers)

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send any request."""
        return self._http.request(method, path, **options)

    def put(self, payment_id: str, **changes: Any) -> httpx.Response:
        return self._http.put(f"/payments/{payment_id}", json=changes)

    def change(self, payment_id: str, status: str, **more: str) -> httpx.Response:
        return self._http.patch(f"/payments/{payment_id}/status", json={"status": status, **more})

    def close(self) -> None:
        self._http.close()


def newcomer(stack: Stack) -> User:
    """Register somebody new."""
    credentials = {"email": f"{uuid.uuid4()}@x.test", "password": "Newcomer-Pass-123!"}
    answer = httpx.post(
        f"{stack.services['auth']}/auth/register", json={**credentials, "name": "New"}, timeout=10
    )
    assert answer.status_code == 201, answer.text
    return User(stack, credentials)


def made(answer: httpx.Response) -> str:
    assert answer.status_code == 201, answer.text
    return str(answer.json()["data"]["id"])


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until the condition holds."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"not within {seconds} s"
        time.sleep(0.05)


def seen(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.headers.get("X-Cache")


class Provider:
    """The payment provider, who signs what it says (R1.121)."""

    def __init__(self, stack: Stack) -> None:
        self._url = f"{stack.services['payments']}/webhooks/payments"
        self._secret = stack.target["access"]["webhooks"]["secret"].encode()

    def say(self, payment_id: str, status: str, **more: Any) -> httpx.Response:
        return self.send(json.dumps({"paymentId": payment_id, "status": status, **more}).encode())

    def send(
        self, body: bytes, url: str | None = None, client: httpx.Client | None = None
    ) -> httpx.Response:
        """Send signed bytes, to the service or, by another client, to another URL."""
        now = str(int(time.time()))
        digest = hmac.new(self._secret, now.encode() + b"." + body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-Webhook-Timestamp": now,
            "X-Webhook-Signature": f"sha256={digest}",
        }
        post = httpx.post if client is None else client.post
        return post(url or self._url, content=body, headers=headers)


def outcome(answer: httpx.Response) -> tuple[int, str | None]:
    """Status and error code of an answer."""
    if answer.is_success:
        return answer.status_code, None
    return answer.status_code, answer.json()["error"]["code"]


def events_of(stack: Stack, payment_id: str) -> list[dict[str, Any]]:
    """The envelopes of a payment's events, in the order they were written."""
    with psycopg.connect(stack.database("payments")) as db:
        rows = db.execute(
            "SELECT envelope FROM outbox WHERE envelope->'data'->>'paymentId' = %s ORDER BY seq",
            [payment_id],
        ).fetchall()
    return [envelope for (envelope,) in rows]


def publish(stack: Stack, event: Event) -> None:
    """Send an event to the broker as its publisher would; returns when the broker has it."""
    granted = stack.target["access"]["amqp"]
    connection = pika.BlockingConnection(pika.URLParameters(granted["url"]))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(granted["exchange"], event.routing_key, event.encode())
    finally:
        connection.close()
