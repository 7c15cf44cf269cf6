"""Holds the cache to contract section 6 against a real Redis that is stopped, paused and flushed.

The database of these tests is a number in memory: a loader reads it, a write raises it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from system.platform.cache import keys
from system.platform.cache.answers import Answer, Loaded, Outcome
from system.platform.cache.cache import REDIS_TIMEOUT_S, Cache
from system.platform.cache.circuit import PAUSE_S
from system.platform.cache.notices import NullNotices
from system.platform.redis_connection import connect

# Where time is not the subject, a busy machine must not look like a Redis that is away.
PATIENT_S = 2.0
ENTRY = keys.Entry("payments:list:u1:abc", 60, "payment_list", ("user:u1",))


class Server(Protocol):
    """What these tests do with the redis-server of conftest.py."""

    url: str

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Database:
    """A value that writes raise; a load can be held between its read and its return."""

    def __init__(self) -> None:
        self.value = 0
        self.loads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.read = asyncio.Event()

    async def load(self) -> Loaded:
        self.loads += 1
        body = str(self.value).encode()
        self.read.set()
        await self.gate.wait()
        return Loaded(body, note=b"parties")

    async def write(self, cache: Cache, *tags: str) -> None:
        self.value += 1
        await cache.invalidate(*(tags or ("user:u1",)))


class Neighbours(NullNotices):
    """Notices among caches of one process, as PostgreSQL would carry them."""

    def __init__(self) -> None:
        self.ears: list[Callable[[], None]] = []

    async def start(self, heard: Callable[[], None]) -> None:
        self.ears.append(heard)

    async def announce(self) -> None:
        for heard in self.ears:
            heard()


@asynccontextmanager
async def caches(
    server: Server, number: int = 1, timeout_s: float = PATIENT_S
) -> AsyncIterator[list[Cache]]:
    """Open instances of one service."""
    notices = Neighbours()
    async with AsyncExitStack() as stack:
        instances = []
        for _ in range(number):
            instance = Cache(server.url, "payments", notices=notices, timeout_s=timeout_s)
            await instance.start()
            stack.push_async_callback(instance.close)
            instances.append(instance)
        # Each start renews the epoch; none of them is in doubt afterwards.
        await until(lambda: all(instance.usable for instance in instances))
        yield instances


@pytest.fixture
async def cache(redis_server: Server) -> AsyncIterator[Cache]:
    async with caches(redis_server) as (instance,):
        yield instance


@pytest.fixture
async def redis(redis_server: Server) -> AsyncIterator[Redis]:
    client = connect(redis_server.url, timeout_s=PATIENT_S)
    yield client
    await client.aclose()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until the condition holds."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"not within {seconds} s"
        await asyncio.sleep(0.005)


def shape(answer: Answer) -> tuple[bytes, str]:
    return answer.body, answer.outcome.value


async def test_r6_2_second_read_is_a_hit_with_the_same_body(cache: Cache) -> None:
    """Of two equal reads the second is a HIT with the same bytes and note (R6.2)."""
    database = Database()

    first = await cache.read(ENTRY, database.load)
    second = await cache.read(ENTRY, database.load)

    assert (shape(first), shape(second)) == ((b"0", "MISS"), (b"0", "HIT"))
    assert second.note == b"parties"
    assert database.loads == 1


async def test_r6_3_bypass_reads_the_database(cache: Cache) -> None:
    """A bypassing read loads and leaves the entry alone (R6.3)."""
    database = Database()
    await cache.read(ENTRY, database.load)
    database.value = 7  # behind the cache's back, to tell the two sources apart

    fresh = await cache.read(ENTRY, database.load, bypass=True)
    cached = await cache.read(ENTRY, database.load)

    assert (shape(fresh), shape(cached)) == ((b"7", "BYPASS"), (b"0", "HIT"))


async def test_r6_12_r6_20_entry_and_tag_records_expire(cache: Cache, redis: Redis) -> None:
    """An entry lives for its TTL and no tag record stays for ever (R6.12, R6.20)."""
    database = Database()
    await cache.read(ENTRY, database.load)
    await cache.invalidate("user:u2")

    lifetimes = {
        name: await redis.ttl(name)
        for name in (ENTRY.key, "payments:tag:user:u1", "payments:tag:user:u2")
    }

    assert 58 <= lifetimes[ENTRY.key] <= 60
    assert 0 < lifetimes["payments:tag:user:u1"] <= keys.TAG_TTL_S
    assert 0 < lifetimes["payments:tag:user:u2"] <= keys.TAG_TTL_S


async def test_r6_5_own_write_shows_on_every_instance(redis_server: Server, redis: Redis) -> None:
    """A write's invalidation removes the entry at once, for other instances too (R6.5)."""
    database = Database()
    async with caches(redis_server, 2) as (here, there):
        await there.read(ENTRY, database.load)

        await database.write(here)

        assert await redis.exists(ENTRY.key) == 0
        assert shape(await there.read(ENTRY, database.load)) == (b"1", "MISS")
        assert here.usable


