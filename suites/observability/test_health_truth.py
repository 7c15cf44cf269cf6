"""Liveness and readiness tell the truth about each dependency that is taken away."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import httpx

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve, Exchange, exchange, http_client
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome

CRITERION = Criterion(
    id="health-truth",
    area="observability",
    statement="Readiness MUST say up, down and up again for each dependency that is taken away "
    "and returned, and liveness MUST stay up meanwhile.",
    gate="18 pairs (4 services × 3, gateway 6), each seen up → down → up; recovery ≤ 10 s, "
    "broker ≤ 15 s",
    rules=("R0.10", "R1.54", "R1.55", "R1.56"),
    needs=(Access.CONTROL, Access.SERVICES),
    effects=(Effect.READS, Effect.DISRUPTS),
    time_limit=420,
)

SERVICES = ("auth", "payments", "admin", "profile")
# Part that is stopped → (observer, check) pairs that must notice.
PAIRS: dict[str, list[tuple[str, str]]] = {
    **{f"postgres-{service}": [(service, "database")] for service in SERVICES},
    "redis": [(name, "redis") for name in (*SERVICES, "gateway")],
    **{service: [("gateway", f"{service}Service")] for service in SERVICES},
    "rabbitmq": [(name, "rabbitmq") for name in (*SERVICES, "gateway")],
}
NOTICE_SECONDS = 6.0


def not_ready_without(observer: str, check: str) -> bool:
    """R1.56: a service needs its database, the gateway needs auth; the rest only degrades."""
    return check == "database" or (observer == "gateway" and check == "authService")


def test_health_tells_the_truth(trial: Trial) -> None:
    """Each of the 18 pairs is seen up, down and up again."""
    # Outages of every part take a minute; a second look would double it and disturb others twice.
    trial.decide(observe, check, confirm=False)


def observe(trial: Trial) -> dict[str, Any]:
    """Stop each part in turn, ask everybody how they are, start it again and ask until well."""
    outages: dict[str, Any] = {}
    clients = {
        name: http_client(trial.service(name), timeout=10) for name in (*SERVICES, "gateway")
    }
    try:
        _first_look(clients)
        for part, pairs in PAIRS.items():
            if why := trial.target.absence(part):
                outages[part] = {"absent": why}
                continue
            trial.progress(f"without {part}")
            outages[part] = _outage(trial, clients, part, pairs)
    finally:
        for client in clients.values():
            client.close()
    return {"outages": outages}


def _first_look(clients: Mapping[str, httpx.Client]) -> None:
    for name, client in clients.items():
        seen = _readiness(client)
        if seen["status"] != 200 or not seen["checks"]:
            raise CouldNotObserve(
                f"{name} is not ready before anything was taken away: "
                f"{seen['error'] or seen['status']}"
            )


def _outage(
    trial: Trial,
    clients: Mapping[str, httpx.Client],
    part: str,
    pairs: list[tuple[str, str]],
) -> dict[str, Any]:
    observers = sorted({observer for observer, _ in pairs})
    before = {name: _readiness(clients[name]) for name in observers}
    trial.control(part, "stop")
    try:
        down = {
            name: _poll(clients[name], dict(pairs)[name], "down", NOTICE_SECONDS)
            for name in observers
        }
        alive = {name: _status(clients[name], "/health/live") for name in observers}
    finally:
        trial.control(part, "start")
    limit = trial.limits["broker_seconds" if part == "rabbitmq" else "seconds"]
    returned = time.monotonic()
    up = {
        name: _poll(clients[name], dict(pairs)[name], "up", limit + 5, since=returned)
        for name in observers
    }
    return {"before": before, "down": down, "alive": alive, "up": up, "limit": limit}


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
    subjects = [f"{observer}: {name}" for pairs in PAIRS.values() for observer, name in pairs]
    tally = Tally(subjects)
    slowest = 0.0
    for part, pairs in PAIRS.items():
        seen = evidence["outages"].get(part)
        for observer, name in pairs if seen else ():
            subject = f"{observer}: {name}"
            if "absent" in seen:
                tally.absent(subject, seen["absent"])
                continue
            before, down, up = (seen[when][observer] for when in ("before", "down", "up"))
            tally.control(
                f"{subject} is up before", before["checks"].get(name) == "up", before["checks"]
            )
            _judge_down(tally, subject, name, not_ready_without(observer, name), down)
            alive = seen["alive"][observer]
            tally.equal(subject, alive, 200, place=f"{subject}: liveness without {part}")
            back = up["checks"].get(name) == "up" and up["status"] == 200
            slowest = max(slowest, up["seconds"])
            tally.judge(
                subject,
                back and up["seconds"] <= seen["limit"],
                seen=f"{up['checks'].get(name)} after {up['seconds']} s",
                expected=f"up within {seen['limit']} s",
                place=f"{subject}: return of {part}",
            )
    tally.figure("slowest recovery", slowest, "s")
    return tally.outcome()


def _judge_down(
    tally: Tally, subject: str, name: str, not_ready: bool, down: Mapping[str, Any]
) -> None:
    if down["status"] == 0:
        tally.unproven(subject, down["error"])
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
