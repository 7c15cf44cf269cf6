"""Keeps the keys of a process the same as auth-service's while it runs (R1.30).

A process looks for new keys once a second, which is how it knows a key before the first token is
signed with it.  A token that names a key nobody here knows makes it look at once, yet at most once
a second, and the token is judged by what was seen.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from system.platform.http import client, errors
from system.platform.security.tokens import (
    Claims,
    KeyRing,
    SigningKey,
    TokenType,
    names_unknown_key,
    verify,
)

if TYPE_CHECKING:
    from system.platform.config.settings import Settings

# Between two looks, whether by the clock or for an unknown kid.
LOOK_EVERY_S: Final = 1.0
# How long a key has to be known before it may sign: a look by the clock, and some delay.
PROPAGATION_S: Final = LOOK_EVERY_S + 0.4
_TIMEOUT_S: Final = 1.5
_log = logging.getLogger(__name__)

Keys = Mapping[TokenType, Sequence[SigningKey]]
Fetch = Callable[[], Awaitable[Keys]]


class KeysUnavailable(Exception):
    """The keys in force could not be read."""


class FreshKeys:
    """Brings a ring up to date, by the clock and when a token names an unknown key.

    Args:
        ring: whose keys are replaced.
        fetch: reads the keys in force; raises `KeysUnavailable`.
        release: gives back what `fetch` holds, at the end.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        ring: KeyRing,
        fetch: Fetch,
        *,
        release: Callable[[], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ring = ring
        self._fetch = fetch
        self._release = release
        self._clock = clock
        self._looked_at = float("-inf")
        self._next: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look for new keys until `close`; returns at once, whoever is away (R0.10)."""
        self._watching = asyncio.create_task(self._watch(), name="signing keys")

    async def close(self) -> None:
        """Stop looking."""
        tasks = [task for task in (self._watching, self._next) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._release is not None:
            await self._release()

    async def verify(self, token: str, kind: TokenType = TokenType.ACCESS) -> Claims:
        """Judge a token as `tokens.verify` does, after a look if its key is unknown.

        Raises:
            ApiError: see `tokens.verify`; 503 SERVICE_UNAVAILABLE if its key is unknown and the
                keys in force cannot be read.
        """
        try:
            return verify(token, self.ring, kind)
        except errors.ApiError:
            if not names_unknown_key(token, self.ring, kind):
                raise
        await self._look_once()
        return verify(token, self.ring, kind)

    async def look(self) -> None:
        """Read the keys in force and put them into the ring.

        Raises:
            KeysUnavailable: they could not be read; the ring stays as it was.
        """
        keys = await self._fetch()
        for kind, found in keys.items():
            # Replacing makes the ring judge every token anew, so only for a reason.
            if tuple(found) != self.ring.keys(kind):
                self.ring.replace(kind, found)

    async def _look_once(self) -> None:
        """Return after a look that began after this call; simultaneous callers share it."""
        if self._next is None:
            self._next = asyncio.create_task(self._look_in_time())
        try:
            # Shielded: one client that goes away must not take the answer from the others.
            await asyncio.shield(self._next)
        except KeysUnavailable as error:
            raise errors.service_unavailable() from error

    async def _look_in_time(self) -> None:
        wait = self._looked_at + LOOK_EVERY_S - self._clock()
        if wait > 0:
            await asyncio.sleep(wait)
        # Whoever comes from here on needs the next look.
        self._looked_at, self._next = self._clock(), None
        await self.look()

    async def _watch(self) -> None:
        reachable = True
        while True:
            try:
                await self.look()
                reachable = True
            except Exception as error:
                # Whatever it was, the next look may succeed; nobody else would look again.
                if reachable:
                    reason = error if isinstance(error, KeysUnavailable) else type(error).__name__
                    _log.warning("signing keys: %s; going on with those known", reason)
                reachable = False
            await asyncio.sleep(LOOK_EVERY_S)


class _Key(msgspec.Struct, rename="camel"):
    kid: str
    secret: str
    is_active: bool
    can_verify: bool
    created_at: datetime | None = None
    expires_at: datetime | None = None


class _Access(msgspec.Struct):
    access: list[_Key]


class _Envelope(msgspec.Struct):
    data: _Access


class _InternalKeys:
    """Asks auth-service for the keys that verify access tokens."""

    def __init__(self, urls: Sequence[str], internal_token: str) -> None:
        self._urls = tuple(url.rstrip("/") for url in urls)
        self._turn = itertools.count()
        self._headers = {"X-Internal-Token": internal_token}
        self._http: aiohttp.ClientSession | None = None

    async def fetch(self) -> Keys:
        if self._http is None:
            self._http = client.session(_TIMEOUT_S, self._headers)
        first = next(self._turn) % max(1, len(self._urls))
        for url in self._urls[first:] + self._urls[:first]:
            try:
                async with self._http.get(f"{url}/internal/keys") as answer:
                    status, body = answer.status, await answer.read()
            except aiohttp.ClientConnectorError:
                continue
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise KeysUnavailable(type(error).__name__) from error
            return read_keys(status, body)
        raise KeysUnavailable("no instance of auth-service accepted a connection")

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()


def read_keys(status: int, body: bytes) -> Keys:
    """Read the answer of `GET /internal/keys`.

    Raises:
        KeysUnavailable: it is not one, or names no key at all.
    """
    if status != 200:
        raise KeysUnavailable(f"seen status {status}, expected 200")
    try:
        found = msgspec.json.decode(body, type=_Envelope).data.access
    except msgspec.MsgspecError as error:
        raise KeysUnavailable("the answer cannot be read") from error
    if not found:
        # An empty ring would refuse everybody; auth-service always has a key.
        raise KeysUnavailable("the answer names no key")
    return {
        TokenType.ACCESS: tuple(
            SigningKey(
                kid=key.kid,
                secret=key.secret.encode(),
                is_active=key.is_active,
                can_verify=key.can_verify,
                created_at=key.created_at,
                expires_at=key.expires_at,
            )
            for key in found
        )
    }


def keys_of_auth_service(settings: Settings) -> FreshKeys:
    """Make the ring of the environment's keys, and keep it like auth-service's."""
    source = _InternalKeys(settings.auth_service_urls, settings.internal_service_token)
    return FreshKeys(KeyRing.from_settings(settings), source.fetch, release=source.close)