async def test_r6_20_other_tags_leave_an_entry_alone(cache: Cache) -> None:
    """Only entries with the tag go (R6.20)."""
    database = Database()
    await cache.read(ENTRY, database.load)

    await cache.invalidate("user:u2", "payments")

    assert shape(await cache.read(ENTRY, database.load)) == (b"0", "HIT")


async def test_r6_20_tags_of_services_are_apart(redis_server: Server) -> None:
    """Tags of one service do not touch another's entries (R6.20)."""
    database = Database()
    async with caches(redis_server) as (payments,):
        auth = Cache(redis_server.url, "auth", timeout_s=PATIENT_S)
        await auth.start()
        await payments.read(ENTRY, database.load)

        await auth.invalidate("user:u1")

        assert shape(await payments.read(ENTRY, database.load)) == (b"0", "HIT")
        await auth.close()


async def test_r6_14_tags_of_the_value_remove_it(cache: Cache) -> None:
    """Tags only the loaded value tells count like the others (R6.14)."""
    entry = keys.payment("p1")

    async def load() -> Loaded:
        return Loaded(b"x", tags=("user:s", "user:r"))

    await cache.read(entry, load)
    await cache.invalidate("user:r")

    assert (await cache.read(entry, load)).outcome is Outcome.MISS


@pytest.mark.parametrize("instances", [1, 2])
async def test_r6_7_value_read_before_a_write_is_not_stored_after_it(
    redis_server: Server, instances: int
) -> None:
    """A loader overtaken by a write's invalidation neither stores nor serves its value (R6.7)."""
    database = Database()
    async with caches(redis_server, instances) as open_caches:
        reader, writer = open_caches[0], open_caches[-1]
        database.gate.clear()
        slow = asyncio.create_task(reader.read(ENTRY, database.load))
        await database.read.wait()

        await database.write(writer)
        database.gate.set()

        assert shape(await slow) == (b"1", "MISS")
        assert shape(await writer.read(ENTRY, database.load)) == (b"1", "HIT")


async def test_r6_7_tag_of_the_value_is_judged_as_of_the_load(cache: Cache) -> None:
    """A removal by a tag that only the value tells also outdates a load under way (R6.7)."""
    entry = keys.payment("p1")
    names = iter(["old name", "new name"])
    loading, renamed = asyncio.Event(), asyncio.Event()

    async def load() -> Loaded:
        body = next(names).encode()
        loading.set()
        await renamed.wait()
        return Loaded(body, tags=("user:s",))

    slow = asyncio.create_task(cache.read(entry, load))
    await loading.wait()
    await cache.invalidate("user:s")
    renamed.set()

    assert shape(await slow) == (b"new name", "MISS")


async def test_r6_7_r6_8_reader_after_a_write_does_not_join_an_older_load(cache: Cache) -> None:
    """Who comes after a write never gets what a load begun before it read (R6.7, R6.8)."""
    database = Database()
    database.gate.clear()
    before = asyncio.create_task(cache.read(ENTRY, database.load))
    await database.read.wait()
    await database.write(cache)

    after = asyncio.create_task(cache.read(ENTRY, database.load))
    await asyncio.sleep(0)
    database.gate.set()

    assert (await after).body == b"1"
    await before


async def test_constant_writes_do_not_hold_a_reader_for_ever(cache: Cache) -> None:
    """A load outdated again and again is answered unstored; late comers load for themselves."""
    database = Database()

    async def load() -> Loaded:
        loaded = await database.load()
        await database.write(cache)
        return loaded

    answer = await cache.read(ENTRY, load)

    assert answer.outcome is Outcome.MISS
    assert database.loads == 3
    assert (await cache.read(ENTRY, database.load)).outcome is Outcome.MISS


