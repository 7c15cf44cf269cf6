"""Judge a characterised rate limiter: refused in the contracted words, burst exact, rate true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.tally import Tally
from harness.verdict import Outcome

SUBJECTS = ("limit reached", "burst", "refusal", "Retry-After", "rate", "exempt address")
MESSAGE = "Too many requests, please try again later"


def judge(
    seen: Mapping[str, Any],
    *,
    rate_per_minute: int,
    burst: int,
    retry_after: int,
    gaps: int,
    rate_tolerance: float,
) -> Outcome:
    """The outcome for one limiter (R5.17–R5.21).

    Args:
        seen: what suites.probes.limiter.characterise gave.
        rate_per_minute, burst, retry_after: the contracted limit (seconds for the last).
        gaps: how many intervals must have been timed.
        rate_tolerance: share by which the fitted rate may differ.
    """
    tally = Tally(SUBJECTS)
    most = 3 * burst + rate_per_minute
    reached = seen["refusal"] is not None
    let_through = seen["burst"]["let_through"]
    tally.judge(
        "limit reached",
        reached,
        seen=f"{let_through} requests in {seen['burst']['seconds']} s, none refused",
        expected=f"a 429 within {most} requests",
        severity="critical",
    )
    if not reached:
        return tally.outcome()
    refilled = seen["burst"]["seconds"] * rate_per_minute / 60.0
    expected = 1 + burst + refilled
    tally.judge(
        "burst",
        abs(let_through - expected) <= 1 + refilled * 0.1,
        seen=f"{let_through} let through in {seen['burst']['seconds']} s",
        expected=f"{expected:.1f} ± 1",
    )
    tally.figure("burst let through", let_through, limit=round(expected + 1, 1))
    refusal = seen["refusal"]
    told = f"{refusal['status']} {refusal['code']}: {refusal['message']}"
    tally.equal("refusal", told, f"429 RATE_LIMIT_EXCEEDED: {MESSAGE}")
    tally.equal("Retry-After", refusal["retry_after"], [str(retry_after)])
    after = seen["after_retry_after"]
    tally.judge(
        "Retry-After",
        after["status"] not in (0, 429),
        seen=f"{after['status']} after {after['waited']} s",
        expected="let through",
    )
    exempt = seen["exempt_meanwhile"]
    tally.judge(
        "exempt address", exempt not in (0, 429), seen=exempt, expected="let through meanwhile"
    )
    passes = seen["passes"]
    if tally.enough("timed intervals", len(passes) - 1, gaps):
        rate = 60.0 * (len(passes) - 1) / (passes[-1] - passes[0])
        tally.judge(
            "rate",
            abs(rate / rate_per_minute - 1) <= rate_tolerance,
            seen=f"{rate:.1f} a minute",
            expected=f"{rate_per_minute} a minute ± {rate_tolerance:.0%}",
        )
        tally.figure("fitted rate", round(rate, 2), "/min", n=len(passes) - 1)
    return tally.outcome()
