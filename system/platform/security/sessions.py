"""Tells whether the session of a verified token is still open, with Redis up, down or stale.

The truth lies in auth_db (R1.38).  auth-service mirrors it in Redis, so that a request costs one
Redis round trip and auth-service may be down:

    session:state:<sid>   "revoked"        final; kept longer than any access token lives
                          "open <epoch>"   trusted only while <epoch> is the current one
    session:epoch         a random word; auth-service draws a new one whenever a write to the
                          mirror may have been missed, which makes all "open" entries worthless
                          at once (R1.39)

A verifier that finds no trusted entry, or no Redis, asks auth-service; without either it answers
503.  After a failure of Redis it asks auth-service first for a while, so that old contents with
which Redis may return are not believed before auth-service has drawn the new epoch.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, Protocol, TypeVar

import aiohttp
import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from system.platform.http import client, errors
from system.platform.observability import correlation
from system.platform.redis_connection import NotAsked
from system.platform.security.tokens import Claims

EPOCH_KEY: Final = "session:epoch"
REVOKED: Final = "revoked"
# R1.38 allows 500 ms; the rest is left to clocks and event loops that lag.
POSITIVE_TTL_S: Final = 0.4
# How long after failures Redis is not asked at all: a hanging one costs its timeout each time.
REDIS_PAUSE_S: Final = 1.0
# How long after its return auth-service is asked first (R1.39 allows 5 s to forget old contents).
DISTRUST_S: Final = 5.0
AUTH_TIMEOUT_S: Final = 2.0
_ENTRIES: Final = 50_000
_FAILURES_TO_PAUSE: Final = 2

T = TypeVar("T")


def state_key(session_id: str) -> str:
    """Name of a session's entry in the mirror."""
    return f"session:state:{session_id}"


def open_value(epoch: str) -> str:
    """Contents of an entry that says "open as of this epoch"."""
    return f"open {epoch}"


class SessionCheck(Protocol):
    """Anything that can say whether a session is open."""

    async def ensure_open(self, claims: Claims) -> None:
        """Return if the session of the claims is open.

        Raises:
            ApiError: 401 TOKEN_REVOKED if it is revoked, expired or unknown or its user gone;
                503 SERVICE_UNAVAILABLE if this cannot be found out.
        """

    async def close(self) -> None:
        """Release connections."""


class SessionState(Enum):
    """What a source knows about a session."""

    OPEN = "open"
    CLOSED = "closed"  # revoked, unknown, or its user gone
    UNTOLD = "untold"  # this source cannot say


class SessionAnswer(msgspec.Struct, rename="camel"):
    """Data of `GET /internal/sessions/:sid` for an existing session."""

    id: str
    user_id: str
    open: bool


class _Envelope(msgspec.Struct):
    data: SessionAnswer


class _Mirror:
    """The mirror as a verifier sees it, left alone for a while after failures."""

    def __init__(self, redis: Redis, clock: Callable[[], float]) -> None:
        self._redis = redis
        self._clock = clock
        self._failures = 0
        self._paused_until = 0.0
        self._distrusted_until = 0.0

    @property
    def distrusted(self) -> bool:
        """Whether Redis failed so lately that its contents may be old."""
        return self._clock() < self._distrusted_until

    async def look(self, session_id: str) -> SessionState:
        if self._clock() < self._paused_until:
            return SessionState.UNTOLD
        try:
            epoch, state = await self._redis.mget(EPOCH_KEY, state_key(session_id))
        except NotAsked:
            return SessionState.UNTOLD
        except (RedisError, OSError, TimeoutError):
            self._failed()
            return SessionState.UNTOLD
        self._failures = 0
        if _text(state) == REVOKED:
            return SessionState.CLOSED
        if epoch is not None and _text(state) == open_value(_text(epoch)):
            return SessionState.OPEN
        return SessionState.UNTOLD

    def _failed(self) -> None:
        self._failures += 1
        # One late answer can be the fault of this process, when the machine is busy.
        if self._failures >= _FAILURES_TO_PAUSE:
            now = self._clock()
            self._paused_until = now + REDIS_PAUSE_S
            self._distrusted_until = now + REDIS_PAUSE_S + DISTRUST_S


