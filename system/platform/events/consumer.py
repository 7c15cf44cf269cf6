"""Takes events from a service's queue and lets each take effect once (R3.42-R3.50)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import AMQPError, ChannelClosed
from pamqp import commands

from system.platform.database import Database, Transaction
from system.platform.events import catalogue, copies
from system.platform.events.backoff import Backoff
from system.platform.events.connection import (
    FIRST_DELAY_S,
    MOST_DELAY_S,
    Connection,
    cancelled_by_caller,
    close_quietly,
)
from system.platform.events.diagnostics import ProbeFailed, ProbeStore
from system.platform.events.envelope import Event, Malformed, causing, now, parse
from system.platform.http.errors import ApiError
from system.platform.observability import error_reports
from system.platform.observability.metrics import (
    EVENT_DELIVERY_LATENCY_SECONDS,
    EVENT_HANDLING_DURATION_SECONDS,
    EVENTS_CONSUMED_TOTAL,
    OTHER,
)

_log = logging.getLogger(__name__)

# Raises to be tried again; gets the transaction in which its effect and the inbox row commit.
Handler = Callable[[Event, Transaction], Awaitable[None]]
AfterCommit = Callable[[], Awaitable[object]]

PREFETCH: Final = 10
HANDLER_TIMEOUT_S: Final = 10.0
DRAIN_S: Final = 10.0
DOUBTFUL_HOLDS: Final = 2
KEPT_DAYS: Final = 8
_FORGET_EVERY_S: Final = 3_600.0

_TAKE: Final = """
INSERT INTO inbox (event_id, consumer) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true
"""
_FORGET: Final = f"""
DELETE FROM inbox WHERE processed_at < now() - interval '{KEPT_DAYS} days'
"""

_after_commit: ContextVar[list[AfterCommit] | None] = ContextVar("after_commit", default=None)


def after_commit(action: AfterCommit) -> None:
    """Have `action` run when the running handler's effect is committed, before the ack (R6.6).

    For effects outside the database, such as cache invalidation. An action that fails is logged
    and does not undo or repeat the effect; a crash between commit and action loses the action.

    Raises:
        RuntimeError: called outside a handler.
    """
    actions = _after_commit.get()
    if actions is None:
        raise RuntimeError("after_commit was called outside a handler; call it while one runs")
    actions.append(action)


class _Interrupted(Exception):
    """The broker or the caller went away while a message was held; it will come again."""


class Consumer:
    """Reads one queue, one message after the other, so that effects keep their order (R3.45).

    Args:
        connection: to the broker.
        queue: a service's queue, such as `payments.events.queue`; also its name in the inbox.
        handlers: by event type; a type without one is acknowledged and nothing else (R3.9).
        db: the service's database.
        probes: store of diagnostic probes, None while diagnostics are off (R3.52).
    """

    def __init__(
        self,
        connection: Connection,
        queue: str,
        handlers: Mapping[str, Handler],
        db: Database,
        *,
        probes: ProbeStore | None = None,
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._db = db
        self._probes = probes
        self._handlers = dict(handlers)
        self._closing = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._copies: AbstractChannel | None = None
        self._forget_at = 0.0
        self._duration = EVENT_HANDLING_DURATION_SECONDS.labels(queue)
        self._latency = EVENT_DELIVERY_LATENCY_SECONDS.labels(queue)

    async def start(self) -> None:
        """Begin; returns at once whatever state broker and database are in (R0.10)."""
        if self._task is None:
            self._closing.clear()
            self._task = asyncio.create_task(self._run(), name=f"consumer of {self._queue}")

    async def close(self) -> None:
        """Take no more messages, finish the running one within 10 s, stop (R0.11)."""
        task, self._task = self._task, None
        if task is None:
            return
        self._closing.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._idle.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        delay = Backoff(FIRST_DELAY_S, MOST_DELAY_S)
        while not self._closing.is_set():
            await self._connection.ready()
            try:
                await self._consume(delay)
            except asyncio.CancelledError:
                if cancelled_by_caller():
                    raise
                reason = "channel closed"
            except Exception as error:
                # Nothing that a message or the broker does may end a consumer (R3.48).
                reason = f"{type(error).__name__}: {error}"
            if self._closing.is_set():
                return
            _log.warning("consumer of %s starts again: %s", self._queue, reason)
            await asyncio.sleep(delay.next())
            await self._mend()

    async def _mend(self) -> None:
        """Declare what somebody may have deleted while the connection stood (R3.8)."""
        if not self._connection.connected:
            return  # the connection declares everything when it is back
        try:
            await self._connection.declare()
        except asyncio.CancelledError:
            if cancelled_by_caller():
                raise
        except Exception as error:
            _log.warning("the topology was not declared: %s", type(error).__name__)

    async def _consume(self, delay: Backoff) -> None:
        channel = await self._connection.channel(confirms=False)
        arrived: asyncio.Queue[DeliveredMessage | None] = asyncio.Queue()
        try:
            await channel.basic_qos(prefetch_count=PREFETCH)
            # Opened now, so that the first failure does not pay for it in its delay (R3.46).
            self._copies = await self._connection.channel(confirms=True)
            channel.on_consumer_cancel_callbacks.add(lambda _: arrived.put_nowait(None))
            channel.closing.add_done_callback(lambda _: arrived.put_nowait(None))
            await channel.basic_consume(self._queue, arrived.put)
            delay.reset()
            while True:
                message = await arrived.get()
                if message is None or channel.is_closed:
                    raise ConnectionError("the broker ended the consumer")
                if self._closing.is_set():
                    return
                self._idle.clear()
                try:
                    await self._take(channel, message)
                finally:
                    self._idle.set()
                await self._forget()
        finally:
            copying, self._copies = self._copies, None
            if copying is not None:
                await close_quietly(copying)
            await close_quietly(channel)

    async def _take(self, channel: AbstractChannel, message: DeliveredMessage) -> None:
        started = time.perf_counter()
        event_type = OTHER
        try:
            event = parse(message.body, probes=self._probes is not None)
        except Malformed as malformed:
            await self._fail(message, malformed, "malformed")
            outcome = "dead_lettered"
        else:
            event_type = catalogue.label(event.type)
            handler = self._handler(event.type)
            if handler is None:
                outcome = "ok"
            else:
                outcome = await self._handle(channel, message, event, handler)
                if outcome in ("ok", "duplicate"):
                    self._latency.observe(_age(event.timestamp))
        await channel.basic_ack(_tag(message), wait=False)
        self._duration.observe(time.perf_counter() - started)
        EVENTS_CONSUMED_TOTAL.labels(self._queue, event_type, outcome).inc()

    def _handler(self, event_type: str) -> Handler | None:
        if event_type == catalogue.PROBE and self._probes is not None:
            return _probe_handler
        return self._handlers.get(event_type)

    async def _handle(
        self,
        channel: AbstractChannel,
        message: DeliveredMessage,
        event: Event,
        handler: Handler,
    ) -> str:
        delay = Backoff(0.25, 2.0)
        done = copies.attempts_done(message)
        doubtful = 0
        while True:
            try:
                with causing(event, self._queue, copies.headers_of(message)):
                    if await self._effect(event, handler, done):
                        return "ok"
                    return "duplicate"
            except asyncio.CancelledError:
                if cancelled_by_caller():
                    raise
                error: BaseException = RuntimeError("the handler was cancelled")
            except Exception as raised:
                error = raised
            if not (isinstance(error, ApiError) and error.status == 503):
                break
            if not await self._database_away():
                # It may have come back since the attempt. The database layer raises 503 from the
                # trouble it had; but a statement that always times out looks the same, so the
                # benefit of the doubt is small.
                doubtful += 1
                if error.__cause__ is None or doubtful > DOUBTFUL_HOLDS:
                    break
            # A database that is away is no fault of the message: it is held, not retried into
            # the dead letters. Order is kept and nothing is lost.
            _log.warning("consumer of %s waits for its database", self._queue)
            await self._hold(channel, delay.next())
        copied = await self._fail(message, error, "handler")
        if copied.retried:
            return "retried"
        if not isinstance(error, ProbeFailed):
            error_reports.report(error)  # nobody's request sees it fail (R7.19)
        return "dead_lettered"

    async def _effect(self, event: Event, handler: Handler, attempts_done: int) -> bool:
        """Let the event take effect in one transaction with its inbox row; False if it had."""
        actions: list[AfterCommit] = []
        token = _after_commit.set(actions)
        try:
            async with asyncio.timeout(HANDLER_TIMEOUT_S), self._db.transaction() as tx:
                if not await tx.fetchval(
                    _TAKE, event.id, self._queue, operation="insert", table="inbox"
                ):
                    return False
                if handler is _probe_handler and self._probes is not None:
                    self._probes.attempt(event, self._queue, attempts_done)
                else:
                    await handler(event, tx)
        finally:
            _after_commit.reset(token)
        if handler is _probe_handler and self._probes is not None:
            self._probes.processed(event)
        for action in actions:
            try:
                await action()
            except Exception as error:
                _log.warning(
                    "after %s %s: %s: %s", event.type, event.id, type(error).__name__, error
                )
        return True

    async def _database_away(self) -> bool:
        try:
            await self._db.ping()
        except (ApiError, TimeoutError):
            return True
        return False

    async def _hold(self, channel: AbstractChannel, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        if channel.is_closed or self._closing.is_set():
            raise _Interrupted(f"a message of {self._queue} was held when its channel went")

    async def _fail(
        self, message: DeliveredMessage, error: BaseException, kind: copies.FailureKind
    ) -> copies.Copy:
        """Publish the copy for retry queue or DLQ and wait for its confirm (R3.49)."""
        copied = copies.after_failure(
            message,
            queue=self._queue,
            error=error,
            kind=kind,
            at=now(),
            user=self._connection.user,
        )
        try:
            await self._publish(copied)
        except (ChannelClosed, TypeError, ValueError):
            await self._publish(copies.bare(copied))
        _log.warning(
            "message %s of %s failed, %s: %s",
            message.header.properties.message_id,
            self._queue,
            f"goes to {copied.routing_key}" if copied.retried else "is dead",
            copies.error_text(error),
        )
        return copied

    async def _publish(self, copied: copies.Copy) -> None:
        channel = self._copies
        if channel is None or channel.is_closed:
            channel = self._copies = await self._connection.channel(confirms=True)
        result = await channel.basic_publish(
            copied.body,
            exchange=copied.exchange,
            routing_key=copied.routing_key,
            properties=copied.properties,
            mandatory=True,
        )
        if not isinstance(result, commands.Basic.Ack):
            raise AMQPError(f"the copy for {copied.routing_key} was not confirmed: {result!r}")

    async def _forget(self) -> None:
        if time.monotonic() < self._forget_at:
            return
        first, self._forget_at = self._forget_at == 0.0, time.monotonic() + _FORGET_EVERY_S
        if first:
            return  # not in the first moments of a process, when there is enough to do
        try:
            await self._db.execute(_FORGET, operation="delete", table="inbox")
        except Exception as error:
            _log.warning("inbox: old rows were not deleted: %s", type(error).__name__)


async def _probe_handler(event: Event, tx: Transaction) -> None:
    """Marks diagnostic probes; their effect is an entry in the probe store (R3.52)."""


def _tag(message: DeliveredMessage) -> int:
    tag = message.delivery_tag
    if tag is None:
        raise TypeError("seen a message without a delivery tag, expected one from a queue")
    return tag


def _age(timestamp: str) -> float:
    """Seconds since an event's timestamp; 0 for one from the future."""
    moment = datetime.fromisoformat(timestamp)
    return max(0.0, (datetime.now(UTC) - moment).total_seconds())
