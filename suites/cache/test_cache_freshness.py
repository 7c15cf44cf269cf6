"""No read after an acknowledged write is stale."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve, Exchange, exchange, header_values
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import accounts, administration, payments, writers
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

# Entry kind → the parts that read it and change it (reports are for vendors, whom an
# administrator makes).
KINDS = {
    "payment": ("payments",),
    "payment list": ("payments",),
    "payment list, limit": ("payments",),
    "user": ("admin-users",),
    "payment report": ("reports", "admin-users"),
    "recipients": ("recipients", "admin-users"),
    "profile": ("profile-api",),
    "preferences": ("profile-api",),
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
    absent = {
        kind: why
        for kind, parts in KINDS.items()
        for part in parts
        if (why := trial.target.absence(part))
    }
    # One after the other: what others write meanwhile would end these entries as well.
    trial.progress("entries of accounts, profiles, reports")
    with trial.client() as client:
        alone = [
            (kind, OTHERS, _others(client, admin, trial.prefix, kind))
            for kind in OTHER_KINDS
            if kind not in absent
        ]
    results += [log for _, _, log in alone]
    tried = rounds * CREW * PAIRS_A_ROUND + sum(number for _, number, _ in alone)
    return {
        "pairs": [sum(r["pairs"] for r in results), tried],
        "no_hit": [entry for r in results for entry in r["no_hit"]][:20],
        "no_hits": sum(len(r["no_hit"]) for r in results),
        "judged": {kind: sum(r["judged"].get(kind, 0) for r in results) for kind in KINDS},
        "stale": [entry for r in results for entry in r["stale"]][:50],
        "absent": absent,
    }


LISTS = ("payment list", "payment list, limit")
PAIRS_A_ROUND = 3
OTHER_KINDS = ("user", "profile", "preferences", "payment report", "recipients")
OTHERS = 20  # pairs of each of these
LANGUAGES = ("en", "de")
# R2.21: what comes by an event is everywhere within this time; no answer's writer waits for it.
BY_EVENT_S = 5.0


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


def _others(client: httpx.Client, admin: Session, prefix: str, kind: str) -> dict[str, Any]:
    """Pairs of one kind that only its owner and the administrator change."""
    log = _Log()
    reader, other = accounts.register(client, prefix), accounts.register(client, prefix)
    if kind == "payment report":
        reader = _as_vendor(client, admin, reader)
    for number in range(OTHERS):
        path, write, told = _pair_of(client, admin, (reader, other), kind, number)
        before = _read(client, reader, path)
        hit = _read(client, reader, path)
        expected = told(before, True)
        written = write()
        if written.status not in (200, 201):
            raise CouldNotObserve(f"{kind}: the write was answered {written.status}, expected 200")
        after = _read(client, reader, path)
        deadline = time.monotonic() + (BY_EVENT_S if kind == "recipients" else 0.0)
        while told(after, False) != expected and time.monotonic() < deadline:
            time.sleep(0.02)
            after = _read(client, reader, path)
        log.pair(kind, hit, after, told(after, False), expected)
    return log.document()


def _pair_of(
    client: httpx.Client, admin: Session, people: tuple[Session, Session], kind: str, number: int
) -> tuple[str, Callable[[], Exchange], Callable[[Exchange, bool], Any]]:
    """Path, write, and what an answer tells: with True, what it must tell after the write."""
    reader, other = people
    name, language = f"Trial {number}", LANGUAGES[number % 2]

    def field(key: str, new: Any) -> Callable[[Exchange, bool], Any]:
        return lambda seen, wanted: new if wanted else _data(seen).get(key)

    def count(seen: Exchange, wanted: bool) -> Any:
        return int(_data(seen).get("totalPayments", -1)) + (1 if wanted else 0)

    def name_of_other(seen: Exchange, wanted: bool) -> Any:
        body = seen["json"] if isinstance(seen["json"], dict) else {}
        found = [p["name"] for p in body.get("data") or [] if p.get("id") == other.user_id]
        return [name] if wanted else found

    return {
        "user": (
            "/api/auth/me",
            lambda: administration.rename(client, admin, reader.user_id, name),
            field("name", name),
        ),
        "profile": (
            "/api/profile",
            lambda: administration.update_profile(client, reader, name),
            field("bio", name),
        ),
        "preferences": (
            "/api/profile/preferences",
            lambda: administration.prefer(client, reader, language),
            field("language", language),
        ),
        "payment report": (
            "/api/payments/reports",
            lambda: payments.create(client, reader, other.user_id, description=name),
            count,
        ),
        "recipients": (
            "/api/payments/recipients",
            lambda: administration.rename(client, admin, other.user_id, name),
            name_of_other,
        ),
    }[kind]


def _as_vendor(client: httpx.Client, admin: Session, person: Session) -> Session:
    """The person as a vendor, with a session of that role: reports are not for customers."""
    changed = administration.change_role(client, admin, person.user_id, "VENDOR")
    if changed.status != 200:
        raise CouldNotObserve(f"role change: seen {changed.status}, expected 200")
    return accounts.login(client, person.email)


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
