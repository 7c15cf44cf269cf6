"""Redis taken away once: reads, writes, sessions and barriers before, meanwhile and afterwards."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from harness.probe import CouldNotObserve, exchange
from harness.trial import Trial
from suites.probes import accounts, barriers, outages, redis_server, session_guard, websocket
from suites.probes import cached_entries as cached
from suites.probes.accounts import PASSWORD, Session
from suites.probes.cache_outage_cast import Cast
from suites.probes.cached_entries import Entry
from suites.probes.database_outages import PROGRAMS, database_of
from suites.probes.dependent_operations import told
from suites.probes.session_guard import Doors
from suites.probes.writers import in_parallel

PART = "redis"
# R1.39: at the latest so many seconds after Redis's return its old contents count no more.
DISTRUST_S = 5.0
LIMITED_READS = 18  # an address gets 21 requests at once (R5.17); a few for what else it does
PAUSE = 0.015  # seconds between two reads of one reader
LIMITED_PAUSE = 0.1


def observe(trial: Trial, way: str, cast: Cast, doors: Doors, *, both: bool) -> dict[str, Any]:
    """One outage.

    Args:
        way: in which Redis is away.
        cast: who takes part.
        doors: where sessions knock.
        both: also take auth-service and its database away meanwhile.
    """
    with trial.client(timeout=15) as client, ThreadPoolExecutor(6) as pool:
        before = {
            "reads": _reads(client, cast.steady, trial.limits["reads"], fresh=True),
            "limited": _as_limited(trial, cast.steady, fresh=True),
            "sessions": doors.knock_with_all(cast.ended_before),
            "redis": redis_server.reached(trial),
        }
        # Last, so that what others did before does not end these entries again.
        for entry in cast.steady:
            cached.primed(client, entry)
        primed = in_parallel(trial, cast.changing, _value)
        with outages.away(trial, PART, way, PROGRAMS, milliseconds=trial.limits["slow_ms"]):
            limited = pool.submit(_as_limited, trial, cast.steady)
            reads = _reads(client, cast.steady, trial.limits["reads"])
            meanwhile: dict[str, Any] = {"reads": reads, "limited": limited.result()}
            # Not before: hashing passwords takes a processor, which reads would wait for.
            locking = pool.submit(_locking, trial, cast.to_lock)
            ended = pool.submit(doors.end, cast.to_end)
            realtime = pool.submit(
                session_guard.end_with_socket, trial, cast.with_socket, cast.recipient
            )
            limits = pool.submit(_limits, trial, cast)
            redis = pool.submit(redis_server.reached, trial)
            writes = in_parallel(trial, cast.changing, cached.written, clients=3)
            meanwhile |= {
                "ended": ended.result(),
                "realtime": realtime.result(),
                "limits": limits.result(),
                "locking": locking.result(),
                "sessions": doors.knock_with_all(cast.ended_before),
                "bystander": doors.knock_with_all([cast.bystander]),
                "locked": told(barriers.try_login(client, cast.locked, PASSWORD))["answer"],
                "login": told(barriers.try_login(client, cast.bystander.email, PASSWORD))["answer"],
                "redis": redis.result(),
            }
            if both:
                meanwhile["both"] = _without_auth(trial, client, cast)
        returned = time.monotonic()
        after = _afterwards(trial, client, cast, doors, writes, returned)
    return {
        "before": before,
        "meanwhile": meanwhile,
        "pairs": _pairs(cast.changing, primed, writes, after.pop("values")),
        "after": after,
    }


def _value(client: httpx.Client, entry: Entry) -> tuple[str, Any]:
    seen = cached.primed(client, entry)
    return cached.outcome(seen), entry.tell(seen)


def _reads(
    client: httpx.Client, entries: Iterable[Entry], times: int, *, fresh: bool = False
) -> dict[str, dict[str, Any]]:
    """Read all in turn, so often: outcomes, bodies and seconds of each, in their order."""
    found: dict[str, dict[str, Any]] = {}
    wanted = list(entries)
    for _ in range(times):
        for entry in wanted:
            _note(found, entry, cached_read(client, entry, fresh=fresh))
            time.sleep(PAUSE)
    return _plain(found)


def cached_read(client: httpx.Client, entry: Entry, *, fresh: bool) -> Mapping[str, Any]:
    """One read as it is written down."""
    seen = entry.read(client, fresh=fresh)
    return {
        "outcome": cached.outcome(seen),
        "body": cached.digest(seen),
        "seconds": round(seen["seconds"], 4),
    }


def _as_limited(
    trial: Trial, entries: Iterable[Entry], *, fresh: bool = False
) -> dict[str, dict[str, Any]]:
    """The same by somebody whose requests are counted: the limiter asks Redis as well."""
    found: dict[str, dict[str, Any]] = {}
    wanted = list(entries)
    with trial.client(trial.fresh_address(), timeout=15) as client:
        for number in range(LIMITED_READS):
            entry = wanted[number % len(wanted)]
            _note(found, entry, cached_read(client, entry, fresh=fresh))
            time.sleep(LIMITED_PAUSE)
    return _plain(found)


def _note(found: dict[str, dict[str, Any]], entry: Entry, seen: Mapping[str, Any]) -> None:
    of_kind = found.setdefault(
        entry.kind, {"outcomes": Counter(), "bodies": Counter(), "seconds": []}
    )
    of_kind["outcomes"][seen["outcome"]] += 1
    of_kind["bodies"][seen["body"]] += 1
    of_kind["seconds"].append(seen["seconds"])


def _plain(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        kind: {
            "outcomes": dict(seen["outcomes"]),
            "bodies": dict(seen["bodies"]),
            "seconds": seen["seconds"],
        }
        for kind, seen in found.items()
    }


def _locking(trial: Trial, email: str) -> list[str]:
    with trial.client(timeout=15) as client:
        return barriers.fail_until_locked(client, email)


def _limits(trial: Trial, cast: Cast) -> dict[str, Any]:
    """The three limiters: the edge's, the one for credentials, the general one."""
    tries = trial.limits["credential_tries"]
    address = str(cast.spent["address"])
    with trial.client(address, base=trial.service("gateway")) as spent:
        general = [barriers.knock(spent, "/api/payments") for _ in range(tries)]
    return {
        "credential": barriers.credential_burst(trial, tries),
        "edge": barriers.edge_burst(trial, trial.limits["edge_tries"]),
        "general": dict(Counter(general)),
    }


