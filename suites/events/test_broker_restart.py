"""Accepted writes survive an outage of the broker, and everybody comes back by himself."""

from __future__ import annotations

import time
from typing import Any

import httpx

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve, exchange, http_client
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import accounts, audit, broker, payments
from suites.probes.accounts import Session

CRITERION = Criterion(
    id="broker-restart",
    area="events",
    statement="Accepted writes MUST survive a broker restart and a 20 s outage; publishers and "
    "consumers MUST come back by themselves.",
    gate="at least 200 writes accepted before, during and after; broker proven down ≥ 20 s; "
    "0 lost; flowing ≤ 15 s after",
    rules=("R3.20", "R3.21", "R3.51", "R1.113"),
    needs=(Access.CONTROL, Access.AMQP),
    parts=("payments", "audit-log", "rabbitmq"),
    effects=(Effect.READS, Effect.WRITES, Effect.DISRUPTS),
    time_limit=300,
)

PHASES = ("before", "during", "after")


QUEUES = tuple(f"{service}.events.queue" for service in ("auth", "payments", "admin", "profile"))


def test_writes_survive_the_broker(trial: Trial) -> None:
    """Payments of all three phases end in the audit log, each once."""
    # An outage of 20 s disturbs everybody, and a lost write stays lost: once is enough.
    trial.decide(observe, check, confirm=False)


def observe(trial: Trial) -> dict[str, Any]:
    """Write, stop the broker for the contracted time and write on, start it and write on."""
    amqp = broker.access(trial.target)
    with broker.channel(amqp):
        pass  # reachable, or told before anything is disturbed
    limits = trial.limits
    with trial.client(timeout=30) as client:
        admin = accounts.login_as(trial, client, "admin")
        sender = accounts.register(client, trial.prefix)
        recipient = accounts.register(client, trial.prefix)

        def write(number: int) -> list[str]:
            replies = (payments.create(client, sender, recipient.user_id) for _ in range(number))
            return [r["json"]["data"]["id"] for r in replies if r.status == 201]

        accepted = {"before": write(limits["writes"])}
        if not accepted["before"]:
            raise CouldNotObserve("no payment was accepted before anything was disturbed")
        trial.progress("broker stopped")
        trial.control("rabbitmq", "stop")
        stopped = time.monotonic()
        try:
            accepted["during"] = write(limits["writes"])
            down = [_broker_answers(amqp)]
            while time.monotonic() - stopped < limits["outage_seconds"]:
                time.sleep(0.5)  # the outage itself
                down.append(_broker_answers(amqp))
            outage = time.monotonic() - stopped
        finally:
            trial.control("rabbitmq", "start")
        _wait_for_broker(amqp)
        returned = time.monotonic()
        trial.progress("broker is back")
        consuming = broker.wait_for_consumers(amqp, QUEUES, 45.0)
        accepted["after"] = write(limits["writes"])
        flowing = _flowing(client, admin, sender, accepted["after"][-1:], returned)
        counts = _audited(client, admin, sender, accepted, 30.0)
    return {
        "accepted": {phase: len(ids) for phase, ids in accepted.items()},
        "answers_while_down": sum(down),
        "outage_seconds": round(outage, 1),
        "consuming_seconds": consuming,
        "flowing_seconds": flowing,
        "audited": counts,
        "uptimes": _uptimes(trial),
    }


def _broker_answers(amqp: Any) -> bool:
    try:
        with broker.channel(amqp):
            return True
    except CouldNotObserve:
        return False


def _wait_for_broker(amqp: Any) -> None:
    deadline = time.monotonic() + 60
    while not _broker_answers(amqp):
        if time.monotonic() > deadline:
            raise CouldNotObserve("the broker did not come back in 60 s after its start")
        time.sleep(0.25)


