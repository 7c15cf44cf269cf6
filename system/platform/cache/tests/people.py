"""People at the edge, the payment provider and Redis, as the cache's contract tests see them."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest
from redis import Redis

PASSWORD = "Harbour-Light-42"


class Person:
    """Somebody with a session, at the edge."""

    def __init__(self, stack: Any, email: str, password: str) -> None:
        self.http = httpx.Client(
            base_url=stack.origin,
            transport=httpx.HTTPTransport(verify=stack.trust, local_address=stack.exempt),
            timeout=20,
        )
        answer = self.http.post("/api/auth/login", json={"email": email, "password": password})
        assert answer.status_code == 200, answer.text
        data = answer.json()["data"]
        self.id: str = data["user"]["id"]
        self.email = email
        self.refresh_token: str = data["refreshToken"]
        self.http.headers["Authorization"] = f"Bearer {data['accessToken']}"

    def get(self, path: str, *, fresh: bool = False) -> httpx.Response:
        """Read, from the database if `fresh`."""
        return self.http.get(path, headers={"Cache-Control": "no-cache"} if fresh else {})

    def outcome(self, path: str) -> str:
        """What X-Cache says of a successful read."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.headers["X-Cache"]

    def warm(self, path: str, seconds: float = 15.0) -> httpx.Response:
        """Read until it is a HIT: events of what was done before may still void an entry."""
        give_up = time.monotonic() + seconds
        while (answer := self.get(path)).headers.get("X-Cache") != "HIT":
            assert time.monotonic() < give_up, f"{path} is never a HIT: {answer.text}"
            time.sleep(0.1)
        return answer

    def pay(self, to: Person, **changes: Any) -> str:
        """The id of a payment just made."""
        body = {
            "type": "instant",
            "amount": "10.00",
            "currency": "USD",
            "description": "Lunch",
            "recipientId": to.id,
            **changes,
        }
        answer = self.http.post("/api/payments", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["data"]["id"])

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of an operation that succeeds."""
        answer = self.http.post("/graphql", json={"query": query, "variables": variables})
        body = answer.json()
        assert "errors" not in body, body
        data: dict[str, Any] = body["data"]
        return data


class People:
    """Makes people and closes their connections."""

    def __init__(self, stack: Any) -> None:
        self._stack = stack
        self._all: list[Person] = []

    def newcomer(self) -> Person:
        """Somebody who registers now."""
        email = f"{uuid.uuid4()}@x.test"
        with httpx.Client(
            transport=httpx.HTTPTransport(
                verify=self._stack.trust, local_address=self._stack.exempt
            ),
            timeout=20,
        ) as http:
            answer = http.post(
                f"{self._stack.origin}/api/auth/register",
                json={"email": email, "password": PASSWORD, "name": "Newcomer"},
            )
            assert answer.status_code == 201, answer.text
        self._arrived(answer.json()["data"]["user"]["id"])
        return self._kept(Person(self._stack, email, PASSWORD))

    def _arrived(self, user_id: str) -> None:
        """Wait for the event at payments-service, which voids what it knows of the user."""
        with psycopg.connect(self._stack.database("auth")) as db:
            row = db.execute(
                "SELECT event_id FROM outbox WHERE event_type = 'user.created' "
                "AND envelope->'data'->>'userId' = %s",
                [user_id],
            ).fetchone()
        assert row is not None
        with psycopg.connect(self._stack.database("payments"), autocommit=True) as db:
            seen = "SELECT 1 FROM inbox WHERE event_id = %s"
            until(lambda: db.execute(seen, row).fetchone() is not None, "the newcomer's event")

    def member(self, role: str) -> Person:
        """The seeded ``admin``, ``customer`` or ``vendor``."""
        account = self._stack.account(role)
        return self._kept(Person(self._stack, account["email"], account["password"]))

    def close(self) -> None:
        """Close everybody's connections."""
        for person in self._all:
            person.http.close()

    def _kept(self, person: Person) -> Person:
        self._all.append(person)
        return person


def webhook(stack: Any, person: Person, payment_id: str, status: str) -> httpx.Response:
    """What the payment provider says through the edge, signed (R1.121)."""
    body = json.dumps({"paymentId": payment_id, "status": status}).encode()
    now = str(int(time.time()))
    secret = stack.target["access"]["webhooks"]["secret"].encode()
    digest = hmac.new(secret, now.encode() + b"." + body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "X-Webhook-Timestamp": now,
        "X-Webhook-Signature": f"sha256={digest}",
    }
    return person.http.post("/api/webhooks/payments", content=body, headers=headers)


def redis_of(stack: Any) -> Redis:
    """A client of the platform's Redis."""
    return Redis.from_url(stack.target["access"]["redis"]["url"], socket_timeout=10)


def until(condition: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    """Ask again until it is so."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)
