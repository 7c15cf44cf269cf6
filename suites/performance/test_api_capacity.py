"""How much the platform bears: the highest rate that still meets api-latency, found by search."""

from __future__ import annotations

import os
import time
from typing import Any

import httpx
import msgspec

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from loadtests.capacity import cost
from loadtests.capacity.conclusion import Conclusion, conclude, steps_of
from loadtests.capacity.search import Seen, search
from loadtests.capacity.step import Gate, Step, judge, seen, summarise
from loadtests.engine.calibration import calibrate, faults_during
from loadtests.engine.estimation import Decision
from loadtests.engine.extension import measure_until_decided
from loadtests.engine.measure import EngineFailed
from loadtests.engine.plan import Plan
from loadtests.engine.samples import Measurement
from loadtests.workloads.population import Population, settle
from loadtests.workloads.standard import mix, standard_plan

CRITERION = Criterion(
    id="api-capacity",
    area="performance",
    statement="The platform MUST bear twice the standard rate of 50 requests/s of the standard "
    "mixed workload within the gate of api-latency; how much more, and how many machines 1,000, "
    "10,000 and 100,000 requests/s take, is reported.",
    gate="the highest rate found by search that meets api-latency ≥ 100 requests/s",
    rules=("R11.1",),
    needs=(Access.EXEMPT,),
    effects=(Effect.READS, Effect.WRITES, Effect.LOADS),
    time_limit=900,
)

_ANSWER_TIMEOUT = 5.0  # seconds; what takes longer has missed the gate long before
_CALM_SECONDS = 0.05  # a health check below this, three times: nothing is waiting any more
_CALM_WITHIN = 20.0
_CALM_TIMES = 3


def test_the_platform_bears_twice_the_standard_rate(trial: Trial) -> None:
    """The highest rate that meets the gate of api-latency is twice the standard rate or more."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Settle people, calibrate the generator, look at rates until the highest one is known."""
    limits, folder = trial.limits, trial.evidence.path
    gate = gate_of(limits)
    trial.progress("people and payments are made")
    population = settle(trial.target, prefix=trial.prefix, users=limits["users"], payments_each=2)
    rate = float(limits["rate"])
    try:
        trial.progress("calibrating the generator against a null endpoint")
        calibration = calibrate(
            _plan(trial, population, rate, 0),
            folder,
            "calibration",
            limit=gate.p95,
            seconds=limits["calibration_seconds"],
        )
        observed: dict[str, Any] = {
            "calibration": msgspec.to_builtins(calibration),
            "measured": False,
            "gate": msgspec.to_builtins(gate),
            "cores": os.cpu_count() or 1,
            "load_average": os.getloadavg()[0],
        }
        if calibration.faults:
            return observed
        at_rest = _at_rest(trial, limits["rest_seconds"])
        steps: list[Step] = []

        def look(rate: float) -> Seen:
            steps.append(_step(trial, population, rate, gate, at_rest))
            return seen(steps[-1], gate)

        search(
            look,
            start=rate,
            floor=limits["floor"],
            ceiling=limits["ceiling"],
            resolution=limits["resolution"],
        )
    except EngineFailed as error:
        raise CouldNotObserve(str(error)) from error
    found = conclude(steps, gate, cores=observed["cores"])
    (folder / "capacity.table.json").write_bytes(msgspec.json.encode(found.tables))
    return observed | {
        "measured": True,
        "at_rest": at_rest,
        "mix": mix(_plan(trial, population, rate, 0)),
        "steps": msgspec.to_builtins(steps),
        "processes": {name: len(trial.target.members_of(name)) for name in trial.target.services},
    }


def gate_of(limits: Limits) -> Gate:
    """api-latency's gate, as the thresholds have it for this criterion."""
    return Gate(
        p95=limits["p95_ms"] / 1e3,
        errors=limits["errors_percent"] / 100,
        delivered=limits["delivered_percent"] / 100,
    )


def _plan(trial: Trial, population: Population, rate: float, seed: int) -> Plan:
    limits = trial.limits
    return standard_plan(
        population,
        rate=rate,
        seconds=max(float(limits["least_seconds"]), limits["requests"] / rate),
        prefix=trial.prefix,
        seed=seed + 1,
        timeout=_ANSWER_TIMEOUT,
    )


