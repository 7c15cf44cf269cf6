"""A cached answer is fast at the service and takes load off the database."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np

from harness.addresses import can_bind
from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from loadtests.engine.estimation import Decision, decide_percentile, ratio_of_medians
from suites.probes import accounts, administration, metrics, payments
from suites.probes.accounts import Session

CRITERION = Criterion(
    id="cache-speedup",
    area="cache",
    statement="Cached answers MUST be fast at the service and take at least 70 % of the queries "
    "off the database.",
    gate="HIT and BYPASS in turn, payments list, detail and report, ≥ 200 each: p95 of HIT < 5 ms "
    "at the service, lower bound of the ratio > 1, database queries per read ≥ 70 % fewer",
    rules=("R6.2", "R6.3", "R7.5", "R11.5"),
    needs=(Access.METRICS, Access.EXEMPT),
    parts=("redis", "payments"),
    effects=(Effect.READS, Effect.WRITES),
    time_limit=180,
)

PAYMENTS = 30
# Kind → the parts it needs (an administrator makes the vendor who may read reports).
KINDS = {
    "payments list": ("payments",),
    "payments detail": ("payments",),
    "payments report": ("reports", "admin-users"),
}
HIT, BYPASS = "HIT", "BYPASS"
MEASURES = ("speed", "ratio", "queries")
# Tables that a service asks on its own account, whether anybody reads payments or not.
_OWN_ACCOUNT = ("outbox", "inbox", "none")


def test_cached_answers_are_fast_and_spare_the_database(trial: Trial) -> None:
    """Latency in turn, then queries of each way by the service's own count."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Read each kind from the cache and past it, at the service's own port."""
    absent = {
        kind: why
        for kind, parts in KINDS.items()
        for part in parts
        if (why := trial.target.absence(part))
    }
    with trial.client() as client:
        reader, payment = _reader(trial, client, vendor="payments report" not in absent)
    paths = {
        "payments list": "/payments?limit=20",
        "payments detail": f"/payments/{payment}",
        "payments report": "/payments/reports",
    }
    reads = trial.limits["reads"]
    kinds = {}
    with _Port(trial, reader) as port:
        for kind, path in paths.items():
            if kind in absent:
                continue
            trial.progress(f"{kind}: {reads} reads each way")
            port.read(path, HIT)  # fills the entry
            ways = [port.read(path, way) for _ in range(reads) for way in (HIT, BYPASS)]
            kinds[kind] = {
                "reads": ways,
                "queries": {way: _queries(trial, port, path, way, reads) for way in (HIT, BYPASS)},
            }
    return {"kinds": kinds, "absent": absent}


def _reader(trial: Trial, client: httpx.Client, *, vendor: bool) -> tuple[Session, str]:
    """Somebody with payments enough for a full page; a vendor where reports are read."""
    reader = accounts.register(client, trial.prefix)
    other = accounts.register(client, trial.prefix)
    if vendor:
        admin = accounts.login_as(trial, client, "admin")
        changed = administration.change_role(client, admin, reader.user_id, "VENDOR")
        if changed.status != 200:
            raise CouldNotObserve(f"role change: seen {changed.status}, expected 200")
        reader = accounts.login(client, reader.email)
    ids = [payments.create_id(client, reader, other.user_id) for _ in range(PAYMENTS)]
    return reader, ids[0]


class _Port:
    """One kept-alive connection to the service, with as little of a client as can be."""

    def __init__(self, trial: Trial, reader: Session) -> None:
        place = urlsplit(trial.service("payments"))
        address = (trial.exempt_address(), 0) if can_bind() else None
        self._connection = http.client.HTTPConnection(
            place.hostname or "", place.port, timeout=10, source_address=address
        )
        self._reader = reader

    def __enter__(self) -> _Port:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def read(self, path: str, way: str) -> dict[str, Any]:
        """One read; when it began, how long it took (seconds), what X-Cache said."""
        headers = dict(self._reader.headers)
        if way == BYPASS:
            headers["Cache-Control"] = "no-cache"
        started = time.perf_counter()
        try:
            self._connection.request("GET", path, headers=headers)
            reply = self._connection.getresponse()
            reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise CouldNotObserve(f"GET {path}: {type(error).__name__}: {error}") from error
        return {
            "way": way,
            "at": round(started, 6),
            "seconds": round(time.perf_counter() - started, 6),
            "status": reply.status,
            "cache": reply.headers.get("X-Cache", ""),
        }


def _queries(trial: Trial, port: _Port, path: str, way: str, reads: int) -> float:
    """Database queries per read, by the service's own counter."""

    def counted() -> float:
        samples = metrics.read(trial.service("payments"))
        found = samples.get("db_query_duration_seconds_count", [])
        return sum(value for labels, value in found if labels.get("table") not in _OWN_ACCOUNT)

    before = counted()
    for _ in range(reads):
        port.read(path, way)
    return (counted() - before) / reads


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Every kind: HITs below the limit, faster than BYPASS, and nearly without queries."""
    subjects = {kind: [f"{kind}: {measure}" for measure in MEASURES] for kind in KINDS}
    tally = Tally([name for names in subjects.values() for name in names])
    for kind, names in subjects.items():
        if kind in evidence["absent"]:
            tally.absences(dict.fromkeys(names, evidence["absent"][kind]))
        elif kind in evidence["kinds"]:
            _judge(tally, kind, evidence["kinds"][kind], limits)
    return tally.outcome()


def _judge(tally: Tally, kind: str, seen: Mapping[str, Any], limits: Limits) -> None:
    reads = seen["reads"]

    def proven(way: str) -> Callable[[Mapping[str, Any]], bool]:
        return lambda r: r["way"] == way and r["status"] == 200 and r["cache"] == way

    ways = {way: [r for r in reads if proven(way)(r)] for way in (HIT, BYPASS)}
    pairs = min(len(found) for found in ways.values())
    if not tally.enough(f"{kind}: pairs of HIT and BYPASS", pairs, limits["reads"]):
        return
    hits = np.array([r["seconds"] for r in ways[HIT]])
    times = np.array([r["at"] for r in ways[HIT]])
    speed = decide_percentile(hits, times - times[0], 0.95, limits["p95_ms"] / 1e3)
    p95 = speed.estimate
    if speed.decision is Decision.UNDECIDED:
        tally.unproven(f"{kind}: speed", speed.reason)
    else:
        tally.judge(
            f"{kind}: speed",
            speed.decision is Decision.PASS,
            seen=f"p95 {p95.value * 1e3:.2f} ms",
            expected=f"below {limits['p95_ms']} ms",
        )
    tally.figure(
        f"{kind}: HIT p95",
        round(p95.value * 1e3, 2),
        "ms",
        limit=limits["p95_ms"],
        interval=(round(p95.low * 1e3, 2), round(p95.high * 1e3, 2)),
        n=p95.n,
    )
    past = np.array([r["seconds"] for r in ways[BYPASS]])
    ratio = ratio_of_medians(past[:pairs], hits[:pairs])
    if ratio.low <= 1.0 < ratio.high:
        tally.unproven(f"{kind}: ratio", f"{ratio.low:.2f} to {ratio.high:.2f} holds 1")
    else:
        tally.judge(
            f"{kind}: ratio",
            ratio.low > 1.0,
            seen=f"{ratio.value:.2f} [{ratio.low:.2f} – {ratio.high:.2f}]",
            expected="BYPASS slower than HIT, lower bound above 1",
        )
    tally.figure(
        f"{kind}: BYPASS / HIT",
        round(ratio.value, 2),
        limit=1.0,
        interval=(round(ratio.low, 2), round(ratio.high, 2)),
        n=ratio.n,
        bound="lower",
    )
    queries = seen["queries"]
    if queries[BYPASS] <= 0:
        tally.unproven(f"{kind}: queries", "past the cache no query was counted either")
        return
    saved = 100.0 * (1.0 - queries[HIT] / queries[BYPASS])
    tally.judge(
        f"{kind}: queries",
        saved >= limits["queries_saved_percent"],
        seen=f"{queries[HIT]:.2f} queries a HIT, {queries[BYPASS]:.2f} a BYPASS",
        expected=f"at least {limits['queries_saved_percent']} % fewer",
    )
    tally.figure(
        f"{kind}: queries saved",
        round(saved, 1),
        "%",
        limit=limits["queries_saved_percent"],
        bound="lower",
    )
