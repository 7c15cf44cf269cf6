"""Commands and asks auth-service, which owns the users (R1.133, 1.14)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import aiohttp
import msgspec

from system.admin.domain.users import Role, User
from system.admin.ports import Actor
from system.platform.http import client, errors
from system.platform.http.errors import CODES, ApiError
from system.platform.observability.correlation import current

# Below the shortest upstream time-out in use (3 s, R0.16), so that an auth-service that hangs is a
# 503 of this service and not a 504 of the gateway.
TIMEOUT_S: Final = 2.5
PAGE: Final = 1000
# Its refusals that are the caller's business; all others mean that it cannot do its work.
_PASSED_ON: Final = frozenset({400, 403, 404, 409})


class _User(msgspec.Struct, rename="camel"):
    id: str
    email: str
    name: str
    role: str
    status: str
    email_verified: bool
    version: int
    created_at: datetime
    updated_at: datetime

    def user(self) -> User:
        return User(*msgspec.structs.astuple(self))


class _One(msgspec.Struct):
    data: _User


class _Many(msgspec.Struct):
    data: list[_User]


_Kind = TypeVar("_Kind")


class _Error(msgspec.Struct):
    code: str
    message: str
    details: Any = None


class _Refusal(msgspec.Struct):
    error: _Error


class AuthService:
    """`ports.Accounts` on the internal API of auth-service.

    Args:
        urls: its instances; another is tried only when one refuses the connection (R0.13), so no
            command is given twice.
        internal_token: value of X-Internal-Token.
    """

    def __init__(self, urls: Sequence[str], internal_token: str) -> None:
        self._urls = tuple(url.rstrip("/") for url in urls)
        self._turn = itertools.count()
        self._internal_token = internal_token
        self._http: aiohttp.ClientSession | None = None

    async def create(
        self, actor: Actor, *, email: str, password: str, name: str, role: Role
    ) -> User:
        """See `Accounts.create`."""
        body = {"email": email, "password": password, "name": name, "role": role.value}
        return _one(await self._send("POST", "/internal/users", actor, body))

    async def change(self, actor: Actor, user_id: str, changes: Mapping[str, str]) -> User:
        """See `Accounts.change`."""
        return _one(await self._send("PATCH", f"/internal/users/{user_id}", actor, dict(changes)))

    async def set_role(self, actor: Actor, user_id: str, role: Role) -> User:
        """See `Accounts.set_role`."""
        path = f"/internal/users/{user_id}/role"
        return _one(await self._send("PUT", path, actor, {"role": role.value}))

    async def set_active(
        self, actor: Actor, user_id: str, active: bool, reason: str | None
    ) -> User:
        """See `Accounts.set_active`."""
        body: dict[str, Any] = {"isActive": active}
        if reason is not None:
            body["reason"] = reason
        return _one(await self._send("PUT", f"/internal/users/{user_id}/status", actor, body))

    async def delete(self, actor: Actor, user_id: str) -> None:
        """See `Accounts.delete`."""
        await self._send("DELETE", f"/internal/users/{user_id}", actor)

    async def page(self, after: str | None) -> Sequence[User]:
        """See `Accounts.page`."""
        parameters = {"limit": str(PAGE)}
        if after is not None:
            parameters["after"] = after
        body = await self._send("GET", "/internal/users", parameters=parameters)
        return [entry.user() for entry in _read(body, _Many).data]

    async def find(self, user_id: str) -> User | None:
        """See `Accounts.find`."""
        try:
            return _one(await self._send("GET", f"/internal/users/{user_id}"))
        except ApiError as refused:
            if refused.code == "USER_NOT_FOUND":
                return None
            raise

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()

    async def _send(
        self,
        method: str,
        path: str,
        actor: Actor | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        parameters: Mapping[str, str] | None = None,
    ) -> bytes:
        if self._http is None:
            self._http = client.session(TIMEOUT_S)
        headers = self._headers(actor)
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = msgspec.json.encode(body)
        first = next(self._turn) % len(self._urls)
        for url in self._urls[first:] + self._urls[:first]:
            try:
                async with self._http.request(
                    method, url + path, params=parameters, headers=headers, data=data
                ) as response:
                    status, answer = response.status, await response.read()
            except aiohttp.ClientConnectorError:
                continue
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise errors.service_unavailable() from error
            if 200 <= status < 300:
                return answer
            raise _refusal(status, answer)
        raise errors.service_unavailable()

    def _headers(self, actor: Actor | None) -> dict[str, str]:
        context = current()
        headers = {
            "X-Internal-Token": self._internal_token,
            "X-Correlation-ID": context.correlation_id,
        }
        if context.traceparent:
            headers["traceparent"] = context.traceparent
        if actor is not None:
            headers["X-Actor-Id"] = actor.id
            if actor.address:
                headers["X-Actor-IP"] = actor.address
            if actor.user_agent:
                # Headers are read as Latin-1 and written as UTF-8 here; the bytes stay the same.
                sent = actor.user_agent.encode("latin-1", "replace")
                headers["X-Actor-User-Agent"] = sent.decode("utf-8", "replace")
        return headers


def _one(body: bytes) -> User:
    return _read(body, _One).data.user()


def _read(body: bytes, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise errors.service_unavailable() from error


def _refusal(status: int, body: bytes) -> ApiError:
    """Pass on what auth-service refuses; a 404 of whatever else answers there is no refusal."""
    if status in _PASSED_ON:
        try:
            error = msgspec.json.decode(body, type=_Refusal).error
        except msgspec.MsgspecError:
            return errors.service_unavailable()
        if error.code in CODES[status] and error.code not in ("NOT_FOUND", "FORBIDDEN"):
            return ApiError(status, error.code, error.message, error.details)
    return errors.service_unavailable()
