"""Every process is restarted under load, one after the other, and nobody is the worse for it."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import msgspec
import numpy as np
from websockets.exceptions import InvalidHandshake

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve, wait_until
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from loadtests.engine import samples
from loadtests.engine.calibration import faults_during
from loadtests.engine.estimation import percentile
from loadtests.engine.meanwhile import SteadyLoad
from loadtests.engine.measure import EngineFailed
from loadtests.engine.plan import Plan
from loadtests.engine.samples import Measurement
from loadtests.workloads.population import Member, Population, exempt_addresses, settle
from loadtests.workloads.standard import mix, standard_plan
from suites.probes import audit, payments, restarts
from suites.probes.accounts import Session, login_as
from suites.probes.kept_sockets import KeptSocket

CRITERION = Criterion(
    id="rolling-restart",
    area="performance",
    statement="A restart of gateways and services, one member after the other under the standard "
    "mixed workload, MUST lose no accepted write and fail fewer than 0.1 % of the requests.",
    gate="each member of each part shown to be another process; errors < 0.1 % of the requests due "
    "meanwhile (≥ 1,000); every accepted write found once, and audited once; every WebSocket "
    "closed with 1001, back ≤ 10 s after, and gets its events",
    rules=("R0.10", "R0.11", "R0.13", "R1.52", "R3.16", "R4.30"),
    needs=(Access.CONTROL, Access.EXEMPT, Access.SERVICES),
    parts=("replicas", "websocket", "payments", "audit-log"),
    effects=(Effect.READS, Effect.WRITES, Effect.LOADS, Effect.DISRUPTS),
    time_limit=600,
)

WRITES = "payments-create"
RESTARTED = tuple(f"{part} restarted" for part in restarts.PARTS)
LOST, TWICE, AUDITED = "no write lost", "no write twice", "each write audited once"
CLOSED, BACK, REACHED = "sockets closed in order", "sockets back", "sockets get their events"
SHUTDOWN = 1001  # R4.30
_LEAST_FOR_P95 = 59
SUBJECTS = (*RESTARTED, "errors", LOST, TWICE, AUDITED, CLOSED, BACK, REACHED)


def test_a_rolling_restart_disturbs_nobody(trial: Trial) -> None:
    """Errors, writes and sockets over the restart of every member."""
    # What is lost stays lost, and a second restart would be another one.
    trial.decide(observe, check, confirm=False)


def observe(trial: Trial) -> dict[str, Any]:
    """Load on, sockets open, restart all, then read back what was accepted."""
    limits = trial.limits
    urls = restarts.members(trial)
    trial.progress("people and payments are made")
    population = settle(trial.target, prefix=trial.prefix, users=limits["users"], payments_each=2)
    plan = _with_writes_apart(
        standard_plan(
            population, rate=limits["rate"], seconds=2 * limits["most_seconds"], prefix=trial.prefix
        ),
        trial.prefix,
    )
    before, first_look = restarts.uptimes(urls), time.monotonic()
    with _sockets(trial, population) as sockets:
        try:
            with SteadyLoad(plan, trial.evidence.path, "samples") as load:
                load.wait_until_flowing()
                time.sleep(limits["lead_seconds"])  # the load as it is without a restart
                trial.progress(f"restarting everything under {limits['rate']} requests/s")
                restart = _restarted(trial)
                time.sleep(limits["lead_seconds"])  # and as it is afterwards
                measured = load.end()
        except EngineFailed as error:
            raise CouldNotObserve(str(error)) from error
        between = time.monotonic() - first_look
        after = restarts.uptimes(urls)
        trial.progress("the writes are read back")
        reached = _reached(trial, population, sockets)
        seen_of_sockets = {
            "opened": len(sockets),
            "codes": [[loss["code"] for loss in socket.losses] for socket in sockets],
            "seconds": [[loss["seconds"] for loss in socket.losses] for socket in sockets],
            "reached": reached,
        }
    due = datetime.fromisoformat(measured.summary.started).timestamp()
    return {
        "rate": limits["rate"],
        "mix": mix(plan),
        "samples": "samples",
        "restart": {
            "seconds": round(restart["ended"] - restart["began"], 1),
            "from": round(restart["began"] - due, 3),
            "to": round(restart["ended"] - due, 3),
        },
        "uptimes": {"before": before, "after": after, "between": round(between, 3)},
        "faults": list(faults_during(measured, limits["late_ms"] / 1e3)),
        "writes": _reconciled(trial, population, plan, measured),
        "sockets": seen_of_sockets,
    }


def _restarted(trial: Trial) -> dict[str, float]:
    """Restart everything, and again while too few requests were due for a share of errors."""
    limits = trial.limits
    restart = restarts.rolling(trial, seconds=limits["most_seconds"])
    # Arrivals are random: a tenth more than needed is due with certainty enough.
    while (restart["ended"] - restart["began"]) * limits["rate"] < 1.1 * limits["requests"]:
        trial.progress("restarted so fast that once more is needed")
        again = restarts.rolling(trial, seconds=limits["most_seconds"])
        restart["ended"] = again["ended"]
    return restart


def _with_writes_apart(plan: Plan, prefix: str) -> Plan:
    """The plan with each new payment told from all others by its description."""
    requests, order = list(plan.requests), []
    for place, number in enumerate(plan.order):
        request = plan.requests[number]
        if request.group == WRITES:
            body = {
                **msgspec.json.decode(request.body or b"{}"),
                "description": _description(prefix, place),
            }
            requests.append(msgspec.structs.replace(request, body=msgspec.json.encode(body)))
            number = len(requests) - 1
        order.append(number)
    return msgspec.structs.replace(plan, requests=tuple(requests), order=tuple(order))


def _description(prefix: str, place: int) -> str:
    return f"{prefix} rolling {place}"


@contextlib.contextmanager
def _sockets(trial: Trial, population: Population) -> Iterator[list[KeptSocket]]:
    """One socket for each person, connected again whenever it is closed."""
    http, addresses = trial.target.http, exempt_addresses(trial.target)
    people = population.members
    sockets = [
        KeptSocket(
            http.websocket,
            member.access_token,
            ca=http.ca,
            address=addresses[number % len(addresses)] if addresses else None,
        )
        for number, member in enumerate(people)
    ]
    try:
        for socket in sockets:
            try:
                socket.start()
            except (InvalidHandshake, OSError, TimeoutError) as error:
                raise CouldNotObserve(f"no socket before the restart: {error}") from error
        yield sockets
    finally:
        for socket in sockets:
            socket.end()


def _reached(trial: Trial, population: Population, sockets: list[KeptSocket]) -> int:
    """After the restart each person pays somebody; how many sockets got that event."""
    with contextlib.suppress(CouldNotObserve):
        wait_until(
            lambda: all(socket.is_open for socket in sockets),
            seconds=trial.limits["back_seconds"],
            what="all sockets to be back",
        )
    people = population.members
    wanted: list[str] = []
    with trial.client() as client:
        for number, member in enumerate(people):
            other = people[(number + 1) % len(people)]
            key = f"{trial.prefix}-after-{number}"
            payments.create(
                client,
                _session(member),
                other.user_id,
                description=f"{trial.prefix} after",
                headers={"X-Correlation-ID": key},
            )
            wanted.append(key)

    def got() -> int:
        pairs = zip(sockets, wanted, strict=True)
        return sum(key in socket.correlations for socket, key in pairs)

    with contextlib.suppress(CouldNotObserve):
        wait_until(
            lambda: got() == len(wanted),
            seconds=trial.limits["event_seconds"],
            what="each socket to get its event",
        )
    return got()


def _session(member: Member) -> Session:
    return Session(
        {"id": member.user_id, "email": member.email}, member.access_token, member.refresh_token
    )


def _reconciled(
    trial: Trial, population: Population, plan: Plan, measured: Measurement
) -> dict[str, Any]:
    """What became of each write that was sent: in the sender's list, and in the audit log."""
    sent = {
        _described(plan, int(number)): bool(ok)
        for number, ok in zip(measured.request, measured.ok, strict=True)
        if plan.requests[int(number)].group == WRITES
    }
    accepted = [description for description, ok in sent.items() if ok]
    with trial.client(timeout=30) as client:
        found: dict[str, set[str]] = {}
        for member in population.members:
            for payment in payments.all_of(client, _session(member)):
                found.setdefault(payment["description"], set()).add(payment["id"])
        ids = {id for description in accepted for id in found.get(description, ())}
        audited = _audited(trial, client, population, ids)
    return {
        "sent": len(sent),
        "accepted": len(accepted),
        "found": sum(description in found for description in accepted),
        "twice": sorted(name for name in sent if len(found.get(name, ())) > 1),
        "unanswered": len(sent) - len(accepted),
        "unanswered_found": sum(name in found for name, ok in sent.items() if not ok),
        "audited": {
            "once": sum(count == 1 for count in audited.values()),
            "never": sum(count == 0 for count in audited.values()),
            "more": sum(count > 1 for count in audited.values()),
        },
    }


