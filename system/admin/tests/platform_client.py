"""Somebody who is signed in, speaking to the running gateway from an address without limits."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import httpx
import psycopg

PASSWORD = "Newcomer-Pass-123!"


class Stack(Protocol):
    """What these tests use of the fixture `stack`."""

    target: dict[str, Any]
    services: dict[str, str]
    exempt: str

    def account(self, role: str) -> dict[str, str]: ...
    def control(self, part: str, action: str) -> None: ...
    def database(self, service: str) -> str: ...
    def until_ready(self, seconds: float = 30.0) -> None: ...


class Person:
    """A user of the platform.

    Attributes:
        id: of the account.
        refresh_token: of the session.
    """

    def __init__(self, stack: Stack, email: str, password: str) -> None:
        self.stack = stack
        self.http = client(stack)
        data = self.good("POST", "/api/auth/login", {"email": email, "password": password})
        self.email = email
        self.id: str = data["user"]["id"]
        self.token: str = data["accessToken"]
        self.refresh_token: str = data["refreshToken"]
        self.http.headers["Authorization"] = f"Bearer {self.token}"

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        **headers: str,
    ) -> httpx.Response:
        return self.http.request(method, path, json=body, params=query, headers=headers)

    def good(self, method: str, path: str, body: Any = None, **named: Any) -> Any:
        """Ask; give `data` of an answer that must be a success."""
        answer = self.ask(method, path, body, **named)
        assert answer.is_success, answer.text
        return answer.json()["data"] if answer.content else None

    def code(self, method: str, path: str, body: Any = None, **named: Any) -> tuple[int, str]:
        """Ask; give status and code of an answer that must be a refusal."""
        answer = self.ask(method, path, body, **named)
        assert not answer.is_success, answer.text
        return answer.status_code, answer.json()["error"]["code"]

    def close(self) -> None:
        self.http.close()


def client(stack: Stack) -> httpx.Client:
    """Return a client of the gateway whom no limit counts."""
    transport = httpx.HTTPTransport(local_address=stack.exempt)
    return httpx.Client(base_url=stack.services["gateway"], transport=transport, timeout=10)


def register(stack: Stack, name: str = "New") -> Person:
    """Register somebody new and sign in."""
    email = f"{uuid.uuid4()}@x.test"
    with client(stack) as http:
        body = {"email": email, "password": PASSWORD, "name": name}
        assert http.post("/api/auth/register", json=body).status_code == 201
    return Person(stack, email, PASSWORD)


def sign_in(stack: Stack, role: str) -> Person:
    """Sign a seeded account in."""
    account = stack.account(role)
    return Person(stack, account["email"], account["password"])


def rows(stack: Stack, service: str, sql: str, *values: Any) -> list[Any]:
    """Ask a service's database."""
    with psycopg.connect(stack.database(service)) as db:
        return db.execute(sql, values).fetchall()


def until(condition: Callable[[], Any], seconds: float = 5.0) -> Any:
    """Wait until something is there; return it."""
    give_up = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < give_up, f"not within {seconds} s"
        time.sleep(0.05)
    return found
