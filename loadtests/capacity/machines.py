"""From what a request, a socket and an event cost to how many machines: arithmetic, no measuring.

The processes of the platform share nothing but databases, broker and cache, so their CPU grows with
the rate and is spread over as many processes as it takes. What is not shared out (a primary
database, a queue with one active consumer) is told apart: it must fit into one machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from loadtests.capacity.law import Law
from loadtests.capacity.search import Bracket
from loadtests.capacity.step import Step

TARGETS = (1_000, 10_000, 100_000)
USED = 0.7  # of a core: what is left is for spikes and for the loss of a machine
REST = "rest of the machine"  # edge, databases, broker, cache: they tell no CPU of their own


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """CPU of one part for one request of the mix.

    Attributes:
        seconds: over all rates that met the gate.
        low, high: the lowest and highest of them.
    """

    seconds: float
    low: float
    high: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one rate takes.

    Attributes:
        rate: requests a second.
        processes: of each part that tells its CPU, one event loop each.
        cores: of all parts together; None when the whole platform's CPU is not known.
        by_cpu: machines by CPU.
        by_gate: machines as the one measured, each at the highest rate that met the gate.
        by_law: machines as the one measured, each at the law's peak: fewer cannot do if it holds.
        times_measured: the rate over the highest that met the gate; what is over 1 was never seen.
    """

    rate: float
    processes: dict[str, int]
    cores: float | None
    by_cpu: int | None
    by_gate: int | None
    by_law: int | None
    times_measured: float | None


def demands(steps: Sequence[Step]) -> dict[str, Demand]:
    """CPU for one request of each part, from the steps given (those that met the gate)."""
    found = {}
    for part in sorted({part for step in steps for part in step.cpu}):
        told = [step for step in steps if part in step.cpu and step.requests]
        each = [step.cpu[part] / step.requests for step in told]
        total = sum(step.cpu[part] for step in told) / sum(step.requests for step in told)
        found[part] = Demand(seconds=total, low=min(each), high=max(each))
    return found


def rows(
    costs: Mapping[str, Demand],
    bracket: Bracket,
    law: Law | None,
    *,
    cores: int,
    targets: Sequence[float] = TARGETS,
) -> list[Row]:
    """What each target rate takes.

    Args:
        costs: of each part; `REST` is spread over cores, not over processes.
        bracket: the search's end.
        law: the fitted law, if there were points enough.
        cores: of one machine.
        targets: requests a second.
    """
    highest = bracket.met
    found = []
    for rate in targets:
        taken = {part: rate * cost.seconds / USED for part, cost in costs.items()}
        total = sum(taken.values()) if REST in costs else None
        found.append(
            Row(
                rate=rate,
                processes={p: math.ceil(n) for p, n in taken.items() if p != REST},
                cores=total,
                by_cpu=None if total is None else math.ceil(total / cores),
                by_gate=math.ceil(rate / highest) if highest else None,
                by_law=math.ceil(rate / law.peak) if law is not None and law.peak else None,
                times_measured=rate / highest if highest else None,
            )
        )
    return found


class Sockets(msgspec.Struct, frozen=True, kw_only=True):
    """What a number of open WebSockets takes.

    Attributes:
        sockets: how many.
        gateways: processes, at `each` sockets.
        memory_mib: of all gateways together.
        broadcast_seconds: CPU of one gateway to hand one event to all its sockets.
        deliveries: events a second that the broker hands out for each one published, as each
            gateway has a queue of its own (R3.6).
    """

    sockets: int
    gateways: int
    memory_mib: float
    broadcast_seconds: float
    deliveries: int


def for_sockets(
    sockets: int, *, each: int, kib: float, process_mib: float, message_seconds: float
) -> Sockets:
    """What a number of open WebSockets takes.

    Args:
        sockets: open at once.
        each: sockets that one gateway is to hold.
        kib: memory of one socket.
        process_mib: memory of a gateway without sockets.
        message_seconds: CPU of one message to one socket.
    """
    gateways = math.ceil(sockets / each)
    return Sockets(
        sockets=sockets,
        gateways=gateways,
        memory_mib=gateways * process_mib + sockets * kib / 1024,
        broadcast_seconds=min(each, sockets) * message_seconds,
        deliveries=gateways,
    )


def rate_of_one_consumer(event_seconds: float, events_per_request: float) -> float:
    """Requests a second at which a queue's one active consumer (R3.3) is at its end.

    Args:
        event_seconds: CPU of one event at the consumer.
        events_per_request: of the mix.
    """
    return USED / event_seconds / events_per_request
