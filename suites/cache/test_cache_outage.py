"""Redis away costs speed, never correctness, and what guards accounts stays in force."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import accounts, barriers, cache_outage_cast, cache_outages, outages
from suites.probes import cached_entries as cached
from suites.probes.database_outages import PROGRAMS
from suites.probes.session_guard import DOORS, REVOKED, Doors

CRITERION = Criterion(
    id="cache-outage",
    area="cache",
    statement="Redis down MUST cost speed, never correctness, and checks of sessions, passwords "
    "and credentials MUST stay in force.",
    gate="Redis stopped and paused, cut off and slow where that is offered: every kind of read "
    "BYPASS with the same body, at most 250 ms later than usual; nothing older than a write, "
    "meanwhile and after the return; revoked sessions refused at every door ≤ 1 s; lock and "
    "back-off, credential limiter and edge limits in force, general limiter open; 503 without "
    "auth-service or its database; cached again ≤ 10 s",
    rules=("R6.9", "R6.11", "R6.2", "R6.5", "R1.38", "R1.39", "R1.45", "R1.81", "R4.25", "R0.10"),
    needs=(Access.CONTROL, Access.SERVICES, Access.EXEMPT, Access.TWO),
    parts=("redis", "payments", "lockout"),
    effects=(Effect.READS, Effect.WRITES, Effect.LOADS, Effect.DISRUPTS),
    time_limit=600,
)

ENDED, STILL, LATER = "sessions ended meanwhile", "sessions ended before", "after the return"
SOCKET, LET_IN = "realtime", "open sessions"
LOCK, BACK_OFF, LOGIN = "lock", "back-off", "login"
CREDENTIAL, GENERAL, EDGE = "credential limiter", "general limiter", "edge limits"
GUARDS = (LET_IN, LOCK, BACK_OFF, LOGIN, CREDENTIAL, GENERAL, EDGE, SOCKET)
BOTH = {
    "login": "login without auth's database",
    "read": "protected read without auth-service",
    "websocket": "WebSocket without auth-service",
}
# As `barriers.fail_until_locked` goes, by R1.76–R1.78.
LOCKING = (
    "401 INVALID_CREDENTIALS",
    "401 INVALID_CREDENTIALS",
    "429 TOO_MANY_ATTEMPTS",
    "401 INVALID_CREDENTIALS",
    "401 INVALID_CREDENTIALS",
    "429 ACCOUNT_LOCKED",
    "429 ACCOUNT_LOCKED",
)


def test_without_redis_everything_stays_right(trial: Trial) -> None:
    """Each way of losing Redis: reads, writes, sessions and barriers, until it is back."""
    # One late read among hundreds can be the machine's: a second look tells.
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Make everybody who is needed, then take Redis away in each way."""
    ways = outages.ways(trial, cache_outages.PART, PROGRAMS)
    absent = cached.absent(trial)
    kinds = tuple(kind for kind in cached.KINDS if kind not in absent)
    found: dict[str, Any] = {}
    trial.progress("people, entries and sessions are made")
    with (
        Doors(trial) as doors,
        trial.client(timeout=15) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        admin = accounts.login_as(trial, client, "admin")
        victims = [accounts.register(client, trial.prefix).email for _ in range(len(ways) + 1)]
        locking = pool.submit(cache_outage_cast.locked, trial, victims[0])
        people = cache_outage_cast.people(trial, client, admin, len(ways))
        recipient = accounts.register(client, trial.prefix)
        spent = barriers.run_into_general_limit(trial)
        locked = locking.result()
        for turn, way in enumerate(ways):
            trial.progress(f"redis: {way}")
            cast = cache_outage_cast.cast(
                trial, client, admin, people, kinds, turn, victims, recipient=recipient, spent=spent
            )
            found[way] = cache_outages.observe(
                trial, way, cast, doors, both=way == next(iter(outages.ENDED))
            )
    return {
        "outages": found,
        "absent": absent,
        "absent_doors": doors.absent,
        "locked_before": locked,
        "general_before": {name: spent[name] for name in ("limit", "refused")},
    }


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Each row of R6.11 in each way, and nothing stale over a stated number of pairs."""
    ways = dict.fromkeys((*outages.ENDED, *evidence["outages"]))
    subjects = [
        f"{way}: {kind}, {aspect}"
        for way in ways
        for kind in cached.KINDS
        for aspect in ("read", "in time", "fresh", "back")
    ]
    subjects += [
        f"{way}: {aspect}, {door}"
        for way in ways
        for aspect in (STILL, ENDED, LATER)
        for door in DOORS
    ]
    subjects += [f"{way}: {guard}" for way in ways for guard in GUARDS]
    subjects += [f"{next(iter(ways))}: {name}" for name in BOTH.values()]
    tally = Tally(subjects)
    tally.figure("ways to be away, of four", len(evidence["outages"]))
    tally.control(
        "an account can be locked",
        evidence["locked_before"] == list(LOCKING),
        evidence["locked_before"],
    )
    for way in ways:
        for kind, why in evidence["absent"].items():
            for aspect in ("read", "in time", "fresh", "back"):
                tally.absent(f"{way}: {kind}, {aspect}", why)
        for door, why in evidence["absent_doors"].items():
            for aspect in (STILL, ENDED, LATER):
                tally.absent(f"{way}: {aspect}, {door}", why)
    for way, outage in evidence["outages"].items():
        _judge_away(tally, way, outage)
        _judge_reads(tally, way, outage)
        _judge_pairs(tally, way, outage, limits)
        _judge_sessions(tally, way, outage, limits)
        _judge_guards(tally, way, outage, evidence, limits)
        for name, told in outage["meanwhile"].get("both", {}).items():
            tally.equal(f"{way}: {BOTH[name]}", told, "503 SERVICE_UNAVAILABLE")
        if why := outage["meanwhile"]["realtime"].get("absent"):
            tally.absent(f"{way}: {SOCKET}", why)
            tally.absent(f"{way}: {BOTH['websocket']}", why)
    # Last, for what is wrong is worse than what is late, and is to be told first.
    for way, outage in evidence["outages"].items():
        _judge_times(tally, way, outage, limits)
    pairs = sum(
        of_kind["hit_before"]
        for outage in evidence["outages"].values()
        for of_kind in outage["pairs"].values()
    )
    tally.enough("entries that could have been stale", pairs, limits["pairs"])
    return tally.outcome(passed=f"{pairs} entries written without Redis, none stale")


def _judge_away(tally: Tally, way: str, outage: Mapping[str, Any]) -> None:
    before, meanwhile, after = (outage[when]["redis"] for when in ("before", "meanwhile", "after"))
    if way in outages.ON_THE_WAY or before == "not granted":
        sources = {
            source for seen in outage["meanwhile"]["reads"].values() for source in seen["outcomes"]
        }
        tally.control(f"{way}: redis is away", "200 BYPASS" in sources, sorted(sources))
        return
    tally.control(
        f"{way}: redis is away",
        (before, meanwhile, after) == ("answers", "nobody", "answers"),
        f"before: {before}, meanwhile: {meanwhile}, after: {after}",
    )


def _judge_reads(tally: Tally, way: str, outage: Mapping[str, Any]) -> None:
    """The same answers as before, from the database, also for somebody who is counted."""
    for kind, seen in outage["meanwhile"]["reads"].items():
        usual = outage["before"]["reads"][kind]
        subject = f"{way}: {kind}, read"
        tally.control(
            f"{way}: {kind} is read before",
            set(usual["outcomes"]) == {"200 BYPASS"},
            usual["outcomes"],
        )
        number = sum(seen["outcomes"].values())
        tally.equal(subject, seen["outcomes"], {"200 BYPASS": number})
        tally.judge(
            subject,
            set(seen["bodies"]) == set(usual["bodies"]) and len(seen["bodies"]) == 1,
            seen=f"{len(seen['bodies'])} bodies, {len(set(seen['bodies']) - set(usual['bodies']))} "
            "of them others than before",
            expected="the same body as before",
            place=f"{subject}, body",
            severity="critical",
        )
    for kind, seen in outage["meanwhile"]["limited"].items():
        number = sum(seen["outcomes"].values())
        tally.equal(
            f"{way}: {kind}, read",
            seen["outcomes"],
            {"200 BYPASS": number},
            place=f"{way}: {kind}, read by somebody who is counted",
        )


def _judge_times(tally: Tally, way: str, outage: Mapping[str, Any], limits: Limits) -> None:
    """R6.9: late by a bounded time, and after three failures not at all."""
    slowest = 0.0
    for kind, seen in outage["meanwhile"]["reads"].items():
        usual = outage["before"]["reads"][kind]["seconds"]
        subject, number = f"{way}: {kind}, in time", len(seen["seconds"])
        if number < limits["reads"]:
            tally.unproven(subject, f"{number} reads")
            continue
        later = max(seen["seconds"]) - max(usual)
        slowest = max(slowest, later)
        _judge_lateness(tally, subject, later, limits)
        lasting = median(seen["seconds"][number // 2 :]) - median(usual)
        tally.judge(
            subject,
            lasting * 1e3 <= limits["lasting_ms"],
            seen=f"the later half {lasting * 1e3:.0f} ms later than usual",
            expected=f"at most {limits['lasting_ms']} ms: without further waiting",
            place=f"{subject}, in the long run",
        )
    limited = outage["meanwhile"]["limited"]
    before = max(max(seen["seconds"]) for seen in outage["before"]["limited"].values())
    for kind, seen in limited.items():
        later = max(seen["seconds"]) - before
        slowest = max(slowest, later)
        place = f"{way}: {kind}, in time for somebody who is counted"
        _judge_lateness(tally, f"{way}: {kind}, in time", later, limits, place=place)
    tally.figure(
        f"{way}: later than usual at most", round(1e3 * slowest), "ms", limit=limits["later_ms"]
    )


def _judge_lateness(
    tally: Tally, subject: str, later: float, limits: Limits, *, place: str = ""
) -> None:
    tally.judge(
        subject,
        later * 1e3 <= limits["later_ms"],
        seen=f"{later * 1e3:.0f} ms later than the slowest usual one",
        expected=f"at most {limits['later_ms']} ms",
        place=place,
    )


def _judge_pairs(tally: Tally, way: str, outage: Mapping[str, Any], limits: Limits) -> None:
    for kind, pairs in outage["pairs"].items():
        subject = f"{way}: {kind}, fresh"
        tally.equal(subject, pairs["refused_writes"], {}, place=f"{way}: {kind}, writes refused")
        for old, new in pairs["stale_meanwhile"] or [("", "")]:
            tally.judge(
                subject,
                not old,
                seen=old,
                expected=new,
                place=f"{way}: {kind}, read after a write",
                severity="critical",
            )
        for old, new, source in pairs["stale_after"]:
            tally.judge(
                subject,
                False,
                seen=f"{old} ({source})",
                expected=new,
                place=f"{way}: {kind}, read after the return",
                severity="critical",
            )
        tally.equal(subject, pairs["unread_after"], {}, place=f"{way}: {kind}, not read after")
    for kind, seconds in outage["after"]["back"].items():
        tally.judge(
            f"{way}: {kind}, back",
            seconds is not None and seconds <= limits["back_seconds"],
            seen="no HIT" if seconds is None else f"HIT after {seconds} s",
            expected=f"HIT within {limits['back_seconds']} s of the return",
        )


def _judge_sessions(tally: Tally, way: str, outage: Mapping[str, Any], limits: Limits) -> None:
    meanwhile, after = outage["meanwhile"], outage["after"]
    ended = meanwhile["ended"]
    tally.control(f"{way}: sessions could be ended", set(ended["ends"]) == {"200"}, ended["ends"])
    slowest = 0.0
    for door, delays in ended["delays"].items():
        expected = DOORS[door][2]
        tally.control(
            f"{way}: {door} was closed before",
            set(outage["before"]["sessions"][door]) == {REVOKED},
            outage["before"]["sessions"][door],
        )
        number = sum(meanwhile["sessions"][door].values())
        tally.equal(f"{way}: {STILL}, {door}", meanwhile["sessions"][door], {REVOKED: number})
        opened = ended["before"][door]
        tally.equal(
            f"{way}: {LET_IN}", opened, {expected: len(delays)}, place=f"{way}: {LET_IN}, {door}"
        )
        known = [delay for delay in delays if delay is not None]
        slowest = max([slowest, *known])
        tally.judge(
            f"{way}: {ENDED}, {door}",
            len(known) == len(delays) and max(known) <= limits["revoked_seconds"],
            seen=f"{len(delays) - len(known)} never refused {ended['last'][door]}, the others "
            f"let in until {max(known, default=0.0)} s after",
            expected=f"{REVOKED} from {limits['revoked_seconds']} s after the end on",
            severity="critical",
        )
        if len(delays) < limits["ended"]:
            tally.unproven(f"{way}: {ENDED}, {door}", f"{len(delays)} sessions ended")
        later = after["sessions"][door]
        tally.judge(
            f"{way}: {LATER}, {door}",
            set(later) == {REVOKED},
            seen=f"{later} for ended sessions",
            expected=f"{REVOKED} from {cache_outages.DISTRUST_S:g} s after the return on",
            severity="critical",
        )
        for when, told_by in (("meanwhile", meanwhile), ("after", after)):
            tally.equal(
                f"{way}: {LET_IN}",
                told_by["bystander"][door],
                {expected: 1},
                place=f"{way}: {LET_IN}, {door} {when}",
            )
    tally.figure(
        f"{way}: ended sessions let in until",
        slowest,
        "s",
        limit=limits["revoked_seconds"],
    )
    soon = sum(
        number
        for answers in after["sessions_soon"].values()
        for answer, number in answers.items()
        if answer != REVOKED
    )
    tally.figure(f"{way}: let in within 5 s of the return", soon)


def _judge_guards(
    tally: Tally, way: str, outage: Mapping[str, Any], evidence: Evidence, limits: Limits
) -> None:
    meanwhile, after = outage["meanwhile"], outage["after"]
    tally.equal(f"{way}: {LOCK}", meanwhile["locked"], LOCKING[-1], place=f"{way}: locked before")
    tally.equal(f"{way}: {LOCK}", meanwhile["locking"][3:], list(LOCKING[3:]))
    tally.equal(f"{way}: {BACK_OFF}", meanwhile["locking"][:3], list(LOCKING[:3]))
    tally.equal(f"{way}: {LOCK}", after["locked"], [LOCKING[-1]] * 2, place=f"{way}: locked, after")
    tally.equal(f"{way}: {LOGIN}", meanwhile["login"], "200")
    seen = meanwhile["limits"]
    _judge_burst(tally, f"{way}: {CREDENTIAL}", seen["credential"], limits["credential_burst"], 10)
    _judge_burst(tally, f"{way}: {EDGE}", seen["edge"], limits["edge_burst"], 100)
    _judge_general(tally, way, seen["general"], evidence["general_before"])
    if "absent" not in meanwhile["realtime"]:
        _judge_socket(tally, f"{way}: {SOCKET}", meanwhile["realtime"], limits)


def _judge_burst(
    tally: Tally, subject: str, seen: Mapping[str, Any], burst: int, per_minute: int
) -> None:
    """As many as the burst and what came free meanwhile, then refused."""
    most = burst + 1 + seen["seconds"] * per_minute / 60.0
    tally.judge(
        subject,
        burst - 1 <= seen["let_through"] <= most
        and any(answer == "429 RATE_LIMIT_EXCEEDED" for answer in seen["answers"]),
        seen=f"{seen['let_through']} let through at once, {seen['answers']}",
        expected=f"{burst} ± 1, then 429 RATE_LIMIT_EXCEEDED",
        severity="critical",
    )


def _judge_general(
    tally: Tally, way: str, seen: Mapping[str, int], before: Mapping[str, Any]
) -> None:
    """Open: who was refused before Redis went is let through, as far as his token goes."""
    subject = f"{way}: {GENERAL}"
    if before["refused"] != "429 RATE_LIMIT_EXCEEDED":
        tally.unproven(
            subject, f"not reached before: told a limit of {before['limit']}, {before['refused']}"
        )
        return
    tally.equal(subject, set(seen), {"401 UNAUTHORIZED"})


def _judge_socket(tally: Tally, subject: str, seen: Mapping[str, Any], limits: Limits) -> None:
    opened = tally.equal(subject, seen["opened"], "welcomed", place=f"{subject}: handshake")
    if not opened:
        return
    came, closed = seen["event_seconds"], seen["closed_seconds"]
    tally.judge(
        subject,
        came is not None and came <= limits["event_seconds"],
        seen=f"{seen['paid']}, " + ("no event" if came is None else f"event after {came} s"),
        expected=f"the payment's event within {limits['event_seconds']} s",
        place=f"{subject}: event",
    )
    tally.judge(
        subject,
        seen["closed_code"] == 4401 and closed <= limits["revoked_seconds"],
        seen=f"close {seen['closed_code']} after {closed} s",
        expected=f"close 4401 within {limits['revoked_seconds']} s of the session's end",
        place=f"{subject}: ended session",
    )
