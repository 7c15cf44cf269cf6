"""A session's state is found by memory, Redis and auth-service, with each of them away or stale."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from aiohttp import web
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from system.platform.http.errors import ApiError
from system.platform.redis_connection import NotAsked
from system.platform.security.principal import (
    Authenticator,
    Principal,
    require_internal,
    require_role,
)
from system.platform.security.sessions import (
    EPOCH_KEY,
    REVOKED,
    SessionState,
    SessionVerifier,
    judge_answer,
    open_value,
    state_key,
)
from system.platform.security.tokens import (
    Claims,
    KeyRing,
    SigningKey,
    TokenType,
    issue_access,
)

SID = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
USER = "33333333-3333-4333-8333-333333333333"
TOKEN = "internal-token-of-the-tests"


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeRedis:
    """Answers `mget` from a dictionary, or fails."""

    entries: dict[str, bytes] = field(default_factory=dict)
    down: bool = False
    late: int = 0  # how many of the next answers do not come
    error: Exception = field(default_factory=lambda: RedisConnectionError("down"))
    asked: int = 0

    async def mget(self, *keys: str) -> list[bytes | None]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise self.error
        if self.late:
            self.late -= 1
            raise TimeoutError
        return [self.entries.get(key) for key in keys]


@dataclass
class FakeAuth:
    """Serves GET /internal/sessions/:sid."""

    url: str
    states: dict[str, bool] = field(default_factory=dict)
    asked: int = 0
    tokens: set[str | None] = field(default_factory=set)
    hold: asyncio.Event | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        self.reached.set()
        self.tokens.add(request.headers.get("X-Internal-Token"))
        if self.hold is not None:
            await self.hold.wait()
        sid = request.match_info["sid"]
        if sid not in self.states:
            error = {"code": "SESSION_NOT_FOUND", "message": "Session not found"}
            return web.json_response({"success": False, "error": error}, status=404)
        data = {"id": sid, "userId": USER, "open": self.states[sid], "expiresAt": "x"}
        return web.json_response({"success": True, "data": data})


def claims_of(sid: str = SID) -> Claims:
    return Claims(USER, "c@x.test", "C", "CUSTOMER", sid, "jti", TokenType.ACCESS, 0, 900)


@pytest.fixture
async def auth() -> AsyncIterator[FakeAuth]:
    fake = FakeAuth(url="")
    app = web.Application()
    app.router.add_get("/internal/sessions/{sid}", fake.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    fake.url = f"http://{host}:{port}"
    yield fake
    await runner.cleanup()


@dataclass
class Parts:
    """A verifier between its two sources."""

    clock: Clock
    redis: FakeRedis
    verifier: SessionVerifier

    async def verdict(self, sid: str = SID) -> str:
        try:
            await self.verifier.ensure_open(claims_of(sid))
        except ApiError as refusal:
            return refusal.code
        return "open"


@pytest.fixture
async def parts(auth: FakeAuth) -> AsyncIterator[Parts]:
    clock, redis = Clock(), FakeRedis()
    # The first address refuses: it stands for an instance that is not there (R0.13).
    urls = ("http://127.0.0.1:1", auth.url)
    verifier = SessionVerifier(cast("Redis", redis), urls, TOKEN, clock=clock)
    yield Parts(clock, redis, verifier)
    await verifier.close()


def mirror(parts: Parts, value: str, epoch: str = "e1", sid: str = SID) -> None:
    parts.redis.entries[EPOCH_KEY] = epoch.encode()
    parts.redis.entries[state_key(sid)] = value.encode()


async def test_mirrored_open_session_needs_no_auth_service(parts: Parts, auth: FakeAuth) -> None:
    """An entry of the current epoch is enough; auth-service may be down."""
    mirror(parts, open_value("e1"))

    assert await parts.verdict() == "open"
    assert auth.asked == 0


async def test_open_is_remembered_for_less_than_half_a_second(parts: Parts) -> None:
    """Within 400 ms Redis is not asked again; after 500 ms a revocation is seen (R1.38)."""
    mirror(parts, open_value("e1"))
    await parts.verdict()
    mirror(parts, REVOKED)

    parts.clock.now += 0.3
    assert await parts.verdict() == "open"
    assert parts.redis.asked == 1
    parts.clock.now += 0.2
    assert await parts.verdict() == "TOKEN_REVOKED"


async def test_revoked_is_remembered_for_good(parts: Parts) -> None:
    """A revoked session stays revoked even if the mirror forgets it."""
    mirror(parts, REVOKED)
    assert await parts.verdict() == "TOKEN_REVOKED"
    parts.redis.entries.clear()
    parts.clock.now += 3600

    assert await parts.verdict() == "TOKEN_REVOKED"
    assert parts.redis.asked == 1


@pytest.mark.parametrize(
    "entries",
    [
        {},
        {EPOCH_KEY: b"e2"},
        {EPOCH_KEY: b"e2", state_key(SID): b"open e1"},
        {state_key(SID): b"open e1"},
        {state_key(SID): b"open "},
        {EPOCH_KEY: b"e2", state_key(SID): b"something else"},
    ],
    ids=["empty", "no entry", "older epoch", "no epoch", "no epoch at all", "foreign value"],
)
@pytest.mark.parametrize(("told", "expected"), [(True, "open"), (False, "TOKEN_REVOKED")])
async def test_untrusted_mirror_leads_to_auth_service(
    parts: Parts, auth: FakeAuth, entries: dict[str, bytes], told: bool, expected: str
) -> None:
    """Without an entry of the current epoch auth-service decides (R1.39)."""
    parts.redis.entries = dict(entries)
    auth.states[SID] = told

    assert await parts.verdict() == expected
    assert auth.tokens == {TOKEN}


async def test_unknown_session_is_revoked(parts: Parts) -> None:
    """A session that auth-service does not know is TOKEN_REVOKED (R1.28)."""
    assert await parts.verdict(OTHER) == "TOKEN_REVOKED"


async def test_redis_down_leads_to_auth_service(parts: Parts, auth: FakeAuth) -> None:
    """With Redis down a revocation is in force through auth-service, and Redis is left alone."""
    parts.redis.down = True
    auth.states[SID] = True
    for _ in range(2):
        assert await parts.verdict() == "open"
        parts.clock.now += 0.45
    auth.states[SID] = False

    assert await parts.verdict() == "TOKEN_REVOKED"
    assert parts.redis.asked == 2, "a Redis that failed twice is not asked for a second"


async def test_returned_redis_is_not_believed_at_once(parts: Parts, auth: FakeAuth) -> None:
    """Redis back with old contents does not reopen a session revoked meanwhile (R1.39)."""
    mirror(parts, open_value("e1"))
    parts.redis.down = True
    auth.states[SID] = True
    for _ in range(2):
        assert await parts.verdict() == "open"
        parts.clock.now += 0.45
    auth.states[SID] = False
    parts.redis.down = False

    parts.clock.now += 1.5
    assert await parts.verdict() == "TOKEN_REVOKED"
    assert parts.redis.asked == 3


async def test_one_late_answer_does_not_turn_redis_off(parts: Parts, auth: FakeAuth) -> None:
    """A single failure costs one question to auth-service, then Redis is believed again."""
    mirror(parts, open_value("e1"))
    parts.redis.down = True
    auth.states[SID] = True
    await parts.verdict()
    parts.redis.down = False
    parts.clock.now += 0.45

    assert await parts.verdict() == "open"
    assert (parts.redis.asked, auth.asked) == (2, 1)


async def test_redis_that_is_not_asked_has_not_failed_again(parts: Parts, auth: FakeAuth) -> None:
    """Whoever shares a circuit sees one late answer as one, however often it refuses meanwhile."""
    mirror(parts, open_value("e1"))
    auth.states[SID] = True
    parts.redis.down = True
    await parts.verdict()
    parts.redis.error = NotAsked("a moment ago")
    for _ in range(3):
        parts.clock.now += 0.45
        assert await parts.verdict() == "open"
    parts.redis.down = False
    parts.clock.now += 0.45

    assert await parts.verdict() == "open"
    assert auth.asked == 4, "Redis was believed at once"


async def test_a_late_redis_is_asked_again_when_auth_service_cannot_tell(parts: Parts) -> None:
    """One late answer of Redis while auth-service is away is no 503."""
    mirror(parts, open_value("e1"))
    parts.verifier._auth_urls = ("http://127.0.0.1:1",)
    parts.redis.late = 1

    assert await parts.verdict() == "open"
    assert parts.redis.asked == 2


async def test_both_down_is_unavailable(parts: Parts, auth: FakeAuth) -> None:
    """Without Redis and auth-service nothing is let through: 503 (R1.38)."""
    parts.redis.down = True
    parts.verifier._auth_urls = ("http://127.0.0.1:1", "http://127.0.0.1:2")

    assert await parts.verdict() == "SERVICE_UNAVAILABLE"
    assert auth.asked == 0


async def test_simultaneous_questions_share_one_answer(parts: Parts, auth: FakeAuth) -> None:
    """Twenty requests of one session ask once, also when the first of them goes away."""
    auth.states[SID] = True
    auth.hold = asyncio.Event()
    first = asyncio.create_task(parts.verdict())
    others = [asyncio.create_task(parts.verdict()) for _ in range(20)]
    async with asyncio.timeout(5):
        await auth.reached.wait()
    first.cancel()
    auth.hold.set()

    assert set(await asyncio.gather(*others)) == {"open"}
    assert auth.asked == 1


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"data":{"id":"a","userId":"b","open":true}}', SessionState.OPEN),
        (200, b'{"data":{"id":"a","userId":"b","open":false}}', SessionState.CLOSED),
        (404, b'{"error":{"code":"SESSION_NOT_FOUND"}}', SessionState.CLOSED),
        (404, b'{"error":{"code":"NOT_FOUND"}}', SessionState.UNTOLD),
        (404, b"", SessionState.UNTOLD),
        (200, b"<html>", SessionState.UNTOLD),
        (200, b'{"data":{"id":"a","userId":"b","open":"yes"}}', SessionState.UNTOLD),
        (401, b'{"error":{"code":"UNAUTHORIZED"}}', SessionState.UNTOLD),
        (500, b"", SessionState.UNTOLD),
        (302, b"", SessionState.UNTOLD),
    ],
)
def test_answers_of_auth_service_are_judged(
    status: int, body: bytes, expected: SessionState
) -> None:
    """Only auth-service's own words open or close a session; anything else tells nothing."""
    assert judge_answer(status, body) is expected