async def test_r6_8_of_many_readers_on_a_cold_entry_one_loads(cache: Cache) -> None:
    """Of 200 simultaneous equal reads one loads, the others wait and are HITs (R6.8)."""
    database = Database()
    database.gate.clear()
    readers = [asyncio.create_task(cache.read(ENTRY, database.load)) for _ in range(200)]
    await database.read.wait()
    database.gate.set()

    outcomes = [answer.outcome for answer in await asyncio.gather(*readers)]

    assert database.loads == 1
    assert outcomes.count(Outcome.MISS) == 1
    assert outcomes.count(Outcome.HIT) == 199


async def test_cancelled_leader_leaves_the_load_to_the_others(cache: Cache) -> None:
    """A client that goes away does not take the answer from those who wait with it."""
    database = Database()
    database.gate.clear()
    leader = asyncio.create_task(cache.read(ENTRY, database.load))
    await database.read.wait()
    follower = asyncio.create_task(cache.read(ENTRY, database.load))
    await asyncio.sleep(0.05)

    leader.cancel()
    database.gate.set()

    assert shape(await follower) == (b"0", "HIT")
    assert database.loads == 1


async def test_r6_10_errors_are_not_cached(cache: Cache) -> None:
    """What a loader raises reaches the reader, and the next read loads again (R6.10)."""
    database = Database()

    async def fail() -> Loaded:
        raise LookupError("no such payment")

    with pytest.raises(LookupError):
        await cache.read(ENTRY, fail)

    assert shape(await cache.read(ENTRY, database.load)) == (b"0", "MISS")


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(name, {"cache_type": "payment_list"}) or 0.0


async def test_hits_and_misses_are_those_answered(cache: Cache) -> None:
    """HIT and MISS answers are counted; BYPASS and refused reads are not (R7.14)."""
    database = Database()
    hits, misses = counted("cache_hits_total"), counted("cache_misses_total")

    def refuse(note: bytes) -> None:
        raise PermissionError(note.decode())

    await cache.read(ENTRY, database.load)
    await cache.read(ENTRY, database.load)
    await cache.read(ENTRY, database.load, bypass=True)
    with pytest.raises(PermissionError, match="parties"):
        await cache.read(ENTRY, database.load, admit=refuse)

    assert counted("cache_hits_total") - hits == 1
    assert counted("cache_misses_total") - misses == 1


def asked() -> float:
    name = "cache_operations_duration_seconds_count"
    labels = {"operation": "get", "cache_type": "payment_list"}
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_r6_9_redis_down_costs_speed_not_correctness(redis_server: Server, how: str) -> None:
    """Refusing or hanging Redis: BYPASS, ≤ 250 ms late, after three failures not late (R6.9)."""
    database = Database()
    async with caches(redis_server, timeout_s=REDIS_TIMEOUT_S) as (cache,):
        database.value = 5
        before = asked()
        getattr(redis_server, how)()

        waits = []
        for _ in range(6):
            started = time.monotonic()
            answer = await cache.read(ENTRY, database.load)
            waits.append(time.monotonic() - started)
            assert shape(answer) == (b"5", "BYPASS")
            # Longer than the pause after one failure: each of these asks again.
            await asyncio.sleep(PAUSE_S)

    assert asked() - before == 3
    # The least of several like waits, and some more time: a busy machine holds up the test itself.
    assert min(waits[:3]) < REDIS_TIMEOUT_S + 0.3
    assert min(waits[3:]) < 0.02


@pytest.mark.parametrize("how", [("kill", "start"), ("pause", "resume")])
@pytest.mark.parametrize("instances", [1, 2])
async def test_r6_9_nothing_older_than_a_write_survives_an_outage(
    redis_server: Server, redis: Redis, how: tuple[str, str], instances: int
) -> None:
    """An entry Redis brings back is not served after a write it missed, by nobody (R6.9).

    The reader has not met the outage; it knows of the write only by the notice.
    """
    down, up = how
    database = Database()
    async with caches(redis_server, instances) as open_caches:
        writer, reader = open_caches[0], open_caches[-1]
        await reader.read(ENTRY, database.load)
        getattr(redis_server, down)()
        await database.write(writer)
        getattr(redis_server, up)()

        assert (await reader.read(ENTRY, database.load)).body == b"1"
        await until(lambda: all(instance.usable for instance in open_caches))
        seen = [shape(await reader.read(ENTRY, database.load)) for _ in range(2)]

    assert seen[1] == (b"1", "HIT")


