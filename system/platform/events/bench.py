"""Measures the event hub beside a bare client: `python -m system.platform.events.bench` (2 min).

Both sides publish persistent messages of the same size with publisher confirms and consume them
with manual acknowledgement, over the same broker (RABBITMQ_URL), in one run, in turn; the hub's
figure is shown as a share of the bare client's (aio-pika without envelope, validation, metrics or
tracing).  Everything goes through exchanges of its own, which no service hears and which are
deleted at the end.

Throughput: windows of 100 messages, as fast as they are confirmed; counted is what was handled.
Latency: 500 messages a second, each sent when it is due whatever became of the earlier ones; from
the moment it was due to the moment it was handled (R11.9, R11.10).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from uuid import uuid4

import aio_pika
import uvloop
from aio_pika.abc import AbstractIncomingMessage

from system.platform.events.connection import Connection
from system.platform.events.envelope import Event, new_event
from system.platform.events.hub import EventContext, EventHub
from system.platform.events.topology import SERVICES, topology

EXCHANGE: Final = "bench"
WINDOW: Final = 100
PREFETCH: Final = 100
RATE: Final = 500.0
SETTLE_S: Final = 10.0
TARGET_SHARE: Final = 0.8
TARGET_RATE: Final = 1_000.0
TARGET_P95_MS: Final = 20.0


class CouldNotMeasure(Exception):
    """The broker or this machine did not keep up; there is no figure."""


class Side(Protocol):
    """One way to publish and consume.

    Attributes:
        name: in the output.
    """

    name: str

    async def open(self, handled: Callable[[int], None]) -> None:
        """Connect and consume; `handled` hears the number of every message, before its ack."""

    def publish(self, numbers: Sequence[int]) -> Coroutine[Any, Any, None]:
        """Publish these and wait for all confirms."""

    async def close(self) -> None:
        """End it."""


class HubSide:
    """The event hub, as `EventHub` offers it."""

    name = "hub"

    def __init__(self, url: str) -> None:
        self._connection = Connection(url, name="bench", exchange=EXCHANGE)
        self._hub = EventHub(self._connection)

    async def open(self, handled: Callable[[int], None]) -> None:
        """See `Side.open`."""
        await self._connection.start()
        await self._connection.ready()
        await _leave_services_alone(self._connection)

        async def take(event: Event, _context: EventContext) -> None:
            handled(event.data["number"])

        self._subscription = await self._hub.subscribe(take, prefetch=PREFETCH)

    async def publish(self, numbers: Sequence[int]) -> None:
        """See `Side.publish`."""
        await self._hub.publish_batch([_event(number) for number in numbers])

    async def close(self) -> None:
        """See `Side.close`."""
        await self._subscription.close()
        channel = await self._connection.channel()
        await channel.exchange_delete(EXCHANGE)
        await self._connection.close()


class BareSide:
    """aio-pika with nothing around it."""

    name = "bare"

    def __init__(self, url: str) -> None:
        self._url = url
        self._filling = _event(0).encode()[8:]

    async def open(self, handled: Callable[[int], None]) -> None:
        """See `Side.open`."""
        self._connection = await aio_pika.connect(self._url)
        consuming = await self._connection.channel(publisher_confirms=False)
        await consuming.set_qos(prefetch_count=PREFETCH)
        self._channel = await self._connection.channel(publisher_confirms=True)
        self._exchange = await self._channel.declare_exchange(
            f"{EXCHANGE}.bare", aio_pika.ExchangeType.TOPIC, durable=True
        )
        queue = await consuming.declare_queue(f"{EXCHANGE}.{uuid4()}", exclusive=True)
        await queue.bind(f"{EXCHANGE}.bare", "#")

        async def take(message: AbstractIncomingMessage) -> None:
            handled(int.from_bytes(message.body[:8], "big"))
            await message.ack()

        await queue.consume(take)

    async def publish(self, numbers: Sequence[int]) -> None:
        """See `Side.publish`."""
        await asyncio.gather(
            *(
                self._exchange.publish(
                    aio_pika.Message(
                        number.to_bytes(8, "big") + self._filling,
                        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                        message_id=str(number),
                    ),
                    routing_key="auth.bench.tick",
                    mandatory=True,
                )
                for number in numbers
            )
        )

    async def close(self) -> None:
        """See `Side.close`."""
        await self._exchange.delete()
        await self._connection.close()


def _event(number: int) -> Event:
    return new_event("bench.tick", {"number": number}, source="auth", actor_id=None)


async def _leave_services_alone(connection: Connection) -> None:
    """Take the services' queues off the bench's exchange, to which the topology binds them."""
    channel = await connection.channel()
    services = {f"{service}.events.queue" for service in SERVICES}
    for binding in topology(EXCHANGE).bindings:
        if binding.exchange == EXCHANGE and binding.queue in services:
            await channel.queue_unbind(
                queue=binding.queue, exchange=EXCHANGE, routing_key=binding.routing_key
            )
    await channel.close()


@dataclass(frozen=True, slots=True)
class Throughput:
    """Messages a second, handled, and the seconds of CPU each took in this process."""

    rate: float
    cpu_us: float


async def throughput(side: Side, seconds: float) -> Throughput:
    """Publish windows until `seconds` are over; count what was handled by then.

    Raises:
        CouldNotMeasure: not all were handled `SETTLE_S` later.
    """
    handled = 0
    done = asyncio.Event()
    sent = 0

    def count(number: int) -> None:
        nonlocal handled
        if number < WINDOW:  # the first one, which opens the channels, does not count
            handled += 1
        if handled >= sent:
            done.set()

    await side.open(count)
    try:
        await side.publish((WINDOW,))
        started, cpu = time.perf_counter(), time.process_time()
        while not sent or time.perf_counter() - started < seconds:
            done.clear()
            sent += WINDOW
            await side.publish(range(WINDOW))
        async with asyncio.timeout(SETTLE_S):
            while handled < sent:
                done.clear()
                await done.wait()
        took = time.perf_counter() - started
        return Throughput(handled / took, (time.process_time() - cpu) / handled * 1e6)
    except TimeoutError as error:
        seen = f"{handled} of {sent} messages handled {SETTLE_S:.0f} s after the last was confirmed"
        raise CouldNotMeasure(f"{side.name}: {seen}") from error
    finally:
        await side.close()


async def latency(side: Side, seconds: float, rate: float = RATE) -> list[float]:
    """Milliseconds from due to handled of every message, in the order of their numbers.

    Raises:
        CouldNotMeasure: one was not published, or not handled `SETTLE_S` after the last was due.
    """
    total = int(seconds * rate)
    arrived: dict[int, float] = {}
    complete = asyncio.Event()

    def note(number: int) -> None:
        if number < total:  # the first one, which opens the channels, does not count
            arrived.setdefault(number, time.perf_counter())
        if len(arrived) >= total:
            complete.set()

    await side.open(note)
    try:
        await side.publish((total,))
        started = time.perf_counter() + 0.2
        # What cannot be published, or does not come in time, ends the rest.
        async with asyncio.TaskGroup() as sending:
            for number in range(total):
                wait = started + number / rate - time.perf_counter()
                if wait > 0:
                    await asyncio.sleep(wait)
                sending.create_task(side.publish((number,)))
            async with asyncio.timeout(SETTLE_S):
                await complete.wait()
        return [(arrived[number] - started - number / rate) * 1e3 for number in range(total)]
    except ExceptionGroup as failed:
        seen = f"{len(arrived)} of {total} messages handled, then {failed.exceptions[0]!r}"
        raise CouldNotMeasure(f"{side.name}, {rate:.0f}/s: {seen}") from failed
    finally:
        await side.close()


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _again(side: Side, url: str) -> Side:
    """A side like this one, not yet open."""
    return HubSide(url) if isinstance(side, HubSide) else BareSide(url)


def _median_of(rounds: Sequence[Sequence[float]], share: float) -> float:
    """The median over the rounds of a percentile: one round beside a busy neighbour decides
    nothing."""
    return statistics.median(percentile(figures, share) for figures in rounds)


async def compare(url: str, seconds: float, rounds: int) -> int:
    """Run both sides in turn and print the figures; 0 when all targets are met, else 1."""
    rates: dict[str, list[float]] = {"hub": [], "bare": []}
    costs: dict[str, list[float]] = {"hub": [], "bare": []}
    late: dict[str, list[list[float]]] = {"hub": [], "bare": []}
    for _ in range(rounds):
        for side in (BareSide(url), HubSide(url)):
            measured = await throughput(side, seconds)
            rates[side.name].append(measured.rate)
            costs[side.name].append(measured.cpu_us)
            late[side.name].append(await latency(_again(side, url), seconds))
    print(f"{'':<6}{'msg/s':>9}{'CPU µs/msg':>13}{'p50 ms':>9}{'p95 ms':>9}{'max ms':>9}")
    for name in ("bare", "hub"):
        print(
            f"{name:<6}{statistics.median(rates[name]):>9.0f}"
            f"{statistics.median(costs[name]):>13.0f}"
            f"{_median_of(late[name], 0.5):>9.1f}{_median_of(late[name], 0.95):>9.1f}"
            f"{max(map(max, late[name])):>9.1f}"
        )
    hub = statistics.median(rates["hub"])
    share = hub / statistics.median(rates["bare"])
    p95 = _median_of(late["hub"], 0.95)
    print(
        f"hub / bare {share:.2f} (target {TARGET_SHARE}), {hub:.0f} msg/s (> {TARGET_RATE:.0f}), "
        f"p95 at {RATE:.0f}/s {p95:.1f} ms (< {TARGET_P95_MS:.0f}), "
        f"load average {os.getloadavg()[0]:.1f}"
    )
    met = share >= TARGET_SHARE and hub > TARGET_RATE and p95 < TARGET_P95_MS
    return 0 if met else 1


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0 targets met, 1 not met or not measured, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m system.platform.events.bench", description=__doc__
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement (10)")
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement and side (3)")
    try:
        options = parser.parse_args(arguments)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 2
    url = os.environ.get("RABBITMQ_URL")
    if not url:
        print("bench: RABBITMQ_URL is not set; expected a broker's URL", file=sys.stderr)
        return 2
    try:
        return uvloop.run(compare(url, options.seconds, options.rounds))
    except CouldNotMeasure as error:
        print(
            f"bench: {error}; load average {os.getloadavg()[0]:.1f}: try a machine that does "
            "nothing else",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
