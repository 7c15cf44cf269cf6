"""Speaks to the running platform as auth's contract tests do."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import httpx

from system.conftest import RunningStack

PASSWORD = "Correct horse 1!"


class Client:
    """Speaks to service ports from an address without limits."""

    def __init__(self, stack: RunningStack) -> None:
        self.stack = stack
        transport = httpx.AsyncHTTPTransport(local_address=stack.exempt)
        self.http = httpx.AsyncClient(transport=transport, timeout=10)

    async def send(
        self, service: str, method: str, path: str, token: str | None = None, **options: Any
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        headers.update(options.pop("headers", {}))
        url = self.stack.services[service] + path
        return await self.http.request(method, url, headers=headers, **options)

    async def auth(self, path: str, body: dict[str, Any], token: str | None = None) -> Any:
        """Post to auth-service; give `data`, or the code of the refusal."""
        answer = await self.send("auth", "POST", path, token, json=body)
        content = answer.json()
        return content["data"] if answer.is_success else content["error"]["code"]

    async def register(self) -> dict[str, Any]:
        email = f"{uuid.uuid4()}@x.test"
        session: dict[str, Any] = await self.auth(
            "/auth/register", {"email": email, "password": PASSWORD, "name": "C"}
        )
        return session

    async def login(self, email: str, password: str = PASSWORD) -> Any:
        return await self.auth("/auth/login", {"email": email, "password": password})

    async def refresh(self, token: str) -> Any:
        return await self.auth("/auth/refresh", {"refreshToken": token})

    async def code(self, service: str, path: str, token: str) -> str:
        """Get a protected path; give the code of the refusal, or "open"."""
        answer = await self.send(service, "GET", path, token)
        return "open" if answer.is_success else str(answer.json()["error"]["code"])

    async def internal(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> httpx.Response:
        """Ask auth-service's internal API; header names with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["X-Internal-Token"] = self.stack.target["access"]["internal"]["token"]
        return await self.send("auth", method, f"/internal{path}", json=body, headers=named)


def claims_of(token: str) -> dict[str, Any]:
    """What a token claims, whoever signed it."""
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims
