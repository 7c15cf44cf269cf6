"""The auth zone of the edge: how much one client gets, and what it is told beyond that."""

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
    id="auth-rate-limit",
    area="limits",
    statement="Login, register and refresh MUST be limited to 10 requests a minute per client "
    "with a burst of 5 and the rest refused truthfully.",
    gate="fitted rate within 10 %, burst exact ± 1; after Retry-After it passes; not "
    "reached after 25 requests is FAIL",
    rules=("R1.43", "R5.18", "R5.20", "R5.21"),
    needs=(Access.TWO, Access.EXEMPT),
    parts=("edge",),
    effects=(Effect.READS, Effect.LOADS),
    time_limit=120,
)


def test_one_client_gets_its_share(trial: Trial) -> None:
    """A fresh address meets burst, refusal, Retry-After and rate as contracted."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Run a fresh address into the limit."""
    return limiter.characterise(
        trial,
        method="POST",
        path="/api/auth/refresh",
        json={"refreshToken": "not-a-token"},
        rate_per_minute=trial.limits["rate_per_minute"],
        burst=trial.limits["burst"],
        gaps=trial.limits["gaps"],
        pause=0.1,
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