def _described(plan: Plan, number: int) -> str:
    return str(msgspec.json.decode(plan.requests[number].body or b"{}").get("description"))


def _audited(
    trial: Trial, client: httpx.Client, population: Population, ids: set[str]
) -> dict[str, int]:
    """How often each payment's creation stands in the audit log, waited for."""
    admin = login_as(trial, client, "admin")
    deadline = time.monotonic() + trial.limits["audit_seconds"]
    while True:
        acts: Counter[str] = Counter()
        for member in population.members:
            rows = audit.rows(client, admin, userId=member.user_id, action="PAYMENT_CREATED")
            acts += audit.acts(rows)
        counts = {id: acts[f"PAYMENT_CREATED {id}"] for id in ids}
        if all(counts.values()) or time.monotonic() > deadline:
            return counts
        time.sleep(0.5)


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """All restarted; errors below the limit meanwhile; writes there once; sockets back."""
    tally = Tally(SUBJECTS)
    _judge_restart(tally, evidence)
    _judge_errors(tally, evidence, limits)
    _judge_writes(tally, evidence["writes"], limits)
    _judge_sockets(tally, evidence["sockets"], limits)
    return tally.outcome()


def _judge_restart(tally: Tally, evidence: Evidence) -> None:
    seconds = evidence["restart"]["seconds"]
    tally.figure("restart of everything", seconds, "s")
    for part, subject in zip(restarts.PARTS, RESTARTED, strict=True):
        before, after = (evidence["uptimes"][when].get(part, []) for when in ("before", "after"))
        tally.figure(f"members of {part}", len(after))
        # The restart is the cause whose effects are judged; without it there is nothing to judge.
        # A process that was there at the first look has been up for longer than it lies back.
        between = evidence["uptimes"]["between"]
        again = len(before) == len(after) >= 2 and all(0 <= now < between for now in after)
        seen = f"up for {before} s before, for {after} s after"
        tally.control(f"each of two or more members of {part} is another process", again, seen)
        tally.judge(subject, again, seen=seen, expected="another process of each member")


