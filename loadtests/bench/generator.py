"""The generator against its null endpoint (about 30 s).

Prints the noise floor at two rates and the CPU time of a request flat out. On a busy machine the
figures are the machine's, not the engine's; the lateness column tells.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from loadtests.engine.measure import measure
from loadtests.engine.null_endpoint import null_endpoint
from loadtests.engine.plan import Plan, Request, Schedule

# rate (requests/s), seconds, TLS, most connections; the last two are flat out: due all at once
_ROWS = (
    (50.0, 10.0, True, 500),
    (1000.0, 10.0, True, 500),
    (200_000.0, 0.2, True, 20),
    (200_000.0, 0.2, False, 20),
)
_ANSWER = Request(method="GET", path="/bytes/2000", group="null", expect_body="xx")


def run() -> None:
    """Print one line per row."""
    print("rate/s   tls    p50 ms   p95 ms   p99 ms   late p95 ms   delivered   CPU µs/request")
    with tempfile.TemporaryDirectory() as folder:
        for rate, seconds, tls, connections in _ROWS:
            with null_endpoint(plain=not tls) as (origin, ca):
                plan = Plan(
                    origin=origin,
                    ca=ca,
                    schedule=Schedule(rate=rate, seconds=seconds),
                    requests=(_ANSWER,),
                    max_connections=connections,
                    timeout=60.0,
                )
                measured = measure(plan, Path(folder), "bench")
            p50, p95, p99 = np.quantile(measured.latency(), (0.5, 0.95, 0.99)) * 1e3
            generator = measured.summary.generator
            print(
                f"{rate:<8g} {'yes' if tls else 'no':<4} {p50:8.2f} {p95:8.2f} {p99:8.2f}"
                f" {generator.lateness_ms['p95']:13.2f} {measured.delivered():11.1%}"
                f" {generator.cpu_seconds / len(measured) * 1e6:16.1f}"
            )