async def test_r6_9_a_restart_nobody_noticed_voids_the_contents(
    redis_server: Server, cache: Cache
) -> None:
    """Redis that restarted may have lost removals, so its old entries are not served (R6.9)."""
    database = Database()
    await cache.read(ENTRY, database.load)
    redis_server.kill()
    redis_server.start()
    database.value = 9  # as if the removal for it had been lost with the restart

    bodies = [(await cache.read(ENTRY, database.load)).body for _ in range(3)]

    assert bodies == [b"9"] * 3


@pytest.mark.parametrize("noticed", ["closed", "unseen"])
async def test_r6_2_after_a_restart_of_redis_the_next_read_is_a_miss_then_a_hit(
    redis_server: Server, cache: Cache, noticed: str
) -> None:
    """A service that was idle meanwhile asks Redis again at once, and trusts nothing old (R0.10).

    Its connection is either known to be closed, or found dead only when it is used.
    """
    database = Database()
    await cache.read(ENTRY, database.load)
    redis_server.kill()
    redis_server.start()
    if noticed == "closed":
        await asyncio.sleep(0.05)  # the event loop reads the end of the connection
    database.value = 9

    seen = [shape(await cache.read(ENTRY, database.load)) for _ in range(2)]

    assert seen == [(b"9", "MISS"), (b"9", "HIT")]


async def test_r6_8_after_a_restart_of_redis_many_readers_renew_it_once(
    redis_server: Server, cache: Cache
) -> None:
    """All of them wait for one renewal: one loads, none is answered past the cache."""
    database = Database()
    await cache.read(ENTRY, database.load)
    redis_server.kill()
    redis_server.start()

    seen = await asyncio.gather(*(cache.read(ENTRY, database.load) for _ in range(20)))

    assert sorted(answer.outcome.value for answer in seen) == ["HIT"] * 19 + ["MISS"]
    assert database.loads == 2


async def test_r6_5_after_a_restart_of_redis_a_write_removes_and_the_next_read_is_a_miss(
    redis_server: Server, cache: Cache
) -> None:
    """The first to meet the restart is a write: the cache is in use again when it is answered."""
    database = Database()
    await cache.read(ENTRY, database.load)
    redis_server.kill()
    redis_server.start()

    await database.write(cache)

    seen = [shape(await cache.read(ENTRY, database.load)) for _ in range(2)]
    assert seen == [(b"1", "MISS"), (b"1", "HIT")]


async def test_a_new_process_does_not_trust_what_it_finds(redis_server: Server) -> None:
    """A process that died with an unpaid removal leaves nothing that its successor serves."""
    database = Database()
    async with caches(redis_server) as (first,):
        await first.read(ENTRY, database.load)
    database.value = 3

    async with caches(redis_server) as (second,):
        answer = await second.read(ENTRY, database.load)

    assert shape(answer) == (b"3", "MISS")


async def test_r6_7_a_load_begun_before_the_doubt_is_not_stored_after_it(
    redis_server: Server, cache: Cache
) -> None:
    """A value read before a write that Redis missed is not stored once Redis is back (R6.7)."""
    database = Database()
    database.gate.clear()
    slow = asyncio.create_task(cache.read(ENTRY, database.load))
    await database.read.wait()
    redis_server.pause()
    await database.write(cache)
    redis_server.resume()
    await until(lambda: cache.usable)
    database.gate.set()
    await slow

    assert (await cache.read(ENTRY, database.load)).body == b"1"


async def test_starts_without_redis_and_recovers(redis_server: Server) -> None:
    """A process that starts while Redis is down serves, and caches once Redis is there (R0.10)."""
    redis_server.kill()
    database = Database()
    cache = Cache(redis_server.url, "payments", timeout_s=PATIENT_S)
    await cache.start()

    assert (await cache.read(ENTRY, database.load)).outcome is Outcome.BYPASS
    redis_server.start()
    await until(lambda: cache.usable)
    assert (await cache.read(ENTRY, database.load)).outcome is Outcome.MISS

    await cache.close()


