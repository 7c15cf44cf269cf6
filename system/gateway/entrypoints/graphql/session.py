"""What one GraphQL request knows and has loaded: the caller, the services' answers (R10.9)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
from strawberry.dataloader import DataLoader

from system.gateway.domain.routes import Access, RouteTable, Service
from system.gateway.ports import Rest
from system.gateway.service.admission import AdmissionService
from system.platform.http import errors
from system.platform.http.errors import ApiError
from system.platform.http.text_fields import Matching
from system.platform.http.validation import Schema

# Whatever is an id or a key fits; everything else cannot be part of a path (R1.50).
_NAME: Final = Matching(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}", "Invalid id")

# As many as payments-service takes.
_HISTORIES_AT_ONCE: Final = 100

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Session:
    """One request's way to the services.

    Args:
        rest: calls them.
        table: the public routes; a resolver names the REST route it stands for.
        admission: judges the caller as it does for that route.
        authorization: the request's `Authorization` headers.
        lines: headers of every call: who asks, from where, under which ids.
    """

    def __init__(
        self,
        rest: Rest,
        table: RouteTable,
        admission: AdmissionService,
        authorization: Sequence[str],
        lines: Sequence[bytes],
    ) -> None:
        self._rest = rest
        self._table = table
        self._admission = admission
        self._authorization = tuple(authorization)
        self._lines = tuple(lines)
        self._judged: dict[Access, asyncio.Task[None]] = {}
        self._loaded: dict[str, asyncio.Task[Any]] = {}
        self._histories: DataLoader[str, Any] = DataLoader(
            self._load_histories, max_batch_size=_HISTORIES_AT_ONCE
        )

    async def authorise(self, access: Access) -> None:
        """Let the caller through, judged once (R1.28, R1.29).

        Raises:
            ApiError: 401, 403, 503.
        """
        task = self._judged.get(access)
        if task is None:
            task = self._judged[access] = asyncio.ensure_future(self._judge(access))
        await task

    async def _judge(self, access: Access) -> None:
        await self._admission.authorise(access, self._authorization)

    async def load(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """GET what a public path gives; the second time it is there already.

        Raises:
            ApiError: the service's refusal, or 502, 503, 504.
        """
        target = path + ("?" + urlencode(query) if query else "")
        task = self._loaded.get(target)
        if task is None:
            task = self._loaded[target] = asyncio.ensure_future(self._send("GET", target, None))
        return await task

    async def change(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a command; what was loaded before it may be no longer true.

        Raises:
            ApiError: as `load`.
        """
        answer = await self._send(method, path, _encode(body), headers)
        self._forget()
        return answer

    async def change_profile(self, body: Mapping[str, Any]) -> Any:
        """Change the caller's profile and preferences, all of it or nothing (R1.146, R1.148).

        Raises:
            ApiError: as `load`.
        """
        answer = await self._ask(
            Service.PROFILE, "PUT", "/internal/profile", _encode(body), internal=True
        )
        self._forget()
        return answer

    async def load_history(self, payment_id: str) -> Any:
        """The `transactions` of a payment; those asked for at one time come in one call (R10.9).

        Raises:
            ApiError: as `load`.
        """
        whole = self._loaded.get(f"/api/payments/{payment_id}")
        if whole is not None:
            return (await whole)["transactions"]
        return await self._histories.load(payment_id)

    async def _load_histories(self, payment_ids: Sequence[str]) -> list[Any]:
        target = "/internal/payments/transactions?ids=" + ",".join(payment_ids)
        task = self._loaded[target] = asyncio.ensure_future(
            self._ask(Service.PAYMENTS, "GET", target, None, internal=True)
        )
        found = await task
        # One that the caller may no longer see: it changed hands after it was listed.
        return [found.get(payment_id, errors.forbidden()) for payment_id in payment_ids]

    def _forget(self) -> None:
        self._loaded.clear()
        self._histories.clear_all()

    async def load_as(self, access_token: str, path: str) -> Any:
        """GET as the holder of a new token (R10.2: `refreshToken` gives the user too)."""
        return await self._send("GET", path, None, {"Authorization": f"Bearer {access_token}"})

    async def close(self) -> None:
        """End what nobody waits for any more."""
        tasks = [*self._judged.values(), *self._loaded.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(
        self,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        path, mark, query = target.partition("?")
        route = self._table.find(method, path)
        if route is None:
            raise errors.not_found(method, path)
        target = quote(route.service_path(path)) + mark + query
        return await self._ask(route.service, method, target, body, headers)

    async def _ask(
        self,
        service: Service,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str] | None = None,
        *,
        internal: bool = False,
    ) -> Any:
        given = dict(headers or {})
        lines = list(self._lines)
        if "Authorization" not in given:
            lines += (
                b"Authorization: " + value.encode("utf-8", "surrogateescape")
                for value in self._authorization
            )
        lines += (f"{name}: {value}".encode("latin-1") for name, value in given.items())
        answer = await self._rest.send(service, method, target, lines, body, internal=internal)
        return _data(answer.status, answer.body, answer.retry_after)


def name(value: str, argument: str = "id") -> str:
    """Check an id or key that becomes part of a path.

    Raises:
        ApiError: 400 VALIDATION_ERROR, as the REST route would say.
    """
    Schema({argument: _NAME}).parse({argument: value})
    return value


def header(value: str, argument: str) -> str:
    """Check a text that becomes a header.

    Raises:
        ApiError: 400 VALIDATION_ERROR.
    """
    printable = Matching(r"[\x20-\x7e]{1,255}", "Expected 1 to 255 printable ASCII characters")
    Schema({argument: printable}).parse({argument: value})
    return value


def _data(status: int, body: bytes, retry_after: str | None) -> Any:
    """The `data` of an envelope, or its error (R1.1, R1.2)."""
    if status == 204:
        return None
    try:
        envelope = _decode(body)
        if status < 400:
            return envelope["data"]
        error = envelope["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError) as fault:
        raise errors.bad_gateway() from fault
    raise ApiError(
        status,
        code,
        message,
        error.get("details"),
        {} if retry_after is None else {"Retry-After": retry_after},
    )
