"""Asks auth-service about users the copy lacks (R1.112, R1.153)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Final

import aiohttp
import msgspec

from system.payments.domain import Person
from system.payments.ports import DirectoryUnavailable
from system.platform.http import client
from system.platform.observability.correlation import onward

TIMEOUT_S: Final = 1.5


class _User(msgspec.Struct):
    id: str
    email: str
    name: str
    status: str
    version: int = 0


class _Envelope(msgspec.Struct):
    data: _User


class AuthDirectory:
    """`Directory` on the internal API of auth-service.

    Args:
        urls: its instances; another is tried only when one refuses the connection (R0.13).
        internal_token: value of X-Internal-Token.
    """

    def __init__(self, urls: Sequence[str], internal_token: str) -> None:
        self._urls = tuple(url.rstrip("/") for url in urls)
        self._turn = itertools.count()
        self._internal_token = internal_token
        self._http: aiohttp.ClientSession | None = None

    async def find(self, user_id: str) -> Person | None:
        """See `Directory.find`."""
        return await self._ask(f"/internal/users/{user_id}", {})

    async def find_by_email(self, email: str) -> Person | None:
        """See `Directory.find_by_email`."""
        return await self._ask("/internal/users/by-email", {"email": email})

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()

    async def _ask(self, path: str, parameters: Mapping[str, str]) -> Person | None:
        if self._http is None:
            self._http = client.session(TIMEOUT_S)
        headers = {
            "X-Internal-Token": self._internal_token,
            **onward(),
        }
        first = next(self._turn) % len(self._urls)
        for url in self._urls[first:] + self._urls[:first]:
            try:
                async with self._http.get(
                    url + path, params=parameters, headers=headers
                ) as response:
                    status, body = response.status, await response.read()
            except aiohttp.ClientConnectorError:
                continue
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise DirectoryUnavailable(type(error).__name__) from error
            return _read(status, body)
        raise DirectoryUnavailable("no instance accepted a connection")


def _read(status: int, body: bytes) -> Person | None:
    # Only auth-service's own "no such user" counts, not a 404 of whatever else answers there.
    if status == 404 and b'"USER_NOT_FOUND"' in body:
        return None
    if status != 200:
        raise DirectoryUnavailable(f"seen status {status}, expected 200 or 404 USER_NOT_FOUND")
    try:
        user = msgspec.json.decode(body, type=_Envelope).data
    except msgspec.MsgspecError as error:
        raise DirectoryUnavailable(f"the answer cannot be read: {error}") from error
    return Person(user.id, user.email, user.name, user.status, user.version)
