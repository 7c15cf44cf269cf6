"""The mirror against a real Redis that dies and comes back; the hasher against real hashes."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

import argon2
import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import RedisError

from system.auth.adapters.exempt_addresses import ExemptAddresses
from system.auth.adapters.mirror import RedisMirror
from system.auth.adapters.passwords import Argon2Hasher
from system.platform import redis_connection
from system.platform.security.sessions import EPOCH_KEY, REVOKED, open_value, state_key

_DEADLINE_S = 30.0


class Server:
    """A redis-server on a port of its own that keeps its contents over a restart."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                "redis-server",
                *("--port", str(self.port), "--bind", "127.0.0.1"),
                *("--dir", str(self._folder), "--appendonly", "yes", "--save", ""),
            ],
            stdout=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + _DEADLINE_S
        while time.monotonic() < give_up:
            with suppress(RedisError), BlockingRedis(port=self.port, socket_timeout=0.5) as client:
                client.ping()
                return
            time.sleep(0.02)
        raise AssertionError(f"redis-server on port {self.port} not ready in {_DEADLINE_S} s")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_DEADLINE_S)
            self._process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    running.start()
    yield running
    running.stop()


@pytest.fixture
async def redis(server: Server) -> AsyncIterator[Redis]:
    client = redis_connection.connect(f"redis://127.0.0.1:{server.port}", timeout_s=1.0)
    yield client
    await client.aclose()


@pytest.fixture
async def mirror(redis: Redis) -> AsyncIterator[RedisMirror]:
    watched = RedisMirror(redis, access_seconds=900)
    await watched.start()
    await until(lambda: watched.settled)
    yield watched
    await watched.close()


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until the condition holds; fail after the deadline."""
    async with asyncio.timeout(_DEADLINE_S):
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.02)


async def trusted(redis: Redis, session_id: str) -> bool:
    """Whether a verifier would take the session for open by the mirror alone."""
    epoch, state = await redis.mget(EPOCH_KEY, state_key(session_id))
    return isinstance(epoch, bytes) and state == open_value(epoch.decode()).encode()


async def test_opened_session_is_mirrored_for_longer_than_its_tokens(
    mirror: RedisMirror, redis: Redis
) -> None:
    """An open session is trusted, and its entry outlives an access token."""
    await mirror.opened("s", mirror.epoch)

    assert await trusted(redis, "s")
    assert await redis.ttl(state_key("s")) > 900


async def test_open_never_replaces_revoked(mirror: RedisMirror, redis: Redis) -> None:
    """A reader that was slower than a revocation does not undo it."""
    await mirror.revoked(["s"])
    await mirror.opened("s", mirror.epoch)

    assert await redis.get(state_key("s")) == REVOKED.encode()


async def test_missed_revocation_makes_the_mirror_worthless(
    server: Server, mirror: RedisMirror, redis: Redis
) -> None:
    """A session revoked while Redis was down is not trusted after its return (R1.39)."""
    await mirror.opened("s", mirror.epoch)
    await mirror.opened("other", mirror.epoch)
    server.stop()
    await mirror.revoked(["s"])
    assert not mirror.settled
    server.start()
    assert await redis.get(state_key("s")), "the old contents must be back for this test"

    await until(lambda: mirror.settled)

    assert not await trusted(redis, "s")
    assert not await trusted(redis, "other")
    await mirror.opened("other", mirror.epoch)
    assert await trusted(redis, "other")


@pytest.mark.parametrize("emptied", [False, True])
async def test_restarted_or_emptied_redis_gets_a_new_epoch(
    server: Server, mirror: RedisMirror, redis: Redis, emptied: bool
) -> None:
    """A Redis that may have lost a revocation is noticed without anything being missed."""
    before = mirror.epoch
    await mirror.opened("s", before)
    if emptied:
        await redis.flushall()
    else:
        server.stop()
        server.start()

    await until(lambda: mirror.settled and mirror.epoch != before)

    assert not await trusted(redis, "s")


async def test_entry_of_an_older_epoch_is_not_trusted(mirror: RedisMirror, redis: Redis) -> None:
    """Who read the store before the epoch changed cannot mark a session open for the new one."""
    await mirror.opened("s", "older")

    assert not await trusted(redis, "s")


async def test_epoch_of_another_instance_is_taken_over(mirror: RedisMirror, redis: Redis) -> None:
    """Several instances of auth-service end up with one epoch."""
    await redis.set(EPOCH_KEY, "theirs")

    await until(lambda: mirror.epoch == "theirs")

    assert mirror.settled


async def test_mirror_closes_at_any_moment(redis: Redis) -> None:
    """Closing ends the watch, also while it is connecting (the client then eats cancellations)."""
    for number in range(40):
        watched = RedisMirror(redis, access_seconds=900)
        await watched.start()
        await asyncio.sleep(number * 0.0005)
        async with asyncio.timeout(_DEADLINE_S):
            await watched.close()
        await redis.connection_pool.disconnect()


async def test_mirror_without_redis_harms_nobody(tmp_path: Path) -> None:
    """With Redis away from the start nothing fails and nothing is claimed to be mirrored."""
    client = redis_connection.connect("redis://127.0.0.1:1")
    away = RedisMirror(client, access_seconds=900)
    await away.start()

    await away.opened("s", away.epoch)
    await away.revoked(["s"])

    assert (away.epoch, away.settled) == (None, False)
    await away.close()
    await client.aclose()


@pytest.fixture
def hasher() -> Iterator[Argon2Hasher]:
    made = Argon2Hasher(1, 1, 1, threads=1)
    yield made
    made.close()


async def test_hash_has_at_least_the_contracted_parameters(hasher: Argon2Hasher) -> None:
    """Weaker settings than the contract's are raised to its minimum (R1.66)."""
    stored = await hasher.hash("Correct horse 1!")

    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await hasher.matches("Correct horse 1!", stored)
    assert not await hasher.matches("wrong", stored)
    assert not hasher.outdated(stored)
    weaker = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("x")
    assert hasher.outdated(weaker)


