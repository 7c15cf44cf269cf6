"""The generator: sends each request when it is due, whatever the earlier ones do, and records it.

Open model: the schedule never waits for answers. A request whose time has come takes an idle
connection; if there is none it waits while a new connection is opened, up to the plan's cap, and
the wait counts, because latency runs from the due time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import cycle
from typing import Any

from loadtests.engine.clock import PreciseTimer
from loadtests.engine.connection import Connection
from loadtests.engine.health import HealthWatch
from loadtests.engine.plan import Plan, request_bytes
from loadtests.engine.samples import (
    Failure,
    Generator,
    Measurement,
    Recorder,
    Summary,
    arrays_of,
    count_failures,
)
from loadtests.engine.schedule import LiveSchedule, due_times
from loadtests.engine.sockets import (
    Way,
    allow_open_files,
    client_tls,
    connected_socket,
    look_up,
)

_now = time.perf_counter
_LEAD = 0.05  # seconds between the end of the preparations and the schedule's start
_SWEEP = 0.1  # seconds between two looks for requests whose time is over
_NEVER = float("inf")

Finished = Callable[[int], None]


class LoadGenerator:
    """Carries out one plan in the running event loop.

    Args:
        plan: what to send and when.
        finished: called with the sample's number whenever one is complete or has failed.
    """

    def __init__(self, plan: Plan, finished: Finished | None = None) -> None:
        self.plan = plan
        self.recorder = Recorder()
        self._finished = finished
        self._wire = [request_bytes(plan, request) for request in plan.requests]
        self._expected = [
            (frozenset(request.expect_status), request.expect_body.encode())
            for request in plan.requests
        ]
        self._idempotent = [request.method in ("GET", "PUT", "DELETE") for request in plan.requests]
        self._watch = (
            re.compile(
                rb"\r\n" + re.escape(plan.watch_header.encode()) + rb":[ \t]*([^\r\n]*)",
                re.IGNORECASE,
            )
            if plan.watch_header
            else None
        )
        groups = plan.groups
        self._group_of_request = [groups.index(request.group) for request in plan.requests]
        self._order = plan.order or tuple(range(len(plan.requests)))
        self._addresses: Iterator[str | None] = cycle(plan.addresses or (None,))
        self._idle: deque[Connection] = deque()
        self._waiting: deque[int] = deque()
        self._busy: dict[Connection, int] = {}
        self._open: set[Connection] = set()
        self._attempts: set[asyncio.Task[None]] = set()
        self._opening = 0
        self._way: Way | None = None
        self._fault: BaseException | None = None
        self._resent: set[int] = set()
        self._health = HealthWatch()
        self._connections = 0
        self._connections_at_once = 0
        self._next_place = 0
        self._start = 0.0
        self._started = ""
        self._over = False
        self._drained: asyncio.Event
        self._all_closed: asyncio.Event
        self._timer: PreciseTimer | None = None

    @property
    def outstanding(self) -> int:
        """Requests that are due and neither answered nor failed."""
        return len(self._busy) + len(self._waiting)

    @property
    def groups_of_requests(self) -> list[int]:
        """For each of the plan's requests the index of its group."""
        return self._group_of_request

    # The two ways to run

    async def run(self) -> Measurement:
        """Carry out the whole schedule, wait for what is outstanding, and return the samples."""
        due = due_times(self.plan.schedule).tolist()
        await self._prepare()
        try:
            position = 0

            def ring() -> None:
                nonlocal position
                while position < len(due):
                    when = due[position]
                    now = _now() - self._start
                    if when > now:
                        assert self._timer is not None
                        self._timer.set(self._start + when)
                        return
                    position += 1
                    self._dispatch(when, now)
                self._end_of_schedule()

            await self._carry_out(ring)
        finally:
            await self._clear_away()
        return self.measurement(self.plan.schedule.seconds)

    async def run_live(self, rates: asyncio.Queue[float | None]) -> Measurement:
        """Send at a rate that changes with each number in the queue, until it holds None."""
        schedule = LiveSchedule(self.plan.schedule.arrivals, self.plan.schedule.seed)
        await self._prepare()

        def ring() -> None:
            while (when := schedule.next_due) <= (now := _now() - self._start):
                self._dispatch(schedule.advance(), now)
            if when != _NEVER and not self._over:
                assert self._timer is not None
                self._timer.set(self._start + when)

        async def follow() -> None:
            while (rate := await rates.get()) is not None:
                schedule.change_rate(rate, _now() - self._start)
                ring()
            schedule.change_rate(0.0, _now() - self._start)
            self._end_of_schedule()

        follower = asyncio.create_task(follow())
        try:
            await self._carry_out(ring)
            await follower
            seconds = _now() - self._start
        finally:
            follower.cancel()
            await self._clear_away()
        return self.measurement(seconds)

    def measurement(self, seconds: float) -> Measurement:
        """The samples so far."""
        health = self._health
        arrays = arrays_of(self.recorder, self._group_of_request)
        summary = Summary(
            groups=self.plan.groups,
            rate=self.recorder.count / seconds,
            seconds=seconds,
            started=self._started,
            arrivals=self.plan.schedule.arrivals.value,
            origin=self.plan.origin,
            watch_header=self.plan.watch_header,
            watched=tuple(self.recorder.watched_values),
            generator=Generator(
                cpu_share=round(health.cpu_share, 4),
                cpu_share_worst=round(health.cpu_share_worst, 4),
                lateness_ms=health.lateness_ms(),
                lag_ms=health.lag_ms(),
                connections=self._connections,
                connections_at_once=self._connections_at_once,
                resent=len(self._resent),
                cpu_seconds=round(health.cpu_seconds, 4),
            ),
            failures=count_failures(arrays["failure"]),
        )
        return Measurement(arrays, summary)

    # Steps of a run

    async def _prepare(self) -> None:
        plan = self.plan
        self._loop = asyncio.get_running_loop()
        self._handler_before = self._loop.get_exception_handler()
        self._loop.set_exception_handler(self._stop_on_fault)
        self._drained = asyncio.Event()
        self._all_closed = asyncio.Event()
        allow_open_files(plan.max_connections + 64)
        split = plan.split_origin
        self._hostname = split.hostname or ""
        self._tls = client_tls(plan.ca) if split.scheme == "https" else None
        with contextlib.suppress(OSError):  # every request will say that it could not connect
            self._way = await look_up(self._hostname, plan.port, plan.addresses)
        for _ in range(plan.connections):
            self._open_one()
        if self._attempts:
            await asyncio.wait(set(self._attempts), timeout=plan.timeout)

    async def _carry_out(self, ring: Callable[[], None]) -> None:
        self._start = _now() + _LEAD
        self._started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._timer = PreciseTimer(self._loop, ring)
        self._sweeper = self._loop.call_later(_SWEEP, self._sweep)
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection would be a pause of the generator's own
        self._health.start()
        try:
            self._timer.set(self._start)
            await self._drained.wait()
            if self._fault is not None:
                raise self._fault
        finally:
            self._health.stop()
            gc.enable()
            gc.unfreeze()
            self._sweeper.cancel()

    async def _clear_away(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        self._over = True
        for task in self._attempts:
            task.cancel()
        if self._attempts:
            await asyncio.wait(self._attempts)
        for connection in list(self._open):
            connection.close()
        if self._open:
            with contextlib.suppress(TimeoutError):  # TLS that is not closed politely is dropped
                await asyncio.wait_for(self._all_closed.wait(), 1.0)
        self._loop.set_exception_handler(self._handler_before)

    def _stop_on_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # A fault of the generator must not look like one of the target: end the run with it.
        exception = context.get("exception")
        if isinstance(exception, OSError):
            return  # a transport's trouble; its connection has been told
        self._fault = exception or RuntimeError(str(context.get("message")))
        self._drained.set()

    def _end_of_schedule(self) -> None:
        self._over = True
        self._drain_if_done()

    def _drain_if_done(self) -> None:
        if self._over and not self._busy and not self._waiting:
            self._drained.set()

    def _dispatch(self, due: float, now: float) -> None:
        order = self._order
        request = order[self._next_place % len(order)]
        self._next_place += 1
        sample = self.recorder.add(due, request)
        self._health.lateness.append(now - due)
        idle = self._idle
        while idle:
            connection = idle.popleft()
            if not connection.closing:
                self._send(connection, sample)
                return
        self._wait(sample)

    def _wait(self, sample: int) -> None:
        self._waiting.append(sample)
        self._open_for_waiting()

    def _open_for_waiting(self) -> None:
        """One attempt for each waiting request, as far as the cap allows."""
        if self._opening < len(self._waiting) and (
            len(self._open) + self._opening < self.plan.max_connections
        ):
            self._open_one()

    def _send(self, connection: Connection, sample: int) -> None:
        recorder = self.recorder
        self._busy[connection] = sample
        recorder.failure[sample] = Failure.TIMEOUT  # until something better is known
        recorder.sent[sample] = _now() - self._start
        connection.send(sample, self._wire[recorder.request[sample]])

    def _sweep(self) -> None:
        """Give up what was due longer ago than the time-out."""
        limit = _now() - self._start - self.plan.timeout
        due = self.recorder.due
        while self._waiting and due[self._waiting[0]] < limit:
            self._finish(self._waiting.popleft(), Failure.NOT_SENT)
        for connection, sample in list(self._busy.items()):
            if due[sample] < limit:
                del self._busy[connection]
                connection.give_up()
                self._finish(sample, Failure.TIMEOUT)
        self._sweeper = self._loop.call_later(_SWEEP, self._sweep)

    def _finish(self, sample: int, failure: Failure) -> None:
        self.recorder.failure[sample] = failure
        if self._finished is not None:
            self._finished(sample)
        self._drain_if_done()

    # Opening connections

    def _open_one(self) -> None:
        self._opening += 1
        task = self._loop.create_task(self._connect(next(self._addresses)))
        self._attempts.add(task)
        task.add_done_callback(self._attempts.discard)

    async def _connect(self, address: str | None) -> None:
        connection = Connection(self)
        try:
            async with asyncio.timeout(self.plan.timeout):
                await self._connect_from(address, connection)
        except (OSError, TimeoutError):  # ssl.SSLError is an OSError
            if connection.was_up:
                return  # `opened` has counted it
            self._opening -= 1
            # One attempt answers for one waiting request: against a dead host every request
            # says so at once, and no attempt is repeated without a request that wants it.
            if self._waiting and not self._idle:
                self._finish(self._waiting.popleft(), Failure.CONNECT)
                self._open_for_waiting()

    async def _connect_from(self, address: str | None, connection: Connection) -> None:
        if self._way is None:
            raise OSError(f"{self._hostname} has no address")
        sock = await connected_socket(self._way, address)
        try:
            await self._loop.create_connection(
                lambda: connection,
                sock=sock,
                ssl=self._tls,
                server_hostname=self._hostname if self._tls else None,
                ssl_handshake_timeout=self.plan.timeout if self._tls else None,
            )
        except BaseException:
            sock.close()
            raise

    # What connections tell (connection.Owner)

    def first_byte(self, sample: int) -> None:
        """Note when the answer began."""
        self.recorder.first_byte[sample] = _now() - self._start

    def answered(
        self, connection: Connection, sample: int, status: int, chunks: list[bytes], head: bytes
    ) -> None:
        """Note the complete answer, judge it, and use the connection for who waits longest."""
        recorder = self.recorder
        recorder.done[sample] = _now() - self._start
        self._busy.pop(connection, None)
        if not connection.closing:
            self._give_work(connection)
        recorder.status[sample] = status
        statuses, fragment = self._expected[recorder.request[sample]]
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        recorder.size[sample] = len(body)
        if self._watch is not None and (found := self._watch.search(head)):
            recorder.watch(sample, found[1].decode("latin-1").strip())
        if status not in statuses:
            failure = Failure.STATUS
        elif fragment and fragment not in body:
            failure = Failure.BODY
        else:
            failure = Failure.NONE
        self._finish(sample, failure)

    def failed(self, connection: Connection, sample: int, failure: Failure, reusable: bool) -> None:
        """Note the failure; or send again what an idle connection's closing swallowed."""
        if self._busy.pop(connection, None) is None:
            return
        request = self.recorder.request[sample]
        if reusable and self._idempotent[request] and sample not in self._resent:
            self._resent.add(sample)
            self._wait_first(sample)
            return
        self._finish(sample, failure)

    def _wait_first(self, sample: int) -> None:
        while self._idle:
            connection = self._idle.popleft()
            if not connection.closing:
                self._send(connection, sample)
                return
        self._waiting.appendleft(sample)  # `closed` follows at once and opens a connection

    def opened(self, connection: Connection) -> None:
        """Take a new connection into the pool."""
        self._opening -= 1
        self._open.add(connection)
        self._connections += 1
        self._connections_at_once = max(self._connections_at_once, len(self._open))
        self._give_work(connection)

    def closed(self, connection: Connection) -> None:
        """Forget a connection; replace it when somebody waits or the pool fell below its size."""
        self._open.discard(connection)
        if not self._open:
            self._all_closed.set()
        self._open_for_waiting()
        # One that never answered is not replaced: a server that accepts and closes at once
        # would be hammered without a request wanting it.
        short = len(self._open) + self._opening < self.plan.connections
        if short and connection.answers and not self._over:
            self._open_one()

    def _give_work(self, connection: Connection) -> None:
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)
