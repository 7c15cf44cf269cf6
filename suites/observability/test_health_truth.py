"""Liveness and readiness tell the truth about each dependency that is taken away."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve, Exchange, exchange, http_client
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import members

CRITERION = Criterion(
    id="health-truth",
    area="observability",
    statement="Readiness MUST say up, down and up again for each dependency that is taken away "
    "and returned, and liveness MUST stay up meanwhile.",
    gate="18 pairs (4 services × 3, gateway 6), each seen up → down → up by every member; recovery "
    "≤ 10 s, broker ≤ 15 s; the same for each pair whose way the target lets be cut, in silence",
    rules=("R0.10", "R1.54", "R1.55", "R1.56"),
    needs=(Access.CONTROL, Access.SERVICES),
    effects=(Effect.READS, Effect.DISRUPTS),
    time_limit=420,
)

SERVICES = ("auth", "payments", "admin", "profile")
OBSERVERS = (*SERVICES, "gateway")
# Part that is stopped → (observer, check) pairs that must notice.
PAIRS: dict[str, list[tuple[str, str]]] = {
    **{f"postgres-{service}": [(service, "database")] for service in SERVICES},
    "redis": [(name, "redis") for name in OBSERVERS],
    **{service: [("gateway", f"{service}Service")] for service in SERVICES},
    "rabbitmq": [(name, "rabbitmq") for name in OBSERVERS],
}
Asked = dict[str, dict[str, httpx.Client]]  # observer → its members, each with its client
# R1.54 allows 3 s: a result is kept for 1 s, and who says nothing is asked for 2 s.
NOTICE_SECONDS = 6.0
STOPPED, CUT_OFF = "stopped", "cut off"


def not_ready_without(observer: str, check: str) -> bool:
    """R1.56: a service needs its database, the gateway needs auth; the rest only degrades."""
    return check == "database" or (observer == "gateway" and check == "authService")


def test_health_tells_the_truth(trial: Trial) -> None:
    """Each of the 18 pairs is seen up, down and up again, whether refused or not answered."""
    # Outages of every part take minutes; a second look would double it and disturb others twice.
    trial.decide(observe, check, confirm=False)


def observe(trial: Trial) -> dict[str, Any]:
    """Stop each part in turn, ask everybody how they are, start it again and ask until well.

    Then the same with ways that are cut, for whom the target offers it.
    """
    outages: dict[str, Any] = {}
    cuts: dict[str, Any] = {}
    clients: Asked = {
        observer: {
            member: http_client(url, timeout=10)
            for member, url in members.named(trial, observer).items()
        }
        for observer in OBSERVERS
    }
    try:
        _first_look(clients)
        for part, pairs in PAIRS.items():
            if why := trial.target.absence(part):
                outages[part] = {"absent": why}
                continue
            trial.progress(f"without {part}")
            outages[part] = _outage(trial, clients, part, pairs)
            offered = [pair for pair in pairs if trial.target.fault_of(pair[0], part, "cut")]
            if offered:
                trial.progress(f"{part} cut off")
                cuts[part] = _cuts(trial, clients, part, offered)
    finally:
        for asked in clients.values():
            for client in asked.values():
                client.close()
    told_by = {observer: list(asked) for observer, asked in clients.items()}
    return {"members": told_by, "outages": outages, "cuts": cuts}


def _first_look(clients: Asked) -> None:
    for name, client in (pair for asked in clients.values() for pair in asked.items()):
        seen = _readiness(client)
        if seen["status"] != 200 or not seen["checks"]:
            raise CouldNotObserve(
                f"{name} is not ready before anything was taken away: "
                f"{seen['error'] or seen['status']}"
            )


def _outage(
    trial: Trial,
    clients: Asked,
    part: str,
    pairs: list[tuple[str, str]],
) -> dict[str, Any]:
    asked = {
        member: (client, check)
        for observer, check in sorted(pairs)
        for member, client in clients[observer].items()
    }
    before = {member: _readiness(client) for member, (client, _) in asked.items()}
    trial.control(part, "stop")
    try:
        down = {
            member: _poll(client, check, "down", NOTICE_SECONDS)
            for member, (client, check) in asked.items()
        }
        alive = {member: _status(client, "/health/live") for member, (client, _) in asked.items()}
    finally:
        trial.control(part, "start")
    limit = _limit(trial, part)
    returned = time.monotonic()
    up = {
        member: _poll(client, check, "up", limit + 5, since=returned)
        for member, (client, check) in asked.items()
    }
    return {"before": before, "down": down, "alive": alive, "up": up, "limit": limit}


def _cuts(
    trial: Trial,
    clients: Asked,
    part: str,
    pairs: list[tuple[str, str]],
) -> dict[str, Any]:
    """As `_outage`, with every observer's way to the part cut; all at the same time."""
    limit = _limit(trial, part)

    def look(observer: str, name: str) -> dict[str, Any]:
        asked = clients[observer].items()
        seen: dict[str, Any] = {"before": {m: _readiness(client) for m, client in asked}}
        with trial.fault(observer, part, "cut"):
            seen["down"] = {m: _poll(client, name, "down", NOTICE_SECONDS) for m, client in asked}
            seen["alive"] = {m: _status(client, "/health/live") for m, client in asked}
        healed = time.monotonic()
        seen["up"] = {m: _poll(client, name, "up", limit + 5, since=healed) for m, client in asked}
        return seen

    with ThreadPoolExecutor(len(pairs)) as pool:
        looks = [pool.submit(look, observer, name) for observer, name in pairs]
        # Awaited in here: whatever interrupts us, nobody is left cut off.
        all_seen = [found.result() for found in looks]
    times = ("before", "down", "alive", "up")
    return {
        when: {member: told for seen in all_seen for member, told in seen[when].items()}
        for when in times
    } | {"limit": limit}