def _judge_errors(tally: Tally, evidence: Evidence, limits: Limits) -> None:
    """Only what was due meanwhile counts: what is due before and after would thin the errors."""
    faults = evidence["faults"]
    tally.control("the generator was in time", not faults, "; ".join(faults))
    measured = samples.read(evidence.sibling(evidence["samples"]))
    restart = evidence["restart"]
    meanwhile = (measured.due >= restart["from"]) & (measured.due <= restart["to"] + 1.0)
    requests = int(np.count_nonzero(meanwhile))
    failed = int(np.count_nonzero(meanwhile & ~measured.ok))
    others = int(np.count_nonzero(~meanwhile & ~measured.ok))
    tally.enough("requests meanwhile", requests, limits["requests"])
    share = 100.0 * failed / max(1, requests)
    seen_as = Counter(
        f"{measured.summary.groups[group]} {status or 'no answer'}"
        for group, status in zip(
            measured.group[meanwhile & ~measured.ok],
            measured.status[meanwhile & ~measured.ok],
            strict=True,
        )
    )
    tally.judge(
        "errors",
        share < limits["errors_percent"],
        seen=f"{failed} of {requests} ({share:.3g} %): {dict(seen_as.most_common(5))}",
        expected=f"below {limits['errors_percent']} %",
        place="errors during the restart",
    )
    tally.figure("errors meanwhile", round(share, 3), "%", limit=limits["errors_percent"])
    tally.figure("errors before and after", others)
    ok = meanwhile & measured.ok
    if np.count_nonzero(ok) >= _LEAST_FOR_P95:
        latency = percentile(measured.done[ok] - measured.due[ok], measured.due[ok], 0.95)
        tally.figure("p95 meanwhile", round(latency.value * 1e3, 1), "ms", n=latency.n)


def _judge_writes(tally: Tally, writes: dict[str, Any], limits: Limits) -> None:
    tally.enough("accepted writes", writes["accepted"], limits["writes"])
    lost = writes["accepted"] - writes["found"]
    tally.judge(
        LOST,
        lost == 0,
        seen=f"{lost} of {writes['accepted']} accepted writes are not there",
        expected="all of them",
    )
    tally.equal(TWICE, len(writes["twice"]), 0, place="writes that had their effect twice")
    audited = writes["audited"]
    tally.judge(
        AUDITED,
        audited["never"] == audited["more"] == 0,
        seen=f"{audited['never']} never, {audited['more']} more than once",
        expected=f"each of {writes['found']} once",
    )
    tally.figure("writes found", writes["found"], limit=writes["accepted"], bound="lower")


def _judge_sockets(tally: Tally, sockets: dict[str, Any], limits: Limits) -> None:
    """Both gateways were restarted, so each socket was closed at least once."""
    opened = sockets["opened"]
    tally.enough("sockets", opened, limits["users"])
    untouched = sum(not codes for codes in sockets["codes"])
    tally.control("each socket's gateway was restarted", untouched == 0, f"{untouched} not closed")
    codes = Counter(code for codes in sockets["codes"] for code in codes)
    tally.judge(
        CLOSED,
        set(codes) <= {SHUTDOWN},
        seen=f"close codes {dict(codes)}",
        expected=f"{SHUTDOWN} only",
    )
    seconds = [taken for losses in sockets["seconds"] for taken in losses]
    known = [taken for taken in seconds if taken is not None]
    away = len(seconds) - len(known)
    slowest = max(known, default=0.0)
    tally.judge(
        BACK,
        away == 0 and slowest <= limits["back_seconds"],
        seen=f"{away} not back, the others after {slowest} s at most",
        expected=f"all back within {limits['back_seconds']} s",
    )
    tally.equal(REACHED, sockets["reached"], opened, place="sockets that got their event after")
    tally.figure("slowest return of a socket", slowest, "s", limit=limits["back_seconds"])