def _without_auth(trial: Trial, client: httpx.Client, cast: Cast) -> dict[str, Any]:
    """What may be answered with Redis away when auth's database, then auth itself, is away too."""
    http = trial.target.http
    address = trial.exempt_address() if trial.target.addresses.exempt else None
    path = "/api/payments?limit=1"
    with outages.away(trial, database_of("auth"), "stop", ("auth",), milliseconds=0):
        login = told(barriers.try_login(client, cast.bystander.email, PASSWORD))
    _until_answered(client, cast.bystander)
    with outages.away(trial, "auth", "stop", PROGRAMS, milliseconds=0):
        time.sleep(0.6)  # R1.38: an open session may be remembered for 0.5 s
        read = told(exchange(client, "GET", path, headers=cast.bystander.headers))
        shaken = (
            {}
            if trial.target.absence("websocket")
            else websocket.handshake(
                http.websocket, cast.bystander.access, ca=http.ca, address=address
            )
        )
    _until_answered(client, cast.bystander)
    told_of = {"login": login["answer"], "read": read["answer"]}
    if shaken:
        body = shaken["json"] if isinstance(shaken["json"], dict) else {}
        code = (body.get("error") or {}).get("code", "")
        told_of["websocket"] = shaken["error"] or f"{shaken['status']} {code}".strip()
    return told_of


