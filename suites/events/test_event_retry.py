"""A failing handler is tried once and three times more, later and later, then never again."""

from __future__ import annotations

import time
from typing import Any

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import broker, diagnostics
from suites.probes.diagnostics import SERVICES, queue_of

CRITERION = Criterion(
    id="event-retry",
    area="events",
    statement="A failing handler MUST be tried 1 + 3 times with growing delays and its message "
    "then dead-lettered; a success on a retry MUST count once.",
    gate="each of the 4 queues; exactly 3 retries; at least 30 messages per level, each delay "
    "within ± 25 % on an idle queue",
    rules=("R3.46", "R3.47", "R3.52", "R3.53"),
    needs=(Access.AMQP, Access.DIAG),
    effects=(Effect.READS, Effect.WRITES),
    time_limit=180,
)

LEVELS = (1.0, 2.0, 4.0)
HOPELESS = 3
NEVER = 99


def test_failing_messages_are_retried_three_times(trial: Trial) -> None:
    """Delays of every level in every queue; the hopeless ones end in the DLQ."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Send probes that succeed on the fourth attempt, and some that never do."""
    amqp = broker.access(trial.target)
    late, never = diagnostics.new_nonce(), diagnostics.new_nonce()
    for service in SERVICES:
        diagnostics.read(trial, service, late)  # off or unreachable: told before anything is sent
    messages = trial.limits["messages"]
    with broker.channel(amqp) as channel:
        channel.confirm_delivery()
        for service in SERVICES:
            queue = queue_of(service)
            for seq in range(messages):
                diagnostics.publish_probe(channel, amqp, late, seq, fail_times=3, fail_queue=queue)
            for seq in range(HOPELESS):
                diagnostics.publish_probe(
                    channel, amqp, never, seq, fail_times=NEVER, fail_queue=queue
                )
    trial.progress(f"{messages} probes a queue are failing three times")
    deadline = time.monotonic() + 12 + trial.limits["patience_seconds"]
    while time.monotonic() < deadline and not _all_done(trial, late, messages):
        time.sleep(0.5)
    dead = diagnostics.take_dead_letters(
        amqp, never, trial.limits["patience_seconds"], HOPELESS * len(SERVICES)
    )
    return {
        "messages": messages,
        "late": {service: _retried(trial, service, late) for service in SERVICES},
        "never": {service: _retried(trial, service, never) for service in SERVICES},
        "dead": [
            {
                "queue": found["headers"].get("x-original-queue"),
                "attempts": found["headers"].get("x-attempts"),
            }
            for found in dead
        ],
    }


def _retried(trial: Trial, service: str, nonce: str) -> list[dict[str, Any]]:
    """The probes that failed in this service (others only passed through it)."""
    return [p for p in diagnostics.read(trial, service, nonce) if p["attempts"] > 1]


def _all_done(trial: Trial, nonce: str, messages: int) -> bool:
    return all(
        sum(p["attempts"] == 4 and p["processedAt"] is not None for p in found) >= messages
        for found in (diagnostics.read(trial, service, nonce) for service in SERVICES)
    )


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Four attempts, delays near 1, 2 and 4 s, hopeless ones dead after four."""
    tally = Tally([queue_of(service) for service in SERVICES])
    share = limits["tolerance"]
    for service in SERVICES:
        queue = queue_of(service)
        late = evidence["late"][service]
        tally.equal(
            queue, len(late), evidence["messages"], place=f"{queue}: probes that were retried"
        )
        tally.enough(f"messages per level, {queue}", len(late), limits["messages"])
        wrong = [p for p in late if p["attempts"] != 4 or p["processedAt"] is None]
        tally.equal(queue, len(wrong), 0, place=f"{queue}: not done on the fourth attempt")
        gaps = [diagnostics.seconds_between(p["attemptTimes"]) for p in late]
        for level, delay in enumerate(LEVELS):
            seen = [g[level] for g in gaps if len(g) == len(LEVELS)]
            low, high = delay * (1 - share), delay * (1 + share) + limits["handling_seconds"]
            outside = [s for s in seen if not low <= s <= high]
            tally.judge(
                queue,
                bool(seen) and not outside,
                seen=f"{sorted(outside)[-3:] or 'no delay seen'} s",
                expected=f"{low:.2f} to {high:.2f} s",
                place=f"{queue}: delay before retry {level + 1}",
            )
            if seen:
                tally.figure(
                    f"{service}: retry {level + 1}, slowest",
                    max(seen),
                    "s",
                    limit=high,
                    n=len(seen),
                )
        tried = sorted(p["attempts"] for p in evidence["never"][service])
        tally.equal(queue, tried, [4] * HOPELESS, place=f"{queue}: attempts of hopeless probes")
        dead = sorted(str(d["attempts"]) for d in evidence["dead"] if d["queue"] == queue)
        tally.equal(queue, dead, ["4"] * HOPELESS, place=f"{queue}: dead letters, x-attempts")
    return tally.outcome()
