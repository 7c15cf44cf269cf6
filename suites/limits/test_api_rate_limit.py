"""The api zone of the edge: how much one client gets, and what it is told beyond that."""

from __future__ import annotations

from typing import Any

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.checks import limiter as judge_limiter
from suites.probes import limiter

CRITERION = Criterion(
    id="api-rate-limit",
    area="limits",
    statement="The edge MUST limit each client to 100 API requests a minute with a burst of 20 "
    "and refuse the rest truthfully.",
    gate="fitted rate within 10 %, burst exact ± 1; after Retry-After it passes; not "
    "reached after 160 requests is FAIL",
    rules=("R5.17", "R5.20", "R5.21"),
    needs=(Access.TWO, Access.EXEMPT),
    parts=("edge",),
    effects=(Effect.READS, Effect.LOADS),
    time_limit=90,
)


def test_one_client_gets_its_share(trial: Trial) -> None:
    """A fresh address meets burst, refusal, Retry-After and rate as contracted."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Run a fresh address into the limit."""
    return limiter.characterise(
        trial,
        method="GET",
        path="/api/auth/me",
        rate_per_minute=trial.limits["rate_per_minute"],
        burst=trial.limits["burst"],
        gaps=trial.limits["gaps"],
        pause=0.02,
    )


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """As suites.checks.limiter judges every limiter."""
    return judge_limiter.judge(
        evidence,
        rate_per_minute=limits["rate_per_minute"],
        burst=limits["burst"],
        retry_after=limits["retry_after"],
        gaps=limits["gaps"],
        rate_tolerance=limits["rate_tolerance"],
    )
