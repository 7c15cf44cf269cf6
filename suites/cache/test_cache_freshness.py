"""No read after an acknowledged write is stale."""

from __future__ import annotations

from typing import Any

import httpx

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve, Exchange, exchange, header_values
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import accounts, payments, writers
from suites.probes.accounts import Session

CRITERION = Criterion(
    id="cache-freshness",
    area="cache",
    statement="No read after an acknowledged write MUST be stale, whatever entry it comes from.",
    gate="at least 1,000 pairs over all entry kinds, each HIT directly before the write; 0 stale",
    rules=("R6.4", "R6.5", "R6.7", "R6.20"),
    needs=(Access.EXEMPT,),
    parts=("redis", "payments"),
    effects=(Effect.READS, Effect.WRITES, Effect.LOADS),
    time_limit=300,
)

# Entry kind → the part whose writes change it.
KINDS = {
    "payment": "payments",
    "payment list": "payments",
    "payment list, limit": "payments",
    "user": "admin-users",
    "payment report": "reports",
    "recipients": "recipients",
    "profile": "profile-api",
    "preferences": "profile-api",
}
LIMITS = (3, 7)
CREW = 8


def test_no_read_after_a_write_is_stale(trial: Trial) -> None:
    """HIT, write, read: the read shows the write, for writer and counterpart."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Pairs of read and write over several people at once; lists of two sizes in between."""
    with trial.client() as client:
        admin = accounts.login_as(trial, client, "admin")
        crew = [
            (accounts.register(client, trial.prefix), accounts.register(client, trial.prefix))
            for _ in range(CREW)
        ]
    rounds = -(-trial.limits["pairs"] // (PAIRS_A_ROUND * CREW))
    trial.progress(f"{rounds} rounds of {CREW} pairs of people")

    def work(client: httpx.Client, people: tuple[Session, Session]) -> dict[str, Any]:
        return _rounds(client, admin, people, rounds)

    results = writers.in_parallel(trial, crew, work)
    return {
        "pairs": [sum(r["pairs"] for r in results), rounds * CREW * PAIRS_A_ROUND],
        "no_hit": [entry for r in results for entry in r["no_hit"]][:20],
        "no_hits": sum(len(r["no_hit"]) for r in results),
        "judged": {
            kind: sum(r["judged"].get(kind, 0) for r in results) for kind in ("payment", *LISTS)
        },
        "stale": [entry for r in results for entry in r["stale"]][:50],
        "absent": {k: why for k, part in KINDS.items() if (why := trial.target.absence(part))},
    }


LISTS = ("payment list", "payment list, limit")
PAIRS_A_ROUND = 3


class _Log:
    """What one couple saw."""

    def __init__(self) -> None:
        self.pairs = 0
        self.no_hit: list[str] = []
        self.judged: dict[str, int] = {}
        self.stale: list[dict[str, str]] = []

    def pair(self, kind: str, hit: Exchange, after: Exchange, seen: Any, expected: Any) -> None:
        """One read, write, read."""
        if header_values(hit, "x-cache") != ["HIT"]:
            self.no_hit.append(f"{kind}: X-Cache {header_values(hit, 'x-cache')}, {hit.status}")
            return
        self.pairs += 1
        self.judge(kind, after, seen, expected)

    def judge(self, kind: str, after: Exchange, seen: Any, expected: Any) -> None:
        self.judged[kind] = self.judged.get(kind, 0) + 1
        if seen != expected:
            place = f"{kind}: GET {after['request']['url']}"
            served = ", ".join(header_values(after, "x-cache"))
            self.stale.append(
                {
                    "kind": kind,
                    "place": f"{place} (X-Cache {served or 'absent'})",
                    "seen": str(seen),
                    "expected": str(expected),
                }
            )

    def document(self) -> dict[str, Any]:
        return {
            "pairs": self.pairs,
            "no_hit": self.no_hit,
            "judged": self.judged,
            "stale": self.stale,
        }


def _rounds(
    client: httpx.Client, admin: Session, people: tuple[Session, Session], rounds: int
) -> dict[str, Any]:
    """One couple: create, then two changes of state; sender and recipient read in turn."""
    log = _Log()
    sender, recipient = people
    for number in range(rounds):
        reader = people[number % 2]
        page = f"/api/payments?limit={LIMITS[number % 2]}"
        _read(client, reader, page)
        hit = _read(client, reader, page)
        made = payments.create(client, sender, recipient.user_id, description=f"no. {number}")
        if made.status != 201:
            raise CouldNotObserve(f"create payment: {made['error'] or made.status}, expected 201")
        payment = made["json"]["data"]["id"]
        after = _read(client, reader, page)
        log.pair("payment list", hit, after, _first_id(after), payment)
        _lists_of_two_sizes(client, log, reader, number + 1)
        path = f"/api/payments/{payment}"
        _read(client, reader, path)
        for state in ("processing", "completed"):
            hit = _read(client, reader, path)
            changed = payments.change_status(client, admin, payment, state)
            if changed.status != 200:
                raise CouldNotObserve(f"change to {state}: {changed.status}, expected 200")
            after = _read(client, reader, path)
            log.pair("payment", hit, after, _state(after), state)
    return log.document()


def _lists_of_two_sizes(client: httpx.Client, log: _Log, reader: Session, total: int) -> None:
    """Two page sizes one after the other, each as long as it must be (R6.4)."""
    if total not in (LIMITS[0] + 1, LIMITS[1] + 1):
        return
    for limit in LIMITS:
        seen = _read(client, reader, f"/api/payments?limit={limit}")
        rows = _rows(seen)
        log.judge(LISTS[1], seen, f"{len(rows)} rows", f"{min(limit, total)} rows")


def _read(client: httpx.Client, reader: Session, path: str) -> Exchange:
    return exchange(client, "GET", path, headers=reader.headers)


def _data(seen: Exchange) -> dict[str, Any]:
    body = seen["json"] if isinstance(seen["json"], dict) else {}
    return body["data"] if isinstance(body.get("data"), dict) else {}


def _rows(seen: Exchange) -> list[Any]:
    rows = _data(seen).get("payments")
    return rows if isinstance(rows, list) else []


def _first_id(seen: Exchange) -> str:
    rows = _rows(seen)
    return str(rows[0].get("id")) if rows else f"{seen.status}, no rows"


def _state(seen: Exchange) -> str:
    return str(_data(seen).get("status", seen.status))


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Every read after a write was fresh, and enough of them could have been stale."""
    tally = Tally(KINDS)
    tally.absences(evidence["absent"])
    pairs, tried = evidence["pairs"]
    tally.enough("pairs with a HIT before the write", pairs, limits["pairs"])
    if evidence["no_hits"] > 0.02 * tried:
        tally.doubt(f"{evidence['no_hits']} of {tried} reads were no HIT: {evidence['no_hit'][:3]}")
    for kind, number in evidence["judged"].items():
        stale = [entry for entry in evidence["stale"] if entry["kind"] == kind]
        if number:
            for entry in stale or [{}]:
                tally.judge(
                    kind,
                    not entry,
                    seen=entry.get("seen", ""),
                    expected=entry.get("expected", ""),
                    place=entry.get("place", ""),
                    severity="critical",
                )
    tally.figure("stale reads", len(evidence["stale"]), limit=0)
    return tally.outcome(passed=f"{pairs} pairs, none stale")
