"""Entries of the cache as their readers see them: a read, a write that outdates it, a value.

Each entry belongs to one person, so that entries can be written side by side.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from harness.probe import CouldNotObserve, Exchange, exchange, header_values
from harness.trial import Trial
from suites.probes import accounts, administration, payments
from suites.probes.accounts import Session

# Kind of entry (R6.13–R6.19) → the parts of the target it needs, to be read and to be changed.
KINDS: dict[str, tuple[str, ...]] = {
    "payment": ("payments",),
    "payment list": ("payments",),
    "user": ("admin-users",),
    "profile": ("profile-api",),
    "preferences": ("profile-api",),
    "payment report": ("reports", "admin-users"),
    "recipients": ("recipients", "admin-users"),
}
BY_EVENT_S = 5.0  # R2.21: what comes by an event is everywhere within this time


@dataclass(frozen=True)
class Person:
    """Somebody with entries of his own.

    Attributes:
        session: his.
        other: whom he pays, and who is nobody's reader.
        pending: payments of his, each changed once.
        vendor: whether he may see reports.
    """

    session: Session
    other: Session
    pending: tuple[str, ...]
    vendor: bool


@dataclass(frozen=True)
class Entry:
    """One entry of the cache.

    Attributes:
        kind: of `KINDS`.
        path: what is read.
        reader: by whom.
        write: changes it; gives the answer and the value that reads must show from then on.
        tell: the value that an answer shows.
        by_event: whether another service has to hear of the change first.
    """

    kind: str
    path: str
    reader: Session
    write: Callable[[httpx.Client], tuple[Exchange, Any]]
    tell: Callable[[Exchange], Any]
    by_event: bool = False

    def read(self, client: httpx.Client, *, fresh: bool = False) -> Exchange:
        """Read it, past the cache if ``fresh``."""
        headers = {**self.reader.headers, **({"Cache-Control": "no-cache"} if fresh else {})}
        return exchange(client, "GET", self.path, headers=headers)


def outcome(seen: Exchange) -> str:
    """Status and X-Cache of an answer, or why there was none."""
    source = ", ".join(header_values(seen, "x-cache"))
    return seen["error"] or f"{seen.status} {source or seen.code or 'without X-Cache'}"


def digest(seen: Exchange) -> str:
    """What tells one answer's body from another's."""
    return hashlib.sha256(repr(seen["json"]).encode()).hexdigest()[:16]


def absent(trial: Trial) -> dict[str, str]:
    """The kinds that the target declares absent, with the reason."""
    return {
        kind: why
        for kind, parts in KINDS.items()
        for part in parts
        if (why := trial.target.absence(part))
    }


def person(
    trial: Trial, client: httpx.Client, admin: Session, pending: int, *, vendor: bool
) -> Person:
    """Somebody new.

    Raises:
        CouldNotObserve: the target refused something of this.
    """
    session, other = (accounts.register(client, trial.prefix) for _ in range(2))
    if vendor:
        changed = administration.change_role(client, admin, session.user_id, "VENDOR")
        if changed.status != 200:
            raise CouldNotObserve(f"role change: seen {changed.status}, expected 200")
        session = accounts.login(client, session.email)
    ids = [payments.create_id(client, session, other.user_id) for _ in range(pending)]
    return Person(session, other, tuple(ids), vendor)


def entries(
    who: Person, admin: Session, turn: int, kinds: tuple[str, ...], pending: slice
) -> Iterator[Entry]:
    """The person's entries.

    Args:
        who: the person.
        admin: changes accounts and states of payments.
        turn: number of this round; each writes other values.
        kinds: those wanted.
        pending: which of the person's payments are changed in this round.
    """
    reader = who.session
    name, language = f"Trial {turn}", ("de", "fr")[turn % 2]

    def renamed(person: Session) -> Callable[[httpx.Client], tuple[Exchange, Any]]:
        return lambda client: (administration.rename(client, admin, person.user_id, name), name)

    def paid(client: httpx.Client) -> tuple[Exchange, Any]:
        made = payments.create(client, reader, who.other.user_id, description=name)
        return made, _data(made).get("id")

    def processed(payment: str) -> Callable[[httpx.Client], tuple[Exchange, Any]]:
        return lambda client: (
            payments.change_status(client, admin, payment, "processing"),
            "processing",
        )

    def described(client: httpx.Client) -> tuple[Exchange, Any]:
        return administration.update_profile(client, reader, name), name

    def preferred(client: httpx.Client) -> tuple[Exchange, Any]:
        return administration.prefer(client, reader, language), language

    def paid_in_euros(client: httpx.Client) -> tuple[Exchange, Any]:
        path = "/api/payments/reports?currency=EUR"
        headers = {**reader.headers, "Cache-Control": "no-cache"}
        before = _data(exchange(client, "GET", path, headers=headers)).get("totalPayments", 0)
        made = payments.create(client, reader, who.other.user_id, currency="EUR", type="scheduled")
        return made, before + 1

    def name_of_other(seen: Exchange) -> Any:
        body = seen["json"] if isinstance(seen["json"], dict) else {}
        rows = body.get("data") if isinstance(body.get("data"), list) else []
        return next((p.get("name") for p in rows or [] if p.get("id") == who.other.user_id), None)

    whole = {
        "payment list": Entry(
            # A report's payments are of another type, so that they do not change the list.
            "payment list",
            "/api/payments?limit=5&type=instant",
            reader,
            paid,
            _first_payment,
        ),
        "user": Entry("user", "/api/auth/me", reader, renamed(reader), _member("name")),
        "profile": Entry("profile", "/api/profile", reader, described, _member("bio")),
        "preferences": Entry(
            "preferences", "/api/profile/preferences", reader, preferred, _member("language")
        ),
    }
    if who.vendor:
        whole["payment report"] = Entry(
            "payment report",
            "/api/payments/reports?currency=EUR",
            reader,
            paid_in_euros,
            _member("totalPayments"),
        )
        whole["recipients"] = Entry(
            "recipients",
            "/api/payments/recipients",
            reader,
            renamed(who.other),
            name_of_other,
            by_event=True,
        )
    yield from (entry for kind, entry in whole.items() if kind in kinds)
    if "payment" in kinds:
        for payment in who.pending[pending]:
            path = f"/api/payments/{payment}"
            yield Entry("payment", path, reader, processed(payment), _member("status"))


def primed(client: httpx.Client, entry: Entry) -> Exchange:
    """Read it until it is a HIT, three times at most; the last answer."""
    for _ in range(3):
        seen = entry.read(client)
        if outcome(seen) == "200 HIT":
            break
    return seen


def written(client: httpx.Client, entry: Entry) -> dict[str, Any]:
    """Write, then read as a client would: what was accepted, expected and shown."""
    reply, expected = entry.write(client)
    seen = entry.read(client)
    if entry.by_event:
        deadline = time.monotonic() + BY_EVENT_S
        while entry.tell(seen) != expected and time.monotonic() < deadline:
            time.sleep(0.05)
            seen = entry.read(client)
    return {
        "accepted": reply.status in (200, 201),
        "write": reply["error"] or f"{reply.status} {reply.code}".strip(),
        "expected": expected,
        "seen": entry.tell(seen),
        "outcome": outcome(seen),
    }


def _data(seen: Exchange) -> dict[str, Any]:
    body = seen["json"] if isinstance(seen["json"], dict) else {}
    return body["data"] if isinstance(body.get("data"), dict) else {}


def _member(name: str) -> Callable[[Exchange], Any]:
    return lambda seen: _data(seen).get(name)


def _first_payment(seen: Exchange) -> Any:
    rows = _data(seen).get("payments")
    return rows[0].get("id") if isinstance(rows, list) and rows else None