def _at_rest(trial: Trial, seconds: float) -> dict[str, float]:
    """CPU a second of each part while nobody asks it anything."""
    trial.progress("what the parts use at rest")
    _await_calm(trial)
    before = cost.read(trial.target)
    time.sleep(seconds)  # the length of the measurement
    return cost.rates(before, cost.read(trial.target))


def _step(
    trial: Trial, population: Population, rate: float, gate: Gate, at_rest: dict[str, float]
) -> Step:
    """Look at one rate, on a platform on which nothing is waiting."""
    _await_calm(trial)
    name = f"rate-{rate:g}"

    def decide(measurement: Measurement) -> Decision:
        return judge(_summary(measurement, rate, gate, {}, {}), gate)[0]

    before = cost.read(trial.target)
    measured, _ = measure_until_decided(
        lambda number: _plan(trial, population, rate, round(rate) * 10 + number),
        decide,
        trial.evidence.path,
        f"{name}-0",
        cap=trial.limits["segments"],
    )
    after = cost.read(trial.target)
    step = _summary(measured, rate, gate, cost.spent(before, after, at_rest), after.memory)
    why = "; ".join(step.generator_faults) or judge(step, gate)[1]
    trial.progress(f"{rate:g} requests/s: {seen(step, gate)}, {why}")
    return step


def _summary(
    measurement: Measurement,
    rate: float,
    gate: Gate,
    cpu: dict[str, float],
    memory: dict[str, float],
) -> Step:
    return summarise(
        measurement,
        rate=rate,
        seconds=measurement.summary.seconds,
        cpu=cpu,
        memory=memory,
        faults=faults_during(measurement, gate.p95),
    )


def _await_calm(trial: Trial) -> None:
    """Wait until what an earlier rate left behind is worked off, as a health check's time tells."""
    ends = time.monotonic() + _CALM_WITHIN
    quick = 0
    with trial.client() as client:
        while quick < _CALM_TIMES and time.monotonic() < ends:
            began = time.monotonic()
            try:
                good = client.get("/health").status_code == httpx.codes.OK
            except httpx.HTTPError:
                good = False
            quick = quick + 1 if good and time.monotonic() - began < _CALM_SECONDS else 0
            time.sleep(_CALM_SECONDS)


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """The highest rate that met the gate is high enough; everything else is reported."""
    tally = Tally(["highest rate"])
    faults = evidence["calibration"]["faults"]
    tally.control("the generator can measure this", not faults, "; ".join(faults))
    if not evidence["measured"]:
        return tally.outcome()
    steps, gate = steps_of(evidence), gate_of(limits)
    found = conclude(steps, gate, cores=evidence["cores"])
    least = float(limits["rate"])
    met, missed = found.bracket.met, found.bracket.missed
    above = next((step for step in steps if step.rate == missed), None)
    if above is not None and above.generator_faults and (met is None or met < least):
        tally.unproven("highest rate", "; ".join(above.generator_faults))
    else:
        why = "" if above is None else f"; at {above.rate:g}/s {judge(above, gate)[1]}"
        tally.judge(
            "highest rate",
            met is not None and met >= least,
            seen=f"{met:g} requests/s{why}" if met is not None else f"no rate met the gate{why}",
            expected=f"at least {least:g} requests/s within the gate",
        )
    _show(tally, found, least)
    return tally.outcome()


def _show(tally: Tally, found: Conclusion, least: float) -> None:
    """The figures of the report; the tables beside the evidence show how they come about."""
    bracket, law = found.bracket, found.law
    if bracket.met is not None:
        tally.figure(
            "highest rate within the gate",
            bracket.met,
            "requests/s",
            limit=least,
            interval=None if bracket.missed is None else (bracket.met, bracket.missed),
            bound="lower",
        )
    for row in found.rows:
        for way, count in (("CPU", row.by_cpu), ("gate", row.by_gate), ("law", row.by_law)):
            if count is not None:
                tally.figure(f"machines for {row.rate:g}/s by {way}", count)
    for part, demand in found.costs.items():
        tally.figure(
            f"CPU a request, {part}",
            round(demand.seconds * 1e6, 1),
            "µs",
            interval=(round(demand.low * 1e6, 1), round(demand.high * 1e6, 1)),
        )
    if law is not None:
        tally.figure("law: contention σ", round(law.contention, 4))
        tally.figure("law: crosstalk κ", round(law.crosstalk, 6))
        if law.peak is not None:
            tally.figure("law: peak", round(law.peak), "requests/s", n=law.points)
