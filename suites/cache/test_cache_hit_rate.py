"""The cache answers most reads of the standard read workload, seen from outside and inside."""

from __future__ import annotations

from typing import Any

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from loadtests.engine.estimation import wilson
from loadtests.engine.measure import EngineFailed, measure
from loadtests.workloads.population import settle
from loadtests.workloads.read_mostly import READ_GROUPS, read_mostly
from loadtests.workloads.standard import mix
from suites.probes import metrics

CRITERION = Criterion(
    id="cache-hit-rate",
    area="cache",
    statement="Under the standard read workload more than 80 % of the reads MUST be answered from "
    "the cache, seen from outside and from inside alike.",
    gate="Wilson lower bound > 80 % of at least 1,000 reads, BYPASS counted as a miss; X-Cache "
    "and metrics agree ± 2 points",
    rules=("R6.1", "R6.2", "R7.6", "R7.14", "R11.4"),
    needs=(Access.EXEMPT, Access.METRICS),
    parts=("redis", "payments"),
    effects=(Effect.READS, Effect.WRITES, Effect.LOADS),
    time_limit=240,
)

SERVICES = ("auth", "payments", "profile")


def test_most_reads_come_from_the_cache(trial: Trial) -> None:
    """Hits of a cold cache under Zipf reads and a twentieth of writes."""
    # The bound decides over thousands of reads; a second, warm look would be another promise.
    trial.decide(observe, check, confirm=False)


def observe(trial: Trial) -> dict[str, Any]:
    """Settle people, run the seeded workload on a cold cache, count X-Cache and metrics."""
    limits = trial.limits
    trial.progress(f"{limits['users']} people and their payments are made")
    population = settle(trial.target, prefix=trial.prefix, users=limits["users"], payments_each=2)
    workload = read_mostly(
        population, rate=limits["rate"], seconds=limits["seconds"], prefix=trial.prefix, seed=7
    )
    before = _counters(trial)
    trial.progress(f"{limits['rate']} requests/s for {limits['seconds']} s")
    try:
        measured = measure(workload.plan, trial.evidence.path, "samples")
    except EngineFailed as error:
        raise CouldNotObserve(str(error)) from error
    after = _counters(trial)
    seen: dict[str, dict[str, int]] = {
        group: measured.watched_counts(group)
        for group in READ_GROUPS
        if group in measured.summary.groups
    }
    return {
        "users": workload.users,
        "distinct_reads": workload.distinct_reads,
        "reads": workload.reads,
        "writes": workload.writes,
        "ideal": workload.ideal,
        "mix": mix(workload.plan),
        "seen": seen,
        "errors": measured.errors(),
        "inside": {name: after[name] - before[name] for name in after},
    }


def _counters(trial: Trial) -> dict[str, float]:
    found = {"hits": 0.0, "misses": 0.0}
    for service in SERVICES:
        samples = metrics.read_all(trial.members(service))
        found["hits"] += metrics.total(samples, "cache_hits_total")
        found["misses"] += metrics.total(samples, "cache_misses_total")
    return found


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """The lower bound lies above the limit, and both views agree."""
    tally = Tally(["hit rate", "outside and inside agree", "requests succeed"])
    counts = {"HIT": 0, "MISS": 0, "BYPASS": 0, "": 0}
    for group in evidence["seen"].values():
        for value, number in group.items():
            counts[value if value in counts else ""] += number
    reads = sum(counts.values())
    enough = [
        tally.enough("reads", reads, limits["reads"]),
        tally.enough("users", evidence["users"], limits["least_users"]),
        tally.enough("distinct reads", evidence["distinct_reads"], limits["distinct_reads"]),
    ]
    tally.judge(
        "requests succeed",
        evidence["errors"] <= 0.001 * (evidence["reads"] + evidence["writes"]),
        seen=f"{evidence['errors']} errors",
        expected="at most 0.1 %",
    )
    if not all(enough):
        return tally.outcome()
    low, high = wilson(counts["HIT"], reads)
    share = counts["HIT"] / reads
    tally.judge(
        "hit rate",
        low * 100 > limits["percent"],
        seen=f"{counts['HIT']} of {reads} ({share:.1%}, at least {low:.1%})",
        expected=f"above {limits['percent']} % with the lower bound",
        place="X-Cache",
    )
    inside = evidence["inside"]
    total = inside["hits"] + inside["misses"]
    if total == 0:
        tally.judge(
            "outside and inside agree", False, seen="metrics did not move", expected="hits, misses"
        )
    else:
        difference = abs(100 * inside["hits"] / total - 100 * share)
        tally.judge(
            "outside and inside agree",
            difference <= limits["agree_points"],
            seen=f"{100 * inside['hits'] / total:.1f} % inside, {100 * share:.1f} % outside",
            expected=f"within {limits['agree_points']} points",
        )
    tally.figure(
        "hit rate",
        round(100 * share, 1),
        "%",
        limit=limits["percent"],
        interval=(round(100 * low, 1), round(100 * high, 1)),
        n=reads,
        bound="lower",
    )
    tally.figure("perfect cache on the same sequence", round(100 * evidence["ideal"], 1), "%")
    tally.figure("bypassed", counts["BYPASS"] + counts[""])
    mixed = ", ".join(f"{group} {part:.0%}" for group, part in evidence["mix"].items())
    return tally.outcome(passed=f"mix: {mixed}")