def _until_answered(client: httpx.Client, session: Session) -> None:
    """Wait until sessions can be judged again (R0.10).

    Raises:
        CouldNotObserve: not within 20 s.
    """
    deadline = time.monotonic() + 20
    while accounts.me(client, session.access).status != 200:
        if time.monotonic() > deadline:
            raise CouldNotObserve("auth-service did not come back in 20 s after its start")
        time.sleep(0.1)


def _afterwards(
    trial: Trial,
    client: httpx.Client,
    cast: Cast,
    doors: Doors,
    writes: list[dict[str, Any]],
    returned: float,
) -> dict[str, Any]:
    """At once, and until old contents cannot count any more: what is shown, who is let in."""
    ended = (*cast.ended_before, *cast.to_end)
    values: list[list[tuple[str, Any]]] = []
    back: dict[str, float | None] = dict.fromkeys(entry.kind for entry in cast.steady)
    soon: list[dict[str, dict[str, int]]] = []
    patience = max(DISTRUST_S, trial.limits["back_seconds"])
    while True:
        elapsed = time.monotonic() - returned
        values.append(in_parallel(trial, cast.changing, _read_value, clients=2))
        for entry in cast.steady:
            if back[entry.kind] is None and cached.outcome(entry.read(client)) == "200 HIT":
                back[entry.kind] = round(time.monotonic() - returned, 2)
        if elapsed >= DISTRUST_S and (None not in back.values() or elapsed >= patience):
            break
        soon.append(doors.knock_with_all(ended[::4]))
    return {
        "values": values,
        "back": back,
        "sessions_soon": _added(soon),
        "sessions": doors.knock_with_all(ended),
        "bystander": doors.knock_with_all([cast.bystander]),
        "locked": [
            told(barriers.try_login(client, email, PASSWORD))["answer"]
            for email in (cast.locked, cast.to_lock)
        ],
        "redis": redis_server.reached(trial),
    }


def _read_value(client: httpx.Client, entry: Entry) -> tuple[str, Any]:
    seen = entry.read(client)
    return cached.outcome(seen), entry.tell(seen)


def _added(tables: list[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    whole: dict[str, Counter[str]] = {}
    for table in tables:
        for door, answers in table.items():
            whole.setdefault(door, Counter()).update(answers)
    return {door: dict(answers) for door, answers in whole.items()}


def _pairs(
    entries: tuple[Entry, ...],
    primed: list[tuple[str, Any]],
    writes: list[dict[str, Any]],
    values: list[list[tuple[str, Any]]],
) -> dict[str, dict[str, Any]]:
    """Per kind: how many could have been stale, and which were, meanwhile and afterwards."""
    found: dict[str, dict[str, Any]] = {}
    for number, (entry, (before, old), write) in enumerate(
        zip(entries, primed, writes, strict=True)
    ):
        of_kind = found.setdefault(
            entry.kind,
            {
                "tried": 0,
                "hit_before": 0,
                "refused_writes": {},
                "outcomes": {},
                "stale_meanwhile": [],
                "reads_after": 0,
                "unread_after": {},
                "stale_after": [],
            },
        )
        of_kind["tried"] += 1
        of_kind["hit_before"] += before == "200 HIT" and old != write["expected"]
        if not write["accepted"]:
            _count(of_kind["refused_writes"], write["write"])
            continue
        _count(of_kind["outcomes"], write["outcome"])
        if write["seen"] != write["expected"]:
            of_kind["stale_meanwhile"].append([str(write["seen"]), str(write["expected"])])
        for outcome, value in (look[number] for look in values):
            if not outcome.startswith("200 "):
                _count(of_kind["unread_after"], outcome)
                continue
            of_kind["reads_after"] += 1
            if value != write["expected"]:
                of_kind["stale_after"].append(
                    [str(value), str(write["expected"]), outcome.removeprefix("200 ")]
                )
    return found


def _count(table: dict[str, int], name: str) -> None:
    table[name] = table.get(name, 0) + 1
