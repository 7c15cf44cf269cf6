"""CPU of a page of payments at the service, from its cache and past it, and its latency.

Goals: at most 400 µs of the service's CPU for a cached page, 800 µs past the cache, and a p95
below 5 ms for cached pages at 100/s.

A process that sleeps between two requests pays each time for being woken and for what others have
put into the processor's caches meanwhile, so the same request costs the less the more there are.
CPU is judged where CPU is what there is too little of, at `BUSY`; what it is at `CALM` stands
beside it, and so does a server that does nothing but answer. What the process uses while nobody
asks, and for telling its metrics, is no request's and taken off.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness.probe import CouldNotObserve
from harness.target import Target
from loadtests.bench import usage
from loadtests.engine.measure import measure
from loadtests.engine.null_endpoint import null_endpoint
from loadtests.engine.plan import Plan, Request, Schedule
from loadtests.engine.samples import Measurement
from loadtests.workloads.population import Member, exempt_addresses, settle

CALM, BUSY = 100.0, 600.0  # requests/s
SECONDS, ROUNDS = 6.0, 5
CONNECTIONS = 4
GOALS = {"cached": 400.0, "uncached": 800.0}  # µs of the service's CPU at BUSY
P95_MS = 5.0  # of cached pages at CALM
_PAGE_BYTES = 7000  # about what a page of 20 payments has


@dataclass
class Subject:
    """Somebody who is asked, and what was measured of him.

    Attributes:
        origin: whom requests go to.
        request: that is sent.
        addresses: from where.
        cost: µs of CPU a request, one figure a round, by rate.
        p95: ms, likewise.
    """

    origin: str
    request: Request
    addresses: tuple[str, ...] = ("127.0.0.1",)
    cost: dict[float, list[float]] = field(default_factory=lambda: {CALM: [], BUSY: []})
    p95: dict[float, list[float]] = field(default_factory=lambda: {CALM: [], BUSY: []})

    def __post_init__(self) -> None:
        # As long as it is asked later, with one reading of its metrics as then.
        self._idle = self._cpu_during(lambda: time.sleep(SECONDS))

    def ask(self, rate: float, folder: Path) -> None:
        """Ask for some seconds and keep what it cost.

        Raises:
            CouldNotObserve: not all requests succeeded.
        """
        plan = Plan(
            origin=self.origin,
            ca="",
            addresses=self.addresses,
            schedule=Schedule(rate=rate, seconds=SECONDS),
            requests=(self.request,),
            connections=CONNECTIONS,
        )
        done: list[Measurement] = []
        used = self._cpu_during(lambda: done.append(measure(plan, folder, "bench")))
        if errors := done[0].errors():
            raise CouldNotObserve(f"{self.request.group}: {errors} requests failed")
        self.cost[rate].append((used - self._idle) / len(done[0]) * 1e6)
        self.p95[rate].append(float(np.quantile(done[0].latency(), 0.95)) * 1e3)

    def _cpu_during(self, act: Callable[[], None]) -> float:
        before = usage.cpu_seconds(self.origin)
        act()
        return usage.cpu_seconds(self.origin) - before


def run(target: Target) -> None:
    """Measure all in turn and print CPU and latency of each."""
    if "payments" not in target.services:
        raise CouldNotObserve("the target file has no [services.payments]")
    people = settle(target, prefix="bench-service", users=2, payments_each=20)
    with tempfile.TemporaryDirectory() as name, null_endpoint(plain=True) as (origin, _):
        subjects = [
            *_pages(target.services["payments"].url, people.members[0], exempt_addresses(target)),
            Subject(
                origin, Request(method="GET", path=f"/bytes/{_PAGE_BYTES}", group="only answers")
            ),
        ]
        for _ in range(ROUNDS):
            for rate in (CALM, BUSY):
                for subject in subjects:
                    subject.ask(rate, Path(name))
    for subject in subjects:
        print(_line(subject))
    cached, uncached = (subject.cost[BUSY] for subject in subjects[:2])
    ratios = [b / a for a, b in zip(cached, uncached, strict=True)]
    print(f"uncached / cached: {statistics.median(ratios):.2f} times the CPU")


def _pages(url: str, who: Member, addresses: tuple[str, ...]) -> Iterator[Subject]:
    for way, headers in (("cached", ()), ("uncached", (("Cache-Control", "no-cache"),))):
        request = Request(
            method="GET",
            path="/payments?limit=20",
            group=way,
            headers=(("Authorization", f"Bearer {who.access_token}"), *headers),
            expect_body=who.user_id,
        )
        yield Subject(url, request, addresses)


def _line(subject: Subject) -> str:
    name = subject.request.group
    busy = subject.cost[BUSY]
    goal = f"; goal {GOALS[name]:.0f}" if name in GOALS else ""
    p95_goal = f" (goal {P95_MS:g})" if name == "cached" else ""
    return (
        f"{name:<12} {statistics.median(busy):5.0f} µs CPU a request at {BUSY:g}/s "
        f"({min(busy):.0f} – {max(busy):.0f}{goal}), "
        f"{statistics.median(subject.cost[CALM]):5.0f} at {CALM:g}/s; "
        f"p95 {statistics.median(subject.p95[CALM]):.2f} ms at {CALM:g}/s{p95_goal}"
    )
