"""Keys that follow auth-service's: looks by the clock, looks for an unknown kid, failures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import pytest

from system.platform.http.errors import ApiError
from system.platform.security import keys as module
from system.platform.security.keys import FreshKeys, Keys, KeysUnavailable, read_keys
from system.platform.security.tokens import KeyRing, SigningKey, TokenType, issue_access

SHORT_S = 0.05
USER = "11111111-1111-4111-8111-111111111111"


def key(kid: str) -> SigningKey:
    return SigningKey(kid, kid.encode() * 40, is_active=True)


def token(kid: str) -> str:
    ring = KeyRing({TokenType.ACCESS: [key(kid)]})
    return issue_access(
        ring, user_id=USER, email="a@x.test", name="A", role="ADMIN", session_id=USER, lifetime=900
    )


class Source:
    """Auth-service's keys, as a test wants them."""

    def __init__(self) -> None:
        self.kids = ["a"]
        self.looks = 0
        self.away = False
        self.broken = False
        self._seen = asyncio.Condition()

    async def fetch(self) -> Keys:
        async with self._seen:
            self.looks += 1
            self._seen.notify_all()
        if self.broken:
            raise RuntimeError("broken")
        if self.away:
            raise KeysUnavailable("away")
        return {TokenType.ACCESS: tuple(key(kid) for kid in self.kids)}

    async def further_looks(self, count: int) -> None:
        """Wait for so many more looks to begin; all but the last are then over."""
        enough = self.looks + count
        async with asyncio.timeout(5), self._seen:
            await self._seen.wait_for(lambda: self.looks >= enough)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def fresh(source: Source, monkeypatch: pytest.MonkeyPatch) -> FreshKeys:
    monkeypatch.setattr(module, "LOOK_EVERY_S", SHORT_S)
    return FreshKeys(KeyRing({TokenType.ACCESS: [key("a")]}), source.fetch)


async def code(fresh: FreshKeys, presented: str) -> str:
    try:
        await fresh.verify(presented)
    except ApiError as refused:
        return refused.code
    return "good"


async def test_known_key_costs_no_look(fresh: FreshKeys, source: Source) -> None:
    """Good tokens, and bad ones that name a known key, are judged by the ring alone."""
    assert await code(fresh, token("a")) == "good"
    assert await code(fresh, token("a")[:-3] + "xxx") == "TOKEN_INVALID"
    assert await code(fresh, "no.token") == "TOKEN_INVALID"
    assert source.looks == 0


async def test_unknown_key_is_looked_for(fresh: FreshKeys, source: Source) -> None:
    """A token of a key made meanwhile is good; one of a key nobody has is not."""
    source.kids = ["b", "a"]

    assert await code(fresh, token("b")) == "good"
    assert await code(fresh, token("c")) == "TOKEN_INVALID"
    assert await code(fresh, token("a")) == "good"


async def test_simultaneous_questions_share_a_look_and_looks_keep_their_distance(
    fresh: FreshKeys, source: Source
) -> None:
    """A flood of unknown kids costs one look in the time of one; none is judged without a look."""
    began = asyncio.get_running_loop().time()
    first = await asyncio.gather(*(code(fresh, token(f"x{number}")) for number in range(50)))
    assert (set(first), source.looks) == ({"TOKEN_INVALID"}, 1)

    source.kids = ["new", "a"]
    second = await asyncio.gather(*(code(fresh, token("new")) for _ in range(50)))

    assert (set(second), source.looks) == ({"good"}, 2)
    assert asyncio.get_running_loop().time() - began >= SHORT_S


async def test_keys_out_of_reach_refuse_no_known_token(fresh: FreshKeys, source: Source) -> None:
    """An unknown key is 503 while nobody can say whether it is good; known ones go on (R1.14)."""
    source.away = True

    assert await code(fresh, token("b")) == "SERVICE_UNAVAILABLE"
    assert await code(fresh, token("a")) == "good"


async def test_clock_brings_new_keys_and_takes_old_ones(fresh: FreshKeys, source: Source) -> None:
    """Without any token the ring follows, also after an outage and an error of any kind."""
    source.away = True
    await fresh.start()
    try:
        await source.further_looks(2)
        source.broken = True
        await source.further_looks(2)
        source.kids, source.away, source.broken = ["b"], False, False
        await source.further_looks(2)
        assert [known.kid for known in fresh.ring.keys(TokenType.ACCESS)] == ["b"]
    finally:
        await fresh.close()

    looks = source.looks
    await asyncio.sleep(2 * SHORT_S)
    assert source.looks == looks


GOOD: Mapping[str, object] = {
    "kid": "k",
    "secret": "s" * 40,
    "isActive": True,
    "canVerify": True,
    "createdAt": "2026-01-17T10:00:00.000Z",
    "expiresAt": None,
}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, {"data": {"access": [GOOD]}}),
        (200, {"data": {"access": []}}),
        (200, {"data": {"access": [{**GOOD, "secret": None}]}}),
        (200, {"error": {}}),
    ],
)
def test_bad_answer_changes_nothing(status: int, body: object) -> None:
    """Only an answer with keys counts: an empty ring would refuse everybody."""
    with pytest.raises(KeysUnavailable):
        read_keys(status, json.dumps(body).encode())


def test_good_answer_is_read() -> None:
    """Every member of a key arrives."""
    (found,) = read_keys(200, json.dumps({"data": {"access": [GOOD]}}).encode())[TokenType.ACCESS]

    assert (found.kid, found.secret, found.is_active, found.can_verify) == (
        "k",
        b"s" * 40,
        True,
        True,
    )
    assert found.created_at is not None
    assert found.expires_at is None
