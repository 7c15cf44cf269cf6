"""A database that is away stops its own service and nobody else, and heals without a restart."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec
import numpy as np

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from loadtests.engine import samples
from loadtests.engine.calibration import calibrate, faults_during
from loadtests.engine.estimation import Decision, PercentileDecision, decide_percentile
from loadtests.engine.meanwhile import SteadyLoad
from loadtests.engine.measure import EngineFailed
from loadtests.engine.plan import Plan, Request, Schedule
from loadtests.engine.samples import Measurement
from loadtests.workloads.catalogue import LIST_QUERIES, Catalogue
from loadtests.workloads.population import Population, settle
from loadtests.workloads.standard import distinct
from suites.probes import accounts, database_outages, outages, restarts
from suites.probes.dependent_operations import NAMES, SERVICES, prepare
from suites.probes.kept_writes import PATIENCE, Writers

CRITERION = Criterion(
    id="database-outage",
    area="data",
    statement="One database that refuses or is silent MUST stop only its own service, which MUST "
    "say so, refuse with 503 in time, lose no accepted write and heal without a restart.",
    gate="each of the four databases stopped and paused, cut off and slow where that is offered; "
    "readiness and every dependent operation 503 within the gateway's time-out; the others' "
    "p95 < 150 ms from the due time over enough samples meanwhile, errors < 0.1 %; heals ≤ 10 s; "
    "every accepted write found and audited once",
    rules=("R0.10", "R0.12", "R1.14", "R1.56", "R1.81", "R3.16", "R3.44", "R1.114", "R11.1"),
    needs=(Access.CONTROL, Access.SERVICES, Access.EXEMPT),
    parts=("payments", "audit-log"),
    effects=(Effect.READS, Effect.WRITES, Effect.LOADS, Effect.DISRUPTS),
    time_limit=600,
)

# Group of the load → the service that answers it.
GROUPS = {
    "auth-me": "auth",
    "payments-list": "payments",
    "payments-detail": "payments",
    "payments-create": "payments",
    "audit-list": "admin",
    "profile": "profile",
}
REFUSED = "503 SERVICE_UNAVAILABLE"
NOTICED, TOLD, TIMELY, HEALED = "readiness", "the others' readiness", "others in time", "healing"
ANSWERED, WRITTEN, LOADED = "others answer", "writes meanwhile", "load meanwhile"
ASPECTS = (NOTICED, TOLD, ANSWERED, TIMELY, WRITTEN, LOADED, HEALED)
OUTAGES = [f"{service} {way}" for service in SERVICES for way in outages.ENDED]
_CAUGHT_UP_S = 2.0  # after a return, for what had to wait
RESTED, AGAIN = "nobody restarted", "refused payments sent again"


def test_an_outage_stays_where_it_is(trial: Trial) -> None:
    """Each database away in each way: its service, the others, and everything afterwards."""
    # Eight outages under load disturb everybody, and a lost write stays lost: once is enough.
    trial.decide(observe, check, confirm=False)


def observe(trial: Trial) -> dict[str, Any]:
    """Load and writers on; take each database away in each way; then look for every write."""
    limits = trial.limits
    urls = {name: trial.members(name) for name in database_outages.PROGRAMS}
    trial.progress("people and payments are made")
    population = settle(trial.target, prefix=trial.prefix, users=limits["users"], payments_each=2)
    plan = _plan(population, limits, trial.prefix)
    try:
        calibration = calibrate(
            plan,
            trial.evidence.path,
            "calibration",
            limit=limits["p95_ms"] / 1e3,
            seconds=limits["calibration_seconds"],
        )
    except EngineFailed as error:
        raise CouldNotObserve(str(error)) from error
    with trial.client(timeout=PATIENCE) as client:
        admin = accounts.login_as(trial, client, "admin")
        operations = prepare(trial, client, admin)
        sender, recipient = (accounts.register(client, trial.prefix) for _ in range(2))
        began = time.monotonic()
        before = restarts.uptimes(urls)
        seen: dict[str, Any] = {}
        try:
            with (
                Writers(trial, admin, sender, recipient) as writers,
                SteadyLoad(plan, trial.evidence.path, "samples") as load,
            ):
                load.wait_until_flowing()
                time.sleep(limits["lead_seconds"])  # the load as it is with every database there
                for service, way in _turns(trial):
                    trial.progress(f"{database_outages.database_of(service)}: {way}")
                    seen[f"{service} {way}"] = outage = database_outages.observe(
                        trial, service, way, operations, writers
                    )
                    if None in outage["healed"].values():
                        break  # what comes after would be judged by what has not healed
                measured = load.end()
                writers.end()
        except EngineFailed as error:
            raise CouldNotObserve(str(error)) from error
        trial.progress("every write is looked for")
        after, between = restarts.uptimes(urls), time.monotonic() - began
        unread, writes, again = "", {}, {}
        try:
            audited = writers.audited(client, limits["audit_seconds"])
            kept = writers.kept(client)
            again = writers.sent_again(client, limits["sent_again"])
        except CouldNotObserve as error:
            unread = str(error)  # what has not healed cannot be read; all else was seen
        else:
            writes = {
                service: {
                    "answers": database_outages.answers_by_phase(writers, service, seen),
                    "accepted": sum(write.accepted for write in writers.writes[service]),
                    "audited": audited[service],
                    "kept": kept[service],
                }
                for service in writers.services
            }
    due = datetime.fromisoformat(measured.summary.started).timestamp()
    return {
        "timeout": trial.target.settings.upstream_timeout_ms / 1000,
        "calibration": msgspec.to_builtins(calibration),
        "faults": list(faults_during(measured, limits["p95_ms"] / 1e3)),
        "samples": "samples",
        "started": due,
        "outages": seen,
        "writes": writes,
        "unread": unread,
        "again": again,
        "absent": {
            name: why
            for names in NAMES.values()
            for name, part in names.items()
            if part and (why := trial.target.absence(part))
        },
        "uptimes": {"before": before, "after": after, "between": round(between, 3)},
    }


def _turns(trial: Trial) -> Iterator[tuple[str, str]]:
    """Each service with each way in which its database can be away."""
    for service in SERVICES:
        for way in outages.ways(trial, database_outages.database_of(service), (service,)):
            yield service, way


def _plan(population: Population, limits: Limits, prefix: str) -> Plan:
    """As much for each service, so that three of four requests are for others than the one."""
    catalogue, chance = Catalogue(population, f"{prefix} outage"), random.Random(1)
    people, admin = population.members, population.admin
    places: list[Request] = []
    for number in range(limits["users"] * len(LIST_QUERIES)):
        member, other = people[number % len(people)], people[(number + 1) % len(people)]
        query = LIST_QUERIES[number % len(LIST_QUERIES)]
        turn = [
            catalogue.me(member),
            (
                catalogue.payments(member, query),
                catalogue.payment(member, member.payments[0]),
                catalogue.create(member, other, number % 10),
            )[number % 3],
            catalogue.profile(member),
        ]
        if admin is not None:
            turn.append(catalogue.audit(admin, member))
        chance.shuffle(turn)
        places += [request for request in turn if request.group not in population.absent]
    requests, order = distinct(places)
    return Plan(
        origin=population.origin,
        ca=population.ca,
        addresses=population.addresses,
        schedule=Schedule(rate=limits["rate"], seconds=limits["calibration_seconds"]),
        requests=requests,
        order=order,
        timeout=PATIENCE,
    )


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Each outage: told, refused, kept apart, healed; and no write lost over all of them."""
    names = dict.fromkeys((*OUTAGES, *evidence["outages"]))
    subjects = [f"{outage}: {aspect}" for outage in names for aspect in ASPECTS]
    subjects += [f"{outage}: {name}" for outage in names for name in NAMES[outage.split()[0]]]
    writes = [f"writes to {service}" for service in SERVICES]
    tally = Tally([*subjects, *writes, AGAIN, RESTED])
    measured = samples.read(evidence.sibling(evidence["samples"]))
    ways = {name.split()[1] for name in evidence["outages"]}
    tally.figure("ways to be away, of four", len(ways))
    for name, outage in evidence["outages"].items():
        _judge_readiness(tally, name, outage, limits)
        _judge_operations(tally, name, outage, evidence)
        _judge_load(tally, name, outage, measured, evidence, limits)
        _judge_answers(tally, name, evidence)
        _judge_healing(tally, name, outage, limits)
    _judge_writes(tally, evidence, limits)
    uptimes = evidence["uptimes"]
    young = {
        name: now
        for name, now in uptimes["after"].items()
        if any(up < uptimes["between"] for up in now) or len(now) != len(uptimes["before"][name])
    }
    tally.equal(RESTED, young, {}, place="processes younger than the outages")
    return tally.outcome()


