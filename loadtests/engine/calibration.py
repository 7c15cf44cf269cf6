"""Calibration: can the generator measure what it is about to measure, on this machine, now?

The same rate over the same number of TLS connections with the same body sizes goes to a null
endpoint. What is seen there is the generator's own share of every figure.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from loadtests.engine.estimation import Percentile, percentile
from loadtests.engine.measure import measure
from loadtests.engine.null_endpoint import null_endpoint
from loadtests.engine.plan import Plan, check
from loadtests.engine.samples import Measurement

NOISE_SHARE = 0.2  # of the threshold; more noise than that and no verdict
DELIVERED_SHARE = 0.98
BUSY_SHARE = 0.9  # of one core, in the worst second; a generator at its end is late


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What the generator measured of itself.

    Attributes:
        p95: noise floor in seconds, with its interval.
        naive_p95_ms: the same counted from the sending, in ms.
        delivered: share of the scheduled requests that were answered.
        rate: requests a second.
        cpu_share: the generator's CPU seconds per second.
        faults: why no verdict may stand on this generator; empty when it may.
    """

    p95: Percentile
    naive_p95_ms: float
    delivered: float
    rate: float
    cpu_share: float
    faults: tuple[str, ...]


def calibrate(
    plan: Plan, folder: Path, name: str, *, limit: float, seconds: float = 10.0
) -> Calibration:
    """Run a plan's rate, connections and body sizes against a null endpoint.

    Args:
        plan: the plan that is to be measured.
        folder: where the samples go.
        name: their name, e.g. ``calibration``.
        limit: the threshold of the coming verdict's p95, in seconds.
        seconds: how long, at most the plan's own length.

    Raises:
        EngineFailed: engine or null endpoint did not work.
    """
    check(plan)
    plain = plan.split_origin.scheme == "http"
    with null_endpoint(plain=plain) as (origin, ca):
        measurement = measure(null_plan(plan, origin, ca, seconds), folder, name)
    return judge(measurement, limit)


def null_plan(plan: Plan, origin: str, ca: str, seconds: float) -> Plan:
    """The plan with the null endpoint in the target's place."""
    requests = tuple(
        msgspec.structs.replace(
            request, path=f"/bytes/{request.answer_bytes}", expect_status=(200,), expect_body=""
        )
        for request in plan.requests
    )
    schedule = msgspec.structs.replace(plan.schedule, seconds=min(seconds, plan.schedule.seconds))
    return msgspec.structs.replace(
        plan, origin=origin, ca=ca, requests=requests, schedule=schedule, watch_header=""
    )


def judge(measurement: Measurement, limit: float) -> Calibration:
    """Judge a measurement of the null endpoint; `limit` is the coming threshold in seconds."""
    p95 = percentile(measurement.latency(), measurement.due_of(), 0.95)
    naive = percentile(measurement.naive_latency(), measurement.due_of(), 0.95)
    delivered = measurement.delivered()
    faults = []
    if not p95.value <= NOISE_SHARE * limit:  # nan is a fault too
        faults.append(
            f"the generator's own p95 is {p95.value * 1e3:.3g} ms, over 20 % of the "
            f"threshold of {limit * 1e3:g} ms"
        )
    if delivered < DELIVERED_SHARE:
        faults.append(
            f"the generator delivered {delivered:.1%} of {measurement.summary.rate:g} requests/s "
            "to a null endpoint, expected at least 98 %"
        )
    return Calibration(
        p95=p95,
        naive_p95_ms=naive.value * 1e3,
        delivered=delivered,
        rate=measurement.summary.rate,
        cpu_share=measurement.summary.generator.cpu_share,
        faults=tuple(faults),
    )


def faults_during(measurement: Measurement, limit: float) -> tuple[str, ...]:
    """Why a measurement cannot be trusted because of the generator; empty when it can.

    Args:
        measurement: of the target.
        limit: the threshold of the verdict's p95, in seconds.
    """
    generator = measurement.summary.generator
    faults = []
    if generator.cpu_share_worst > BUSY_SHARE:
        faults.append(
            f"the generator used {generator.cpu_share_worst:.0%} of a core in its worst second, "
            f"expected at most {BUSY_SHARE:.0%}"
        )
    late = generator.lateness_ms["p95"]
    if late > NOISE_SHARE * limit * 1e3:
        faults.append(
            f"the generator was {late:.3g} ms late at its p95, over 20 % of the threshold of "
            f"{limit * 1e3:g} ms"
        )
    return tuple(faults)