def _flowing(
    client: httpx.Client, admin: Session, sender: Session, last: list[str], returned: float
) -> float | None:
    """Seconds from the broker's return until the newest write stands in the audit log."""
    while last and time.monotonic() - returned < 45:
        query = f"userId={sender.user_id}&action=PAYMENT_CREATED&limit=100"
        seen = exchange(client, "GET", f"/api/admin/audit-logs?{query}", headers=admin.headers)
        data = seen["json"].get("data") if isinstance(seen["json"], dict) else None
        rows = data.get("auditLogs", []) if isinstance(data, dict) else []
        if any(row["resourceId"] in last for row in rows):
            return round(time.monotonic() - returned, 2)
        time.sleep(0.2)
    return None


def _audited(
    client: httpx.Client,
    admin: Session,
    sender: Session,
    accepted: dict[str, list[str]],
    seconds: float,
) -> dict[str, dict[str, int]]:
    """Per phase: how many payments stand in the audit log never, once, more often."""
    deadline = time.monotonic() + seconds
    while True:
        rows = audit.rows(client, admin, userId=sender.user_id, action="PAYMENT_CREATED")
        found = audit.acts(rows)
        counts = {
            phase: {
                "never": sum(found[f"PAYMENT_CREATED {id}"] == 0 for id in ids),
                "once": sum(found[f"PAYMENT_CREATED {id}"] == 1 for id in ids),
                "more": sum(found[f"PAYMENT_CREATED {id}"] > 1 for id in ids),
            }
            for phase, ids in accepted.items()
        }
        if not any(count["never"] for count in counts.values()) or time.monotonic() > deadline:
            return counts
        time.sleep(0.5)


def _uptimes(trial: Trial) -> dict[str, float]:
    """Seconds each member of each service has been up: shows that nobody had to be restarted."""
    uptimes: dict[str, float] = {}
    for name in ("gateway", "auth", "payments", "admin", "profile"):
        if name not in trial.target.services:
            continue
        for number, url in enumerate(trial.members(name), 1):
            with http_client(url) as client:
                body = exchange(client, "GET", "/health")["json"] or {}
            key = name if number == 1 else f"{name}-{number}"
            uptimes[key] = float((body.get("data") or {}).get("uptime", 0.0))
    return uptimes


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """All phases accepted and none lost; the outage was one; events flow again in time."""
    tally = Tally([*PHASES, "flowing again", "consumers are back", "nobody restarted"])
    outage = evidence["outage_seconds"]
    tally.control(
        f"the broker was down for {limits['outage_seconds']} s",
        evidence["answers_while_down"] == 0 and outage >= limits["outage_seconds"],
        f"{evidence['answers_while_down']} answers in {outage} s",
    )
    for phase in PHASES:
        number = evidence["accepted"][phase]
        tally.judge(
            phase,
            number >= limits["writes"],
            seen=f"{number} of {limits['writes']} writes accepted",
            expected="all of them: a write needs no broker",
            place=f"writes {phase} the outage",
        )
        counts = evidence["audited"][phase]
        tally.equal(phase, counts["never"], 0, place=f"writes {phase} the outage that were lost")
        tally.equal(phase, counts["more"], 0, place=f"writes {phase} the outage seen twice")
        tally.figure(f"accepted {phase}", number, limit=limits["writes"], bound="lower")
    flowing = evidence["flowing_seconds"]
    tally.judge(
        "flowing again",
        flowing is not None and flowing <= limits["flowing_seconds"],
        seen=f"{flowing} s" if flowing is not None else "not in 45 s",
        expected=f"within {limits['flowing_seconds']} s of the broker's return",
    )
    consuming = evidence["consuming_seconds"]
    tally.judge(
        "consumers are back",
        consuming is not None and consuming <= limits["flowing_seconds"],
        seen=f"{consuming} s" if consuming is not None else "not in 45 s",
        expected=f"every service's queue within {limits['flowing_seconds']} s",
    )
    young = {name: up for name, up in evidence["uptimes"].items() if up < outage}
    tally.equal("nobody restarted", young, {}, place="services younger than the outage")
    tally.figure("outage", outage, "s")
    tally.figure(
        "flowing after", 45.0 if flowing is None else flowing, "s", limit=limits["flowing_seconds"]
    )
    return tally.outcome()
