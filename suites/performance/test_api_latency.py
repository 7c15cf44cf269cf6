"""The API answers in time under the standard mixed workload, counted from the due time."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from loadtests.engine import samples
from loadtests.engine.calibration import calibrate, faults_during
from loadtests.engine.estimation import Decision, PercentileDecision, decide_percentile, percentile
from loadtests.engine.extension import measure_until_decided
from loadtests.engine.measure import EngineFailed, measure
from loadtests.engine.samples import Measurement
from loadtests.workloads.population import settle
from loadtests.workloads.standard import login_plan, mix, standard_plan

CRITERION = Criterion(
    id="api-latency",
    area="performance",
    statement="Under the standard mixed workload at 50 requests/s through the TLS edge every group "
    "of API requests MUST have a p95 below 150 ms, counted from the moment it was due.",
    gate="the group with the worst upper bound decides; ≥ 300 successes a group and ≥ 2,000 in "
    "all; errors < 0.1 %; delivered ≥ 98 %",
    rules=("R11.1",),
    needs=(Access.EXEMPT,),
    effects=(Effect.READS, Effect.WRITES, Effect.LOADS),
    time_limit=600,
)

# Group → the part it needs.
GROUPS = {
    "auth-me": "auth",
    "payments-list": "payments",
    "payments-detail": "payments",
    "payments-create": "payments",
    "audit-list": "audit-log",
    "profile": "profile-api",
    "payments-report": "reports",
    "graphql": "graphql",
}


def test_the_api_answers_in_time(trial: Trial) -> None:
    """Every group's p95, from the due time, lies below the limit with its whole interval."""
    # The interval decides and is extended where it must be; a second look adds nothing.
    trial.decide(observe, check, confirm=False)


def observe(trial: Trial) -> dict[str, Any]:
    """Settle people, calibrate the generator, measure until decided, log-ins apart."""
    limits, folder = trial.limits, trial.evidence.path
    rate, seconds = float(limits["rate"]), float(limits["seconds"])
    limit = limits["p95_ms"] / 1e3
    trial.progress("people and payments are made")
    population = settle(trial.target, prefix=trial.prefix, users=limits["users"], payments_each=2)

    def plan_of(segment: int) -> Any:
        return standard_plan(
            population, rate=rate, seconds=seconds, prefix=trial.prefix, seed=segment + 1
        )

    def decide(measurement: Measurement) -> Decision:
        return worst_of(groups_of(measurement, limits)).decision

    try:
        trial.progress("calibrating the generator against a null endpoint")
        calibration = calibrate(
            plan_of(0), folder, "calibration", limit=limit, seconds=limits["calibration_seconds"]
        )
        if calibration.faults:
            return {"calibration": msgspec.to_builtins(calibration), "measured": False}
        trial.progress(f"{rate:g} requests/s for {seconds:g} s")
        measured, _ = measure_until_decided(
            plan_of, decide, folder, "samples", cap=limits["segments"]
        )
        trial.progress("log-ins apart")
        measure(
            login_plan(population, rate=limits["login_rate"], seconds=limits["login_seconds"]),
            folder,
            "logins",
        )
    except EngineFailed as error:
        raise CouldNotObserve(str(error)) from error
    return {
        "calibration": msgspec.to_builtins(calibration),
        "measured": True,
        "samples": "samples",
        "logins": "logins",
        "mix": mix(plan_of(0)),
        "faults": list(faults_during(measured, limit)),
        "absent": {g: why for g, part in GROUPS.items() if (why := trial.target.absence(part))},
    }


def groups_of(measurement: Measurement, limits: Limits) -> dict[str, PercentileDecision]:
    """The decision of each measured group."""
    return {
        group: decide_percentile(
            measurement.latency(group),
            measurement.due_of(group),
            0.95,
            limits["p95_ms"] / 1e3,
            at_least=limits["group_samples"],
        )
        for group in measurement.summary.groups
    }


def worst_of(groups: dict[str, PercentileDecision]) -> PercentileDecision:
    """The group with the worst upper bound decides; an undecided one cannot be outvoted."""
    ranked = sorted(groups.values(), key=lambda d: d.estimate.high)
    undecided = [d for d in ranked if d.decision is Decision.UNDECIDED]
    failed = [d for d in ranked if d.decision is Decision.FAIL]
    return (failed or undecided or ranked)[-1]


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Generator sound, every group below the limit, errors and undelivered within theirs."""
    tally = Tally([*GROUPS, "errors", "delivered"])
    faults = evidence["calibration"]["faults"]
    tally.control("the generator can measure this", not faults, "; ".join(faults))
    noise = evidence["calibration"]["p95"]["value"] * 1e3
    tally.figure("generator's own p95", round(noise, 2), "ms")
    if not evidence["measured"]:
        return tally.outcome()
    tally.absences(evidence["absent"])
    during = evidence["faults"]
    tally.control("the generator was in time", not during, "; ".join(during))
    measured = samples.read(evidence.sibling(evidence["samples"]))
    groups = groups_of(measured, limits)
    for group, decision in groups.items():
        _judge_group(tally, group, decision, limits)
    successes = int(measured.ok.sum())
    tally.enough("successes", successes, limits["samples"])
    share = 100.0 * measured.errors() / max(1, len(measured))
    tally.judge(
        "errors",
        share < limits["errors_percent"],
        seen=f"{measured.errors()} of {len(measured)} ({share:.3g} %): {measured.summary.failures}",
        expected=f"below {limits['errors_percent']} %",
    )
    delivered = 100.0 * measured.delivered()
    tally.judge(
        "delivered",
        delivered >= limits["delivered_percent"],
        seen=f"{delivered:.2f} %",
        expected=f"at least {limits['delivered_percent']} %",
    )
    tally.figure("errors", round(share, 3), "%", limit=limits["errors_percent"])
    tally.figure("requests", len(measured))
    naive = percentile(measured.naive_latency(), measured.due_of(), 0.95)
    tally.figure("naive p95, all", round(naive.value * 1e3, 1), "ms", n=naive.n)
    _show_logins(tally, evidence)
    return tally.outcome()


def _judge_group(tally: Tally, group: str, decision: PercentileDecision, limits: Limits) -> None:
    estimate = decision.estimate
    if decision.decision is Decision.UNDECIDED:
        tally.unproven(group, decision.reason)
    else:
        tally.judge(
            group,
            decision.decision is Decision.PASS,
            seen=f"p95 {estimate.value * 1e3:.1f} ms "
            f"[{estimate.low * 1e3:.1f} – {estimate.high * 1e3:.1f}]",
            expected=f"below {limits['p95_ms']} ms",
        )
    tally.figure(
        f"p95 {group}",
        round(estimate.value * 1e3, 1),
        "ms",
        limit=limits["p95_ms"],
        interval=(round(estimate.low * 1e3, 1), round(estimate.high * 1e3, 1)),
        n=estimate.n,
    )


def _show_logins(tally: Tally, evidence: Evidence) -> None:
    """Log-ins cost a password hash each; they have a figure of their own and no gate."""
    logins = samples.read(evidence.sibling(evidence["logins"]))
    if not logins.ok.any():
        tally.doubt("no log-in succeeded")
        return
    estimate = percentile(logins.latency(), logins.due_of(), 0.95)
    tally.figure("p95 log-in (apart)", round(estimate.value * 1e3, 1), "ms", n=estimate.n)