class AllOpen:
    """A session check to which every session is open."""

    async def ensure_open(self, claims: Claims) -> None:
        pass

    async def close(self) -> None:
        pass


def ring() -> KeyRing:
    return KeyRing({TokenType.ACCESS: [SigningKey("k", b"k" * 40, is_active=True)]})


def token_of(keys: KeyRing, role: str = "CUSTOMER") -> str:
    return issue_access(
        keys,
        user_id=USER,
        email="c@x.test",
        name="C",
        role=role,
        session_id=SID,
        lifetime=900,
    )


async def header_verdict(header: str | None, keys: KeyRing) -> str | Principal:
    try:
        return await Authenticator(keys, AllOpen()).authenticate(header)
    except ApiError as refusal:
        return refusal.code


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "UNAUTHORIZED"),
        ("", "UNAUTHORIZED"),
        ("Basic dTpw", "UNAUTHORIZED"),
        ("Token {token}", "UNAUTHORIZED"),
        ("{token}", "UNAUTHORIZED"),
        ("Bearer{token}", "UNAUTHORIZED"),
        ("Bearer", "TOKEN_INVALID"),
        ("Bearer  ", "TOKEN_INVALID"),
        ("Bearer x", "TOKEN_INVALID"),
        ("Bearer {token} {token}", "TOKEN_INVALID"),
        ("Bearer {token},Bearer {token}", "TOKEN_INVALID"),
    ],
)
async def test_authorization_header_is_judged(header: str | None, code: str) -> None:
    """No bearer header is UNAUTHORIZED, a bad bearer token TOKEN_INVALID (R1.28)."""
    keys = ring()
    header = header.format(token=token_of(keys)) if header is not None else None

    assert await header_verdict(header, keys) == code


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_good_header_gives_the_principal(scheme: str) -> None:
    """The scheme's name is read in any case, and the principal is the token's user."""
    keys = ring()

    principal = await header_verdict(f"{scheme} {token_of(keys)}", keys)

    assert isinstance(principal, Principal)
    assert (principal.user_id, principal.session_id, principal.role) == (USER, SID, "CUSTOMER")
    require_role(principal, "ADMIN", "CUSTOMER")
    with pytest.raises(ApiError, match="FORBIDDEN"):
        require_role(principal, "ADMIN")


@pytest.mark.parametrize("presented", [None, "", "wrong", TOKEN + "x", TOKEN[:-1], "ü"])
def test_wrong_internal_token_is_refused(presented: Any) -> None:
    """Only the very token opens internal routes (R1.153)."""
    require_internal(TOKEN, TOKEN)
    with pytest.raises(ApiError, match="UNAUTHORIZED"):
        require_internal(presented, TOKEN)
    with pytest.raises(ApiError, match="UNAUTHORIZED"):
        require_internal("", "")
