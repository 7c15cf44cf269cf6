"""Writes events beside the change that causes them, and publishes them later (R3.16-R3.21)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from system.platform.events import catalogue
from system.platform.events.backoff import Backoff
from system.platform.events.connection import Connection, cancelled_by_caller
from system.platform.events.envelope import Event, validate
from system.platform.events.publisher import NotPublished, Outgoing, Publisher
from system.platform.events.redis_channel import RedisChannel
from system.platform.observability.metrics import EVENTS_PUBLISHED_TOTAL, OUTBOX_PENDING

_log = logging.getLogger(__name__)

CHANNEL: Final = "outbox"
# Any constant will do: advisory locks are per database, and nothing else here takes one.
LOCK_KEY: Final = 0x6F7574626F78
BATCH: Final = 200
# The bound of R3.18 less the time to publish; notifications usually come long before.
POLL_S: Final = 0.4
LEADER_POLL_S: Final = 0.5
GAUGE_EVERY_S: Final = 5.0
QUERY_TIMEOUT_S: Final = 5.0
FIRST_DELAY_S: Final = 1.0
MOST_DELAY_S: Final = 5.0
DRAIN_S: Final = 3.0
KEPT_DAYS: Final = 7

# One statement for row and notification. PostgreSQL delivers it at commit, and only then.
_ADD: Final = f"""
WITH written AS (
    INSERT INTO outbox (event_id, event_type, routing_key, envelope)
    VALUES ($1, $2, $3, $4) RETURNING seq
)
SELECT pg_notify('{CHANNEL}', '') FROM written
"""
# By seq, and always from the oldest unpublished row: rows become visible out of order, so the
# highest seq seen says nothing about what is still to come (R3.17).
_PENDING: Final = """
SELECT seq, event_id, event_type, routing_key, envelope FROM outbox
WHERE published_at IS NULL ORDER BY seq LIMIT $1
"""
_MARK: Final = "UPDATE outbox SET published_at = now() WHERE seq = ANY($1::bigint[])"
_COUNT: Final = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
_FORGET: Final = f"""
DELETE FROM outbox WHERE seq IN (
    SELECT seq FROM outbox WHERE published_at < now() - interval '{KEPT_DAYS} days' LIMIT 5000
)
"""


class Writer(Protocol):
    """What `add` needs of a transaction (system/platform/database.py)."""

    async def execute(
        self, sql: str, *args: Any, operation: str | None = None, table: str | None = None
    ) -> str: ...


class Sessions(Protocol):
    """What the relay needs of a database (system/platform/database.py)."""

    async def connect(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Row:
    """An unpublished row of the outbox."""

    seq: int
    event_id: str
    event_type: str
    routing_key: str
    envelope: Mapping[str, Any]

    @property
    def aggregate(self) -> str:
        """What the event is about: events of one aggregate never overtake each other."""
        data = self.envelope.get("data") or {}
        for name in ("paymentId", "userId", "key"):
            value = data.get(name)
            if value:
                return f"{name}:{value}"
        return self.event_type


async def add(tx: Writer, event: Event) -> None:
    """Write an event in the transaction of the change it tells about (R3.16).

    Lock the row of the aggregate before (an UPDATE or SELECT … FOR UPDATE does), so that the
    order of the outbox is the order of the commits.

    Raises:
        Malformed: the event breaks the rule of its type.
    """
    validate(event)
    await tx.execute(
        _ADD,
        event.id,
        event.type,
        event.routing_key,
        msgspec.to_builtins(event),
        operation="insert",
        table="outbox",
    )


def windows(rows: Iterable[Row]) -> list[list[Row]]:
    """Split rows into windows that may be published at once: no aggregate twice in one.

    A row waits for the window after that of its aggregate's earlier row, so a refused message
    is never overtaken by a later one about the same thing (R3.19).
    """
    found: list[list[Row]] = []
    last: dict[str, int] = {}
    for row in rows:
        place = last.get(row.aggregate, -1) + 1
        last[row.aggregate] = place
        if place == len(found):
            found.append([])
        found[place].append(row)
    return found


class Relay:
    """Publishes the outbox of one database; at most one instance per database is active (R3.17).

    Args:
        db: the service's database; the relay opens a connection of its own.
        connection: to the broker.
        also: where confirmed events are repeated during cut-over (R9.13); the relay starts and
            closes it.
    """

    def __init__(
        self, db: Sessions, connection: Connection, also: RedisChannel | None = None
    ) -> None:
        self._db = db
        self._connection = connection
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._publisher = Publisher(connection)
        self._also = also

    async def start(self) -> None:
        """Begin; returns at once whatever state database and broker are in (R0.10)."""
        if self._task is None:
            self._closing = False
            if self._also is not None:
                self._also.start()
            self._task = asyncio.create_task(self._run(), name="outbox relay")

    async def close(self) -> None:
        """Publish what can be published within 3 s, then stop (R0.11); the rest stays written."""
        task, self._task = self._task, None
        if task is None:
            return
        self._closing = True
        self._wake.set()
        done, _ = await asyncio.wait({task}, timeout=DRAIN_S)
        if not done:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if self._also is not None:
            await self._also.close()

    async def _run(self) -> None:
        delay = Backoff(FIRST_DELAY_S, MOST_DELAY_S)
        while not self._closing:
            session = None
            try:
                session = await self._db.connect()
                await self._lead(session, delay)
            except asyncio.CancelledError:
                if cancelled_by_caller():
                    raise
            except Exception as error:
                _log.warning("outbox relay: %s: %s", type(error).__name__, error)
            finally:
                if session is not None:
                    # The lock goes with the session, so that another instance can take over.
                    session.terminate()
            if not self._closing:
                await self._pause(delay.next())

    async def _lead(self, session: Any, delay: Backoff) -> None:
        while not await session.fetchval(
            "SELECT pg_try_advisory_lock($1)", LOCK_KEY, timeout=QUERY_TIMEOUT_S
        ):
            await self._pause(LEADER_POLL_S)
            if self._closing:
                return
        await session.add_listener(CHANNEL, lambda *_: self._wake.set())
        delay.reset()
        failures = Backoff(FIRST_DELAY_S, MOST_DELAY_S)
        forget_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            if not self._connection.connected:
                OUTBOX_PENDING.set(await session.fetchval(_COUNT, timeout=QUERY_TIMEOUT_S))
                if self._closing:
                    return
                await self._wait_for_broker()
                continue
            rows = await self._pending(session)
            if rows:
                try:
                    await self._publish(session, rows)
                except NotPublished as refused:
                    _log.warning("outbox relay: %s", refused)
                    if self._closing:
                        return
                    await self._pause(failures.next())
                else:
                    failures.reset()
                continue
            if self._closing:
                return
            if loop.time() >= forget_at:
                forget_at = loop.time() + 3600.0
                await self._forget(session)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()

    async def _pending(self, session: Any) -> list[Row]:
        found = await session.fetch(_PENDING, BATCH, timeout=QUERY_TIMEOUT_S)
        pending = len(found)
        if pending == BATCH:
            pending = await session.fetchval(_COUNT, timeout=QUERY_TIMEOUT_S)
        OUTBOX_PENDING.set(pending)
        return [Row(**dict(row)) for row in found]

    async def _publish(self, session: Any, rows: Sequence[Row]) -> None:
        confirmed: list[Row] = []
        failed: dict[str, str] = {}
        for window in windows(rows):
            outcomes = await self._publisher.send(
                [Outgoing(row.envelope, row.routing_key) for row in window]
            )
            for row, trouble in zip(window, outcomes, strict=True):
                if trouble is None:
                    confirmed.append(row)
                else:
                    failed[row.event_id] = trouble
            if failed:
                break
        if self._also is not None:
            for row in confirmed:
                self._also.add(row.event_type, msgspec.json.encode(row.envelope))
        if confirmed:
            await session.execute(_MARK, [row.seq for row in confirmed], timeout=QUERY_TIMEOUT_S)
        for row in confirmed:
            EVENTS_PUBLISHED_TOTAL.labels(catalogue.label(row.event_type)).inc()
        OUTBOX_PENDING.dec(len(confirmed))
        if failed:
            raise NotPublished(failed, len(rows))

    async def _wait_for_broker(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GAUGE_EVERY_S):
                ready = asyncio.ensure_future(self._connection.ready())
                closing = asyncio.ensure_future(self._wake_for_closing())
                try:
                    await asyncio.wait({ready, closing}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    ready.cancel()
                    closing.cancel()

    async def _wake_for_closing(self) -> None:
        while not self._closing:
            self._wake.clear()
            await self._wake.wait()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake_for_closing()

    async def _forget(self, session: Any) -> None:
        try:
            await session.execute(_FORGET, timeout=QUERY_TIMEOUT_S)
        except Exception as error:
            _log.warning("outbox: published rows were not deleted: %s", type(error).__name__)
