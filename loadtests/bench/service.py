"""CPU of a page of payments at the service, from its cache and past it, and its latency.

Goals: at most 400 µs of the service's CPU for a cached page, 800 µs past the cache, and a p95
below 5 ms for cached pages at 100/s.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import numpy as np

from harness.probe import CouldNotObserve
from harness.target import Target
from loadtests.bench import usage
from loadtests.engine.measure import measure
from loadtests.engine.plan import Plan, Request, Schedule
from loadtests.workloads.population import exempt_addresses, settle

RATE, SECONDS, ROUNDS = 100.0, 8.0, 5
WAYS = {"cached": (), "uncached": (("Cache-Control", "no-cache"),)}
GOALS = {"cached": 400.0, "uncached": 800.0}  # µs of the service's CPU
P95_MS = 5.0


def run(target: Target) -> None:
    """Measure both ways in turn and print CPU and latency of each."""
    if "payments" not in target.services:
        raise CouldNotObserve("the target file has no [services.payments]")
    people = settle(target, prefix="bench-service", users=2, payments_each=20)
    url = target.services["payments"].url
    who = people.members[0]
    costs: dict[str, list[float]] = {way: [] for way in WAYS}
    latencies: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        for _ in range(ROUNDS):
            for way, headers in WAYS.items():
                request = Request(
                    method="GET",
                    path="/payments?limit=20",
                    group=way,
                    headers=(("Authorization", f"Bearer {who.access_token}"), *headers),
                    expect_body=who.user_id,
                )
                plan = Plan(
                    origin=url,
                    ca="",
                    addresses=exempt_addresses(target),
                    schedule=Schedule(rate=RATE, seconds=SECONDS),
                    requests=(request,),
                    connections=4,
                )
                before = usage.cpu_seconds(url)
                measured = measure(plan, Path(name), "bench")
                if measured.errors():
                    raise CouldNotObserve(f"{way}: {measured.errors()} requests failed")
                costs[way].append((usage.cpu_seconds(url) - before) / len(measured) * 1e6)
                latencies[way].append(float(np.quantile(measured.latency(), 0.95)) * 1e3)
    for way in WAYS:
        print(
            f"{way:<9} {statistics.median(costs[way]):6.0f} µs CPU a page "
            f"({min(costs[way]):.0f} – {max(costs[way]):.0f}; goal {GOALS[way]:.0f}), "
            f"p95 {statistics.median(latencies[way]):.2f} ms at {RATE:g}/s"
            + (f" (goal {P95_MS:g})" if way == "cached" else "")
        )
    ratios = [b / a for a, b in zip(costs["cached"], costs["uncached"], strict=True)]
    print(f"uncached / cached: {statistics.median(ratios):.2f} times the CPU")