@pytest.mark.parametrize("pattern", ["payments:*", "*"])
async def test_r6_21_a_flush_by_hand_costs_entries_only(
    cache: Cache, redis: Redis, pattern: str
) -> None:
    """Flushing the service's prefix empties the cache and disturbs nothing else (R6.21)."""
    database = Database()
    await cache.read(ENTRY, database.load)
    async for name in redis.scan_iter(pattern):
        await redis.delete(name)
    database.value = 4

    seen = [shape(await cache.read(ENTRY, database.load)) for _ in range(2)]

    assert seen == [(b"4", "MISS"), (b"4", "HIT")]


async def test_r6_7_a_flush_during_a_load_does_not_let_old_values_in(
    cache: Cache, redis: Redis
) -> None:
    """A generation that began anew does not vouch for loads of the one before (R6.7)."""
    database = Database()
    database.gate.clear()
    slow = asyncio.create_task(cache.read(ENTRY, database.load))
    await database.read.wait()
    await redis.flushdb()
    await database.write(cache)
    database.gate.set()
    await slow

    assert (await cache.read(ENTRY, database.load)).body == b"1"


async def test_tag_records_forget_expired_entries(cache: Cache, redis: Redis) -> None:
    """A tag under which ever new entries are stored does not grow with those that expired."""
    record = "payments:tag:user:u1"
    await redis.hset(record, mapping={f"payments:list:u1:gone{n}": "" for n in range(575)})

    await cache.read(ENTRY, Database().load)

    assert await redis.hlen(record) == 1


def test_r6_12_keys_are_those_of_the_contract() -> None:
    """Prefixes, lifetimes, types and tags are those of table 6.2."""
    table = {
        keys.user("i"): ("auth:user:i", 300, "user", ("user:i",)),
        keys.payment("p"): ("payments:payment:p", 60, "payment", ("payment:p",)),
        keys.payment_report("u", False, "a", "b", ""): (
            "payments:report:u:a:b:",
            300,
            "payment_report",
            ("user:u",),
        ),
        keys.payment_report("u", True, "a", "b", "EUR"): (
            "payments:report:admin:a:b:EUR",
            300,
            "payment_report",
            ("payments",),
        ),
        keys.recipients("u"): ("payments:recipients:u", 60, "recipients", ("recipients",)),
        keys.profile("u"): ("profile:profile:u", 300, "profile", ("user:u",)),
        keys.preferences("u"): ("profile:preferences:u", 300, "preferences", ("user:u",)),
    }
    for entry, expected in table.items():
        assert (entry.key, entry.ttl_s, entry.cache_type, entry.tags) == expected
    assert keys.payment_list("u", False, "x").key.startswith("payments:list:u:")
    assert keys.payment_list("u", True, "x").key == keys.payment_list("v", True, "x").key
    assert keys.payment_list("u", False, "x").key != keys.payment_list("u", False, "y").key
    assert keys.after_payment_change("p", ["s", None, "s"]) == ("payment:p", "user:s", "payments")


async def test_a_removal_done_once_leaves_newer_entries_alone(cache: Cache) -> None:
    """The event of a write does not remove what was stored after the write's own removal (R6.2)."""
    database = Database()
    await cache.read(ENTRY, database.load)

    await cache.invalidate("user:u1", once="event")
    first = await cache.read(ENTRY, database.load)
    await cache.invalidate("user:u1", once="event")
    second = await cache.read(ENTRY, database.load)
    await cache.invalidate("user:u1", once="another event")

    assert (first.outcome, second.outcome) == (Outcome.MISS, Outcome.HIT)
    assert (await cache.read(ENTRY, database.load)).outcome is Outcome.MISS


async def test_a_doubtful_database_line_keeps_the_cache_off(redis_server: Server) -> None:
    """Who cannot hear the other instances does not trust Redis (R6.9)."""
    notices = Neighbours()
    notices.listening = False
    cache = Cache(redis_server.url, "payments", notices=notices, timeout_s=PATIENT_S)
    await cache.start()
    database = Database()

    deaf = await cache.read(ENTRY, database.load)
    notices.listening = True
    await until(lambda: cache.usable)

    assert deaf.outcome is Outcome.BYPASS
    assert (await cache.read(ENTRY, database.load)).outcome is Outcome.MISS
    await cache.close()