@pytest.mark.parametrize("stored", [None, "", "plain", "$2b$12$abcdefghijklmnopqrstuv"])
async def test_no_hash_or_a_foreign_one_matches_nothing(
    hasher: Argon2Hasher, stored: str | None
) -> None:
    """An unknown account or a hash of another kind is a wrong password, never an error."""
    assert not await hasher.matches("", stored)
    assert not await hasher.matches("plain", stored)


async def test_every_check_computes_one_hash(
    hasher: Argon2Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known, unknown and unreadable accounts cost the same work, off the event loop (R1.82)."""
    stored = await hasher.hash("Correct horse 1!")
    threads: list[bool] = []
    low_level = argon2.low_level.verify_secret

    def counted(*arguments: object) -> object:
        threads.append(threading.current_thread() is threading.main_thread())
        return low_level(*arguments)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr("argon2._password_hasher.verify_secret", counted)
    for known in (stored, None, "$2b$12$abcdefghijklmnopqrstuv"):
        threads.clear()
        await hasher.matches("wrong", known)
        assert threads == [False]


# Made by another implementation: the published test vectors of crypt_blowfish.
BCRYPT_VECTORS = [
    ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
    ("U*U*", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"),
    ("", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"),
]


@pytest.mark.parametrize(("password", "stored"), BCRYPT_VECTORS)
async def test_migrated_hash_is_verified_and_due_for_replacement(
    password: str, stored: str
) -> None:
    """bcrypt hashes of the legacy database let their owners in, once (R1.66)."""
    hasher = Argon2Hasher(0, 0, 0)
    try:
        assert await hasher.matches(password, stored)
        assert not await hasher.matches(password + "x", stored)
        assert not await hasher.matches(password + "\0x", stored)
        assert not await hasher.matches(password, stored[:-1] + "/")
        assert hasher.outdated(stored)
        assert not hasher.outdated(await hasher.hash(password))
    finally:
        hasher.close()


@pytest.mark.parametrize(
    ("address", "exempt"),
    [
        ("127.0.0.2", True),
        ("127.0.2.7", True),
        ("127.0.0.3", False),
        ("::1", False),
        ("no address", False),
        (None, False),
    ],
)
def test_exempt_addresses_are_those_of_the_networks(address: str | None, exempt: bool) -> None:
    """RATE_LIMIT_EXEMPT names addresses and networks; who has no address is not exempt (R1.44)."""
    networks = (ip_network("127.0.0.2"), ip_network("127.0.2.0/24"))
    assert ExemptAddresses(networks).covers(address) is exempt
