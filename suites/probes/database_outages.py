"""One service's database taken away under load: what everybody says before, meanwhile, after."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import psycopg

from harness.probe import exchange, http_client
from harness.thresholds import Limits
from harness.trial import Trial
from suites.probes import outages
from suites.probes.dependent_operations import SERVICES, Operation, told
from suites.probes.kept_writes import PATIENCE, Writers

PROGRAMS = ("gateway", *SERVICES)
ROUNDS = 4  # times each dependent operation is asked in one outage, at most
ALONE = 0.3  # seconds between them


def database_of(service: str) -> str:
    """The part that is a service's database."""
    return f"postgres-{service}"


def observe(
    trial: Trial, service: str, way: str, operations: Iterable[Operation], writers: Writers
) -> dict[str, Any]:
    """One database away: what everybody says before, meanwhile and afterwards."""
    mine = [operation for operation in operations if operation.service == service]
    with ExitStack() as stack:
        clients = {
            name: stack.enter_context(http_client(trial.service(name), timeout=PATIENCE))
            for name in PROGRAMS
        }
        askers = [stack.enter_context(trial.client(timeout=PATIENCE)) for _ in mine]
        pool = stack.enter_context(ThreadPoolExecutor(len(mine) + len(PROGRAMS) + 1))
        before = _once(mine, askers)
        ready = {name: _readiness(client) for name, client in clients.items()}
        reached = {"before": _reached(trial, service)}
        over = threading.Event()
        began = time.time()
        with outages.away(
            trial, database_of(service), way, (service,), milliseconds=trial.limits["slow_ms"]
        ):
            down = time.time()
            try:
                proof = pool.submit(_reached, trial, service)
                watched = {
                    name: pool.submit(_watch, client, over) for name, client in clients.items()
                }
                asked = _rounds(pool, mine, askers, down + trial.limits["outage_seconds"])
                meanwhile = {name: found.result() for name, found in asked.items()}
                # The load goes on meanwhile; this is how long it meets the outage.
                time.sleep(max(0.0, down + trial.limits["outage_seconds"] - time.time()))
                reached["down"] = proof.result()
            finally:
                over.set()
            back = time.time()
        returned = time.time()
        told_by = {name: found.result() for name, found in watched.items()}
        healed = _healed(clients[service], writers, service, returned, trial.limits)
        whole = time.time()
        return {
            "began": began,
            "down": down,
            "back": back,
            "whole": whole,
            "reached": reached,
            "ready": {"before": ready, "down": told_by},
            "operations": {
                operation.name: {
                    "accepted": str(operation.accepted),
                    "before": first,
                    "down": meanwhile[operation.name],
                    "after": last,
                }
                for operation, first, last in zip(mine, before, _once(mine, askers), strict=True)
            },
            "healed": healed,
        }


def _once(operations: list[Operation], clients: list[httpx.Client]) -> list[dict[str, Any]]:
    return [told(op.ask(client)) for op, client in zip(operations, clients, strict=True)]


def _rounds(
    pool: ThreadPoolExecutor,
    operations: list[Operation],
    clients: list[httpx.Client],
    until: float,
) -> dict[str, Future[list[dict[str, Any]]]]:
    """Ask everything side by side, again and again until a moment (seconds since 1970)."""

    def ask_on(operation: Operation, client: httpx.Client) -> list[dict[str, Any]]:
        seen = [told(operation.ask(client))]
        while len(seen) < ROUNDS and time.time() + seen[-1]["seconds"] + ALONE < until:
            time.sleep(ALONE)
            seen.append(told(operation.ask(client)))
        return seen

    pairs = zip(operations, clients, strict=True)
    return {operation.name: pool.submit(ask_on, operation, client) for operation, client in pairs}


def _reached(trial: Trial, service: str) -> str:
    """Whether the database itself lets anybody in, where the target file grants it."""
    access = trial.target.access.db.get(service)
    if access is None:
        return "not granted"
    try:
        with psycopg.connect(access.url, connect_timeout=2) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return "nobody"
    return "answers"


def _readiness(client: httpx.Client) -> dict[str, Any]:
    """What /health/ready says of the process and of its database (R1.56)."""
    seen = exchange(client, "GET", "/health/ready")
    body = _table(seen["json"])
    error, data = _table(body.get("error")), _table(body.get("data"))
    checks = _table(data.get("checks") or _table(error.get("details")).get("checks"))
    database = _table(checks.get("database")).get("status", "")
    return {"answer": told(seen)["answer"], "database": database}


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _watch(client: httpx.Client, over: threading.Event) -> dict[str, Any]:
    """What a process says of itself until it is over, and when it first said that it is down."""
    began = time.monotonic()
    answers: Counter[str] = Counter()
    noticed, since = None, Counter[str]()
    while True:
        seen = _readiness(client)
        if over.is_set():  # it may have waited for the return
            return {"answers": dict(answers), "noticed": noticed, "since": dict(since)}
        word = f"{seen['answer']}, database {seen['database']}".removesuffix(", database ")
        answers[word] += 1
        if noticed is None and seen["database"] == "down":
            noticed = round(time.monotonic() - began, 2)
        if noticed is not None:
            since[word] += 1
        over.wait(0.3)


def _healed(
    client: httpx.Client, writers: Writers, service: str, returned: float, limits: Limits
) -> dict[str, float | None]:
    """Seconds from the return until the service says it is ready, and until a write is accepted."""
    looks: dict[str, Callable[[], bool]] = {
        "ready": lambda: _readiness(client) == {"answer": "200", "database": "up"},
        "written": lambda: writers.accepted_since(service, returned) is not None,
    }
    if service not in writers.services:
        del looks["written"]
    found: dict[str, float | None] = dict.fromkeys(looks)
    while time.time() - returned < limits["heal_seconds"] + 5 and None in found.values():
        for name, look in looks.items():
            if found[name] is None and look():
                found[name] = round(time.time() - returned, 2)
        time.sleep(0.05)
    return found


def answers_by_phase(
    writers: Writers, service: str, seen: Mapping[str, Any]
) -> dict[str, dict[str, dict[str, float]]]:
    """Per outage and between them: how often each answer was given, and the slowest of them."""
    phases: dict[str, dict[str, dict[str, float]]] = {}
    for write in writers.writes[service]:
        phase = next(
            (
                name
                for name, outage in seen.items()
                if write.sent < outage["whole"] and write.done > outage["began"]
            ),
            "between",
        )
        retry = "" if write.accepted or write.told["retry_after"] else ", no Retry-After"
        answer = phases.setdefault(phase, {}).setdefault(
            f"{write.told['answer']}{retry}", {"number": 0, "slowest": 0.0}
        )
        answer["number"] += 1
        answer["slowest"] = max(answer["slowest"], write.told["seconds"])
    return phases