def _quiet(measured: Measurement, evidence: Evidence, limits: Limits) -> PercentileDecision:
    """How late answers are with every database there: no outage is to blame for what is slow."""
    quiet = measured.ok.copy()
    for outage in evidence["outages"].values():
        quiet &= (measured.due < outage["began"] - evidence["started"]) | (
            measured.due > outage["whole"] - evidence["started"] + _CAUGHT_UP_S
        )
    return _in_time(measured, quiet, limits, limits["quiet"])


def _in_time(
    measured: Measurement, chosen: Any, limits: Limits, at_least: int
) -> PercentileDecision:
    return decide_percentile(
        measured.done[chosen] - measured.due[chosen],
        measured.due[chosen],
        0.95,
        limits["p95_ms"] / 1e3,
        at_least=at_least,
    )


def _judge_readiness(tally: Tally, name: str, outage: Mapping[str, Any], limits: Limits) -> None:
    service = name.split()[0]
    told_by, reached = outage["ready"]["down"], outage["reached"]
    before = {who: seen["answer"] for who, seen in outage["ready"]["before"].items()}
    tally.control(f"everybody is ready before {name}", set(before.values()) == {"200"}, before)
    if name.split()[1] in outages.ON_THE_WAY or reached["before"] == "not granted":
        refused = [a for op in outage["operations"].values() for a in op["down"]]
        gone = any(seen["answer"] == REFUSED for seen in refused)
        tally.control(f"{name}: the database is away", gone, "no operation was refused")
    else:
        tally.control(
            f"{name}: the database is away",
            (reached["before"], reached["down"]) == ("answers", "nobody"),
            f"before: {reached['before']}, meanwhile: {reached['down']}",
        )
    own = told_by[service]
    tally.judge(
        f"{name}: {NOTICED}",
        own["noticed"] is not None
        and own["noticed"] <= limits["notice_seconds"]
        and set(own["since"]) == {f"{REFUSED}, database down"},
        seen=f"{own['since'] or own['answers']}, noticed after {own['noticed']} s",
        expected=f"{REFUSED}, database down, within {limits['notice_seconds']} s and until the end",
    )
    # Whether the gateway counts an auth-service without its database as down is not contracted.
    others = {
        who: seen["answers"]
        for who, seen in told_by.items()
        if who != service and (who, service) != ("gateway", "auth")
    }
    ready = all(set(answers) <= {"200", "200, database up"} for answers in others.values())
    tally.judge(f"{name}: {TOLD}", ready, seen=others, expected="200 all the time")