def _limit(trial: Trial, part: str) -> float:
    """Seconds in which everybody must know that the part is back (R0.10)."""
    return float(trial.limits["broker_seconds" if part == "rabbitmq" else "seconds"])


def _readiness(client: httpx.Client) -> dict[str, Any]:
    """What /health/ready says: status, the flag, the checks wherever they stand, the code."""
    seen: Exchange = exchange(client, "GET", "/health/ready")
    body = _table(seen["json"])
    data, error = _table(body.get("data")), _table(body.get("error"))
    details = _table(error.get("details"))
    checks = data.get("checks") or details.get("checks") or {}
    return {
        "status": seen.status,
        "error": seen["error"],
        "word": data.get("status"),
        "ready": data.get("ready"),
        "code": error.get("code", ""),
        "checks": {name: (found or {}).get("status") for name, found in checks.items()},
    }


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _status(client: httpx.Client, path: str) -> int:
    return exchange(client, "GET", path).status


def _poll(
    client: httpx.Client, check: str, wanted: str, seconds: float, since: float | None = None
) -> dict[str, Any]:
    """Ask until the check says the wanted word; the last answer and how long it took."""
    started = time.monotonic() if since is None else since
    while True:
        seen = _readiness(client)
        elapsed = time.monotonic() - started
        if seen["checks"].get(check) == wanted or elapsed > seconds:
            return {**seen, "seconds": round(elapsed, 2)}
        time.sleep(0.1)


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Before: up. While it is away: down, in the contracted form. After: up within the limit."""
    watches = {
        part: [
            (member, (observer, name))
            for observer, name in pairs
            for member in evidence.get("members", {}).get(observer, [observer])
        ]
        for part, pairs in PAIRS.items()
    }
    tally = Tally(f"{m}: {name}" for watched in watches.values() for m, (_, name) in watched)
    slowest = {STOPPED: 0.0, CUT_OFF: 0.0}
    tried = {STOPPED: 0, CUT_OFF: 0}
    for way, recorded in ((STOPPED, evidence["outages"]), (CUT_OFF, evidence.get("cuts", {}))):
        for part, watched in watches.items():
            seen = recorded.get(part, {})
            for member, (_, name) in watched if "absent" in seen else ():
                tally.absent(f"{member}: {name}", seen["absent"])
            for member, pair in watched:
                if member in seen.get("before", {}):
                    _judge(tally, way, part, member, pair, seen)
                    tried[way] += 1
                    slowest[way] = max(slowest[way], seen["up"][member]["seconds"])
    for way, number in tried.items():
        tally.figure(f"pairs {way}", number)
        if number:
            tally.figure(f"slowest recovery, {way}", slowest[way], "s")
    return tally.outcome()


def _judge(
    tally: Tally,
    way: str,
    part: str,
    member: str,
    pair: tuple[str, str],
    seen: Mapping[str, Any],
) -> None:
    """One pair at one member, one way of taking the part away: up, down, alive, up in time."""
    observer, name = pair
    subject = f"{member}: {name}" + ("" if way == STOPPED else f", {way}")
    before, down, up = (seen[when][member] for when in ("before", "down", "up"))
    tally.control(f"{subject} is up before", before["checks"].get(name) == "up", before["checks"])
    _judge_down(tally, subject, name, not_ready_without(observer, name), down)
    alive = seen["alive"][member]
    tally.equal(subject, alive, 200, place=f"{subject}: liveness without {part}")
    tally.judge(
        subject,
        up["checks"].get(name) == "up" and up["status"] == 200 and up["seconds"] <= seen["limit"],
        seen=f"{up['checks'].get(name)} after {up['seconds']} s",
        expected=f"up within {seen['limit']:g} s",
        place=f"{subject}: return of {part}",
    )


def _judge_down(
    tally: Tally, subject: str, name: str, not_ready: bool, down: Mapping[str, Any]
) -> None:
    if down["status"] == 0:  # who can say that it lives (R1.54) owes this answer, too
        tally.judge(
            subject,
            False,
            seen=down["error"],
            expected="an answer, as from /health/live",
            place=f"{subject}: answer while away",
        )
        return
    tally.equal(subject, down["checks"].get(name), "down", place=f"{subject}: while away")
    others = {k: v for k, v in down["checks"].items() if k != name and v != "up"}
    tally.equal(subject, others, {}, place=f"{subject}: other checks while away")
    if not_ready:
        seen = f"{down['status']} {down['code']}"
        tally.equal(subject, seen, "503 SERVICE_UNAVAILABLE", place=f"{subject}: answer while away")
    else:
        seen = f"{down['status']} {down['word']}, ready {down['ready']}"
        tally.equal(
            subject, seen, "200 degraded, ready True", place=f"{subject}: answer while away"
        )