class SessionVerifier:
    """Judges sessions by memory, then Redis, then auth-service (R1.38, R1.39).

    Args:
        redis: client with short timeouts and no retries.
        auth_urls: base addresses of auth-service; another is tried only if one refuses (R0.13).
        internal_token: value of X-Internal-Token.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        redis: Redis,
        auth_urls: Sequence[str],
        internal_token: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mirror = _Mirror(redis, clock)
        self._auth_urls = tuple(url.rstrip("/") for url in auth_urls)
        self._next_url = itertools.cycle(range(max(1, len(self._auth_urls))))
        self._internal_token = internal_token
        self._clock = clock
        self._http: aiohttp.ClientSession | None = None
        self._open_until: dict[str, float] = {}
        self._closed: dict[str, None] = {}
        self._looking: dict[str, asyncio.Task[SessionState]] = {}

    async def ensure_open(self, claims: Claims) -> None:
        """See `SessionCheck.ensure_open`; an "open" is remembered for at most 400 ms."""
        session_id = claims.session_id
        if self._open_until.get(session_id, 0.0) > self._clock():
            return
        if session_id in self._closed:
            raise errors.token_revoked()
        state = await self._look_once(session_id)
        if state is SessionState.CLOSED:
            raise errors.token_revoked()
        if state is SessionState.UNTOLD:
            raise errors.service_unavailable()

    def forget(self, session_id: str) -> None:
        """Drop what is remembered of a session, for a caller that knows it was just revoked."""
        self._open_until.pop(session_id, None)

    async def close(self) -> None:
        """Close the connections to auth-service; the Redis client belongs to the caller."""
        for task in list(self._looking.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._http is not None:
            await self._http.close()

    async def _look_once(self, session_id: str) -> SessionState:
        """Let simultaneous questions about one session share one look-up."""
        task = self._looking.get(session_id)
        if task is None:
            task = asyncio.create_task(self._look(session_id))
            self._looking[session_id] = task
            task.add_done_callback(lambda _: self._looking.pop(session_id, None))
        # Shielded: one client that goes away must not take the answer from the others.
        return await asyncio.shield(task)

    async def _look(self, session_id: str) -> SessionState:
        started = self._clock()
        mirrored = await self._mirror.look(session_id)
        state = mirrored
        if mirrored is SessionState.UNTOLD or (
            mirrored is SessionState.OPEN and self._mirror.distrusted
        ):
            told = await self._ask_auth(session_id)
            if told is mirrored is SessionState.UNTOLD:
                # Redis may have been late just once, and has had time since.
                mirrored = await self._mirror.look(session_id)
            # With auth-service away too, a mirror that answers is the best there is.
            state = mirrored if told is SessionState.UNTOLD else told
        if state is SessionState.OPEN:
            # Counted from the start of the look-up: the state was read some time after it.
            _remember(self._open_until, session_id, started + POSITIVE_TTL_S)
        elif state is SessionState.CLOSED:
            self._open_until.pop(session_id, None)
            _remember(self._closed, session_id, None)  # a closed session never opens again
        return state

    async def _ask_auth(self, session_id: str) -> SessionState:
        if self._http is None:
            self._http = client.session(
                AUTH_TIMEOUT_S,
                {"X-Internal-Token": self._internal_token, **correlation.onward()},
            )
        first = next(self._next_url)
        for url in self._auth_urls[first:] + self._auth_urls[:first]:
            try:
                async with self._http.get(f"{url}/internal/sessions/{session_id}") as answer:
                    body = await answer.read()
            except aiohttp.ClientConnectorError:
                continue
            except (aiohttp.ClientError, TimeoutError, OSError):
                return SessionState.UNTOLD
            return judge_answer(answer.status, body)
        return SessionState.UNTOLD


def judge_answer(status: int, body: bytes) -> SessionState:
    """Read auth-service's answer about a session; anything unexpected tells nothing."""
    if status == 404:
        # Only auth-service's own "no such session" counts: a 404 of something else that happens
        # to listen there must not sign everybody out.
        return SessionState.CLOSED if b'"SESSION_NOT_FOUND"' in body else SessionState.UNTOLD
    if status != 200:
        return SessionState.UNTOLD
    try:
        answer = msgspec.json.decode(body, type=_Envelope).data
    except msgspec.MsgspecError:
        return SessionState.UNTOLD
    return SessionState.OPEN if answer.open else SessionState.CLOSED


def _remember(entries: dict[str, T], key: str, value: T) -> None:
    entries.pop(key, None)
    while len(entries) >= _ENTRIES:
        del entries[next(iter(entries))]
    entries[key] = value


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