def _judge_operations(
    tally: Tally, name: str, outage: Mapping[str, Any], evidence: Evidence
) -> None:
    service = name.split()[0]
    for operation in NAMES[service]:
        subject = f"{name}: {operation}"
        if operation in evidence["absent"]:
            tally.absent(subject, evidence["absent"][operation])
            continue
        seen = outage["operations"].get(operation)
        if seen is None:
            continue
        first, last = seen["before"]["answer"], seen["after"]["answer"]
        tally.control(f"{operation} before {name}", first == seen["accepted"], first)
        tally.equal(
            f"{name}: {HEALED}", last, seen["accepted"], place=f"{subject}, after the return"
        )
        for answer in seen["down"]:
            tally.equal(subject, answer["answer"], REFUSED)
            _judge_time(tally, subject, answer["seconds"], evidence["timeout"])
            # GraphQL tells its refusals in a 200 (R10.4).
            if answer["answer"] == REFUSED and "GraphQL" not in operation:
                retry = answer["retry_after"]
                tally.judge(
                    subject,
                    len(retry) == 1 and retry[0].isdigit() and int(retry[0]) >= 1,
                    seen=f"Retry-After {retry}",
                    expected="one, of at least 1 s",
                )


def _judge_time(tally: Tally, subject: str, seconds: float, timeout: float) -> None:
    # R1.13: at the time-out it would be the gateway's 504 instead of the service's own word.
    tally.judge(
        subject,
        seconds < timeout,
        seen=f"after {seconds:.2f} s",
        expected=f"before the gateway's time-out of {timeout:g} s",
        place=f"{subject}: time",
    )


def _judge_load(
    tally: Tally,
    name: str,
    outage: Mapping[str, Any],
    measured: Measurement,
    evidence: Evidence,
    limits: Limits,
) -> None:
    """The others as if nothing were; the own ones answered or refused, never anything else."""
    began, down, back, whole = (
        outage[moment] - evidence["started"] for moment in ("began", "down", "back", "whole")
    )
    names = measured.summary.groups
    own = np.isin(measured.group, [i for i, g in enumerate(names) if _of(g) == name.split()[0]])
    disturbed = (measured.due >= began - evidence["timeout"]) & (measured.due <= whole)
    others = ~own & (measured.due >= began) & (measured.due <= whole)
    failed = others & ~measured.ok
    share = 100.0 * np.count_nonzero(failed) / (np.count_nonzero(others) or 1)
    tally.judge(
        f"{name}: {ANSWERED}",
        share < limits["errors_percent"],
        seen=f"{np.count_nonzero(failed)} of {np.count_nonzero(others)} requests to other services "
        f"failed: {_statuses(measured, failed)}",
        expected=f"fewer than {limits['errors_percent']} %",
    )
    timed = ~own & measured.ok & (measured.due >= down) & (measured.due <= back)
    decision = _in_time(measured, timed, limits, limits["others"])
    estimate = decision.estimate
    # A tired generator cannot tell what is late; what was answered it can.
    if faults := [*evidence["calibration"]["faults"], *evidence["faults"]]:
        tally.unproven(f"{name}: {TIMELY}", "; ".join(faults))
    elif decision.decision is Decision.UNDECIDED:
        tally.unproven(f"{name}: {TIMELY}", decision.reason)
    elif (
        decision.decision is Decision.FAIL
        and (quiet := _quiet(measured, evidence, limits)).decision is not Decision.PASS
    ):
        reason = f"{decision.reason}; with every database there: {quiet.reason}"
        tally.unproven(f"{name}: {TIMELY}", reason)
    else:
        tally.judge(
            f"{name}: {TIMELY}",
            decision.decision is Decision.PASS,
            seen=f"p95 {estimate.value * 1e3:.1f} ms "
            f"[{estimate.low * 1e3:.1f} – {estimate.high * 1e3:.1f}]",
            expected=f"below {limits['p95_ms']} ms",
        )
    tally.figure(
        f"p95 of the others, {name}",
        round(estimate.value * 1e3, 1),
        "ms",
        limit=limits["p95_ms"],
        interval=(round(estimate.low * 1e3, 1), round(estimate.high * 1e3, 1)),
        n=estimate.n,
    )
    mine = own & disturbed
    wrong = mine & ~measured.ok & (measured.status != 503)
    tally.judge(
        f"{name}: {LOADED}",
        not wrong.any() and bool(mine.any()),
        seen=f"{_statuses(measured, wrong)} of {np.count_nonzero(mine)} requests",
        expected="answered or refused with 503",
    )


