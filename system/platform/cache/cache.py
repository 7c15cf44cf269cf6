"""Answers reads from Redis, never with anything older than an acknowledged write (contract 6).

How staleness is kept out:

- A write calls `invalidate` after its commit and before its answer.  Entries are removed at once,
  and the tags remember when, so that a slow loader cannot store what it read before (R6.7).
- Whoever waits for another's load takes its value only if the load began after, or no removal
  touched it since, the waiter came.
- *Doubt* (R6.9).  An invalidation that fails, a Redis that forgot the scripts (it restarted), a
  notice from another instance, and the start of the process put the cache in doubt: every read
  goes to the database (BYPASS) and nothing is stored, without waiting for Redis, until the
  service's epoch has been replaced in Redis, which voids every entry at once.  A write that could
  not invalidate tells the other instances through the database (`Notices`) before it is answered,
  so none of them serves old entries when Redis returns.  Whoever finds the scripts forgotten has
  a Redis that answers: it waits for the new epoch within its own time and goes on (MISS).
- Failed reads cast no doubt on what is stored: after three in a row the cache only stops asking,
  until a probe succeeds.

Usage::

    answer = await cache.read(keys.payment(id), load, bypass=no_cache)
    await cache.invalidate(*keys.after_payment_change(...))     # after the commit
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable
from typing import Final, cast

from redis.exceptions import NoScriptError, RedisError, ResponseError

from system.platform.cache.answers import Admit, Answer, Loaded, Loader, Outcome, answered
from system.platform.cache.circuit import Circuit
from system.platform.cache.condition import CacheHealth, Statistics
from system.platform.cache.keys import TAG_TTL_S, Entry, cache_types
from system.platform.cache.notices import Notices, NullNotices
from system.platform.cache.patience import Patience
from system.platform.cache.scripts import NO_GENERATION, Script, crowded, scripts_of
from system.platform.cache.stored import Found, Landed, fresh_epoch, pack, unpack
from system.platform.observability.metrics import (
    CACHE_HITS_TOTAL,
    CACHE_MISSES_TOTAL,
    CACHE_OPERATIONS_DURATION_SECONDS,
    OTHER,
)
from system.platform.redis_connection import SERVICE_READ_S, connect

# R6.9: slower than this is down.
REDIS_TIMEOUT_S: Final = 0.2
# What a store may take when the look-up before it used up the time already.
_LEAST_TIMEOUT_S: Final = 0.04
_PROBE_EVERY_S: Final = 0.25
_CLIENT_MARGIN_S: Final = 1.0
# Counting entries walks through the keys of Redis, in many small steps.
_COUNTING_S: Final = 2.0
_KEYS_A_STEP: Final = 1_000
# A value outdated while it was loaded is loaded again, but not for ever under constant writes.
_ATTEMPTS: Final = 3

_log = logging.getLogger(__name__)

# Looking up a series by its labels costs more than counting in it.
_hits: Final = functools.cache(CACHE_HITS_TOTAL.labels)
_misses: Final = functools.cache(CACHE_MISSES_TOTAL.labels)
_duration: Final = functools.cache(CACHE_OPERATIONS_DURATION_SECONDS.labels)


class _Unavailable(Exception):
    """Redis did not answer as it should; the caller goes on without it."""


class Cache:
    """The cache of one service, with a Redis client of its own.

    Args:
        redis_url: redis://…; nothing is opened before `start`.
        service: short name, prefix of generation and tags ("payments").
        notices: tells other instances of doubt; needed where there can be several.
        circuit: shared with all else that asks Redis for a request; the cache probes for it.
        timeout_s: seconds after which an answer of Redis does not come (R6.9).
    """

    def __init__(
        self,
        redis_url: str,
        service: str,
        *,
        notices: Notices | None = None,
        circuit: Circuit | None = None,
        timeout_s: float = REDIS_TIMEOUT_S,
    ) -> None:
        self._timeout_s = timeout_s
        self._circuit = circuit if circuit is not None else Circuit()
        self._circuit.on_open = self._recover
        # The client's own limit lies above `Patience`, which knows better when to give up.
        self._redis = connect(redis_url, timeout_s=timeout_s + _CLIENT_MARGIN_S, repeatable=True)
        self._service = service
        self._counts: defaultdict[str, Counter[Outcome]] = defaultdict(Counter)
        self._scripts = scripts_of(service)
        self._generation_key = f"{service}:generation"
        self._tag_prefix = f"{service}:tag:"
        self._mark_prefix = f"{service}:done:"
        self._notices: Notices = notices if notices is not None else NullNotices()
        self._flights: dict[str, asyncio.Task[Landed]] = {}
        # In doubt while the two differ; a start is a doubt, for what the last process knew is lost.
        self._doubts = 1
        self._settled = 0
        self._recovery: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def usable(self) -> bool:
        """Whether reads ask Redis at present: nothing doubted, and nothing failed just now."""
        return self._doubts == self._settled and self._circuit.allows

    async def start(self) -> None:
        """Take up work; with Redis down it begins in doubt and recovers by itself (R0.10)."""
        await self._notices.start(self.doubt)
        if not await self._settle():
            self._recover()

    async def close(self) -> None:
        """Stop background work and close the connections."""
        self._closed = True
        if self._recovery is not None:
            self._recovery.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._recovery
        await self._notices.close()
        await self._redis.aclose()

    async def read(
        self,
        entry: Entry,
        load: Loader,
        *,
        bypass: bool = False,
        admit: Admit | None = None,
    ) -> Answer:
        """Answer from the cache, or load and store.

        Args:
            entry: from `keys`.
            load: reads the database; what it raises is raised here and nothing is stored (R6.10).
            bypass: answer from the database (R6.3).
            admit: judges the note before the read counts; what it raises is raised here.

        Returns:
            The answer; HIT and MISS are counted (R7.14).
        """
        answer = await self._read(entry, load, bypass)
        if admit is not None:
            admit(answer.note)
        if entry.counted:
            self._counts[entry.cache_type][answer.outcome] += 1
            if answer.outcome is Outcome.HIT:
                _hits(entry.cache_type).inc()
            elif answer.outcome is Outcome.MISS:
                _misses(entry.cache_type).inc()
        return answer

    async def invalidate(self, *tags: str, once: str | None = None) -> None:
        """Remove all entries with one of the tags; call it after the commit (R6.5).

        Never raises: what cannot be removed now is never served later (R6.9).  It completes even
        if the caller is cancelled.

        Args:
            tags: from `keys`.
            once: id of the change; a second removal for it, by the consumer of its event, leaves
                alone what was stored since the first.
        """
        await asyncio.shield(asyncio.ensure_future(self._invalidate(tags, once)))

    def doubt(self) -> None:
        """Trust nothing in Redis until the epoch has been replaced."""
        self._doubts += 1
        self._recover()

    async def statistics(self) -> dict[str, Statistics]:
        """What became of the reads so far, by `cache_type`; every type of the service is there.

        It never fails and takes two seconds at most; HIT and MISS are those of R7.14.
        """
        entries = await self._count_entries()
        return {
            cache_type: Statistics(
                hits=counts[Outcome.HIT],
                misses=counts[Outcome.MISS],
                bypasses=counts[Outcome.BYPASS],
                entries=None if entries is None else entries[cache_type],
            )
            for cache_type, counts in (
                (name, self._counts[name]) for name in cache_types(self._service).values()
            )
        }

    async def health(self) -> CacheHealth:
        """Whether Redis answers and whether its contents are trusted; never raises.

        It only looks: neither an open circuit nor a doubt ends by it.
        """
        try:
            async with Patience(self._timeout_s):
                await cast("Awaitable[object]", self._redis.ping())
        except (RedisError, OSError, TimeoutError):
            return CacheHealth(reachable=False, trusted=self._doubts == self._settled)
        return CacheHealth(reachable=True, trusted=self._doubts == self._settled)

    async def _count_entries(self) -> Counter[str] | None:
        types = cache_types(self._service)
        found: Counter[str] = Counter()
        counted: set[bytes] = set()  # SCAN may show a key twice
        try:
            async with asyncio.timeout(_COUNTING_S):
                async for key in self._redis.scan_iter(f"{self._service}:*", count=_KEYS_A_STEP):
                    if key in counted:
                        continue
                    counted.add(key)
                    for prefix, cache_type in types.items():
                        if key.startswith(prefix.encode()):
                            found[cache_type] += 1
        except (RedisError, OSError, TimeoutError):
            return None
        return found

    async def _read(self, entry: Entry, load: Loader, bypass: bool) -> Answer:
        if bypass or not self.usable:
            return answered(await load(), Outcome.BYPASS)
        for _ in range(_ATTEMPTS):
            started = time.monotonic()
            try:
                found = await self._look(entry)
            except _Unavailable:
                break
            hit = unpack(found)
            if hit is not None:
                return hit
            flight = self._flights.get(entry.key)
            leads = flight is None
            if flight is None:
                left = max(_LEAST_TIMEOUT_S, self._timeout_s - (time.monotonic() - started))
                flight = self._take_off(entry, load, found.generation, left)
            # Shielded: one client that goes away must not take the answer from the others.
            landed = await asyncio.shield(flight)
            if landed.stored is None:
                if leads:
                    return answered(landed.loaded, Outcome.BYPASS)
                break
            if leads:
                return answered(landed.loaded, Outcome.MISS)
            if landed.serves(found.generation):
                return answered(landed.loaded, Outcome.HIT)
        return answered(await load(), Outcome.BYPASS)

    def _take_off(
        self, entry: Entry, load: Loader, generation: bytes, timeout_s: float
    ) -> asyncio.Task[Landed]:
        task = asyncio.create_task(self._fly(entry, load, generation, timeout_s))
        self._flights[entry.key] = task
        task.add_done_callback(lambda done: self._land(entry.key, done))
        return task

    def _land(self, key: str, task: asyncio.Task[Landed]) -> None:
        del self._flights[key]
        if not task.cancelled():
            task.exception()  # seen, also when everybody who waited has gone

    async def _fly(self, entry: Entry, load: Loader, generation: bytes, timeout_s: float) -> Landed:
        for attempt in range(1, _ATTEMPTS + 1):
            loaded = await load()
            if not self.usable:
                return Landed(loaded, generation, None)
            try:
                present = await self._store(entry, loaded, generation, timeout_s)
            except _Unavailable:
                return Landed(loaded, generation, None)
            if not present:
                return Landed(loaded, generation, True)
            if attempt == _ATTEMPTS or present == NO_GENERATION:
                break
            # Outdated by a write meanwhile: what is read from here on includes it.
            generation = present
        return Landed(loaded, generation, False)

    async def _invalidate(self, tags: tuple[str, ...], once: str | None) -> None:
        mark = "" if once is None else self._mark_prefix + once
        # The second, short try is for a process that was held up itself: on a busy machine an
        # answer can be late though Redis was not, and doubt costs every entry.
        for timeout_s in (self._timeout_s, _LEAST_TIMEOUT_S) if self.usable else ():
            with contextlib.suppress(_Unavailable):
                await self._run(
                    self._scripts.remove,
                    [self._generation_key, *(self._tag_prefix + tag for tag in tags)],
                    [fresh_epoch(), str(TAG_TTL_S), mark],
                    ("invalidate", OTHER),
                    timeout_s,
                )
                return
        self.doubt()
        await self._notices.announce()

    async def _look(self, entry: Entry) -> Found:
        generation, value = cast(
            "list[bytes | None]",
            await self._run(
                self._scripts.look,
                [entry.key, self._generation_key],
                [fresh_epoch()],
                ("get", entry.cache_type),
                min(self._timeout_s, SERVICE_READ_S),
            ),
        )
        assert generation is not None, "the script makes a generation where there is none"
        return Found(generation, value)

    async def _store(
        self, entry: Entry, loaded: Loaded, generation: bytes, timeout_s: float
    ) -> bytes:
        tags = dict.fromkeys((*entry.tags, *loaded.tags))
        return cast(
            "bytes",
            await self._run(
                self._scripts.store,
                [entry.key, self._generation_key, *(self._tag_prefix + tag for tag in tags)],
                [
                    generation,
                    pack(generation, loaded),
                    str(entry.ttl_s),
                    str(TAG_TTL_S),
                    crowded(),
                ],
                ("set", entry.cache_type),
                timeout_s,
            ),
        )

    async def _run(
        self,
        script: Script,
        keys: list[str],
        arguments: list[str | bytes],
        labels: tuple[str, str],
        timeout_s: float,
    ) -> object:
        """Run a script; a failure becomes `_Unavailable`, and doubt where it may hide a loss."""
        started = self._circuit.clock()
        doubts = self._doubts
        try:
            async with Patience(timeout_s):
                try:
                    result = await self._evaluate(script, keys, arguments)
                except NoScriptError:
                    # Redis restarted and may have lost removals.
                    await self._renewed_since(doubts)
                    result = await self._evaluate(script, keys, arguments)
        except ResponseError as error:
            # Out of memory, loading, read only: removals do not happen either.
            _log.warning("cache in doubt: Redis refused a script: %s", str(error)[:100])
            self.doubt()
            raise _Unavailable from error
        except (RedisError, OSError, TimeoutError) as error:
            self._circuit.failed(started)
            raise _Unavailable from error
        finally:
            _duration(*labels).observe(self._circuit.clock() - started)
        self._circuit.succeeded()
        return result

    async def _evaluate(
        self, script: Script, keys: list[str], arguments: list[str | bytes]
    ) -> object:
        return await cast(
            "Awaitable[object]",
            self._redis.evalsha(script.digest, len(keys), *keys, *arguments),
        )

    async def _renewed_since(self, doubts: int) -> None:
        """Wait until the epoch has been replaced, once for all who find the scripts forgotten."""
        if self._doubts == doubts:
            _log.warning("cache in doubt: Redis forgot the scripts, as by a restart")
            self.doubt()
        while self._doubts != self._settled and self._recovery is not None and not self._closed:
            await asyncio.wait((self._recovery,))

    def _recover(self) -> None:
        if self._closed or (self._recovery is not None and not self._recovery.done()):
            return
        self._recovery = asyncio.create_task(self._keep_settling())

    async def _keep_settling(self) -> None:
        # At once if Redis is well and only the contents are doubtful; else by a calm probe.
        while True:
            if await self._settle():
                return
            await asyncio.sleep(_PROBE_EVERY_S)

    async def _settle(self) -> bool:
        """Probe Redis and replace a doubted epoch; True if the cache can be used again."""
        doubts = self._doubts
        if not self._notices.listening:
            return False
        try:
            async with Patience(self._timeout_s):
                if doubts == self._settled:
                    await cast("Awaitable[object]", self._redis.ping())
                else:
                    await self._renew()
        except (RedisError, OSError, TimeoutError):
            return False
        self._circuit.succeeded()
        self._settled = doubts
        return self.usable

    async def _renew(self) -> None:
        # Before the scripts: an instance that finds them must find the new epoch as well.
        await self._redis.set(self._generation_key, f"{fresh_epoch()}.0")
        for script in (self._scripts.look, self._scripts.store, self._scripts.remove):
            await cast("Awaitable[object]", self._redis.script_load(script.text))
