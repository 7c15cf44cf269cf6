"""Callers of the running payments-service: people logged in, and the payment provider."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

import httpx


class Stack(Protocol):
    """What these tests use of the fixture `stack`."""

    target: dict[str, Any]
    services: dict[str, str]

    def account(self, role: str) -> dict[str, str]: ...
    def control(self, part: str, action: str) -> None: ...
    def database(self, service: str) -> str: ...


class User:
    """Somebody logged in, with calls to payments-service."""

    def __init__(self, stack: Stack, credentials: dict[str, str]) -> None:
        self._http = httpx.Client(base_url=stack.services["payments"], timeout=10)
        answer = httpx.post(f"{stack.services['auth']}/auth/login", json=credentials, timeout=10)
        assert answer.status_code == 200, answer.text
        data = answer.json()["data"]
        self.id: str = data["user"]["id"]
        self.email: str = data["user"]["email"]
        self._http.headers["Authorization"] = f"Bearer {data['accessToken']}"

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