def _of(group: str) -> str:
    return GROUPS[group]


def _statuses(measured: Measurement, chosen: Any) -> dict[str, int]:
    """How often each group was answered with each status; 0 is no answer."""
    found = Counter(
        f"{measured.summary.groups[group]} {status or 'no answer'}"
        for group, status in zip(measured.group[chosen], measured.status[chosen], strict=True)
    )
    return dict(found.most_common(5))


def _judge_answers(tally: Tally, name: str, evidence: Evidence) -> None:
    """What writers were told: 503 in time by the service concerned, by others only 2xx."""
    for service, writes in evidence["writes"].items():
        own = service == name.split()[0]
        for answer, told_of in writes["answers"].get(name, {}).items():
            accepted = answer in ("200", "201")
            tally.judge(
                f"{name}: {WRITTEN}",
                accepted or (own and answer == REFUSED),
                seen=f"{answer} ({told_of['number']} of them)",
                expected=f"accepted, or {REFUSED} with Retry-After" if own else "accepted",
                place=f"{name}: writes to {service}",
            )
            _judge_time(
                tally,
                f"{name}: {WRITTEN}",
                told_of["slowest"],
                evidence["timeout"],
            )


def _judge_healing(tally: Tally, name: str, outage: Mapping[str, Any], limits: Limits) -> None:
    for what, seconds in outage["healed"].items():
        tally.judge(
            f"{name}: {HEALED}",
            seconds is not None and seconds <= limits["heal_seconds"],
            seen=f"not {what} again" if seconds is None else f"{what} again after {seconds} s",
            expected=f"within {limits['heal_seconds']} s of the database's return",
        )
    known = [seconds for seconds in outage["healed"].values() if seconds is not None]
    tally.figure(
        f"healed after, {name}", max(known, default=99.0), "s", limit=limits["heal_seconds"]
    )


def _judge_writes(tally: Tally, evidence: Evidence, limits: Limits) -> None:
    if unread := evidence.get("unread", ""):
        for subject in (*(f"writes to {service}" for service in SERVICES), AGAIN):
            tally.unproven(subject, unread)
        return
    for service in SERVICES:
        subject = f"writes to {service}"
        writes = evidence["writes"].get(service)
        if writes is None:
            tally.absent(subject, "the target has no such operation")
            continue
        between = writes["answers"].get("between", {})
        strange = {answer: t for answer, t in between.items() if answer not in ("200", "201")}
        tally.equal(subject, strange, {}, place=f"{subject}: refused with every database there")
        tally.enough(f"accepted {subject}", writes["accepted"], limits["writes"])
        audited, kept = writes["audited"], writes["kept"]
        tally.equal(subject, audited["never"], 0, place=f"{subject}: accepted, never audited")
        tally.equal(subject, audited["more"], 0, place=f"{subject}: audited more than once")
        tally.judge(
            subject,
            0 < kept["asked"] == kept["found"],
            seen=f"{kept['found']} of {kept['asked']} there",
            expected="all of them",
            place=f"{subject}: accepted, read back",
            severity="critical",
        )
    again = evidence["again"]
    tally.enough("refused payments sent again", again["sent"], limits["least_again"])
    tally.equal(AGAIN, again["accepted"], again["sent"], place=f"{AGAIN}: accepted")
    tally.equal(AGAIN, again["not_once"], 0, place=f"{AGAIN}: not there exactly once")
