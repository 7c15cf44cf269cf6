"""Sessions at every door of the target: let in, ended, refused."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from harness.probe import CouldNotObserve, exchange
from harness.trial import Trial
from suites.probes import accounts, graphql, websocket
from suites.probes.accounts import Session
from suites.probes.dependent_operations import told

REVOKED = "401 TOKEN_REVOKED"
# Door → the service whose own port it is (the edge has none), the path, what it lets in with, and
# the part of the target it needs.
DOORS: dict[str, tuple[str, str, str, str]] = {
    "edge": ("", "/api/payments?limit=1", "200", "payments"),
    "graphql": ("", "/graphql", "200", "graphql"),
    "auth port": ("auth", "/auth/me", "200", "auth"),
    "payments port": ("payments", "/payments?limit=1", "200", "payments"),
    # A customer's session is judged before the role (R1.17).
    "admin port": ("admin", "/api/admin/audit-logs?limit=1", "403 FORBIDDEN", "admin"),
    "profile port": ("profile", "/api/profile", "200", "profile-api"),
}
_PATIENCE = 3.0  # seconds after which a door counts as never refusing


class Doors:
    """Every door that the target has; a context manager."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._stack = ExitStack()
        self.absent = {
            door: why
            for door, (_, _, _, part) in DOORS.items()
            if (why := trial.target.absence(part))
        }
        self.names = [door for door in DOORS if door not in self.absent]

    def __enter__(self) -> Doors:
        self._clients = {
            door: self._stack.enter_context(
                self._trial.client(base=self._trial.service(service) if service else "")
            )
            for door, (service, _, _, _) in DOORS.items()
            if door in self.names
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def knock(self, door: str, session: Session) -> str:
        """What a door says to a session."""
        client, path = self._clients[door], DOORS[door][1]
        if door == "graphql":
            seen = graphql.as_rest(graphql.ask(client, graphql.ME, headers=session.headers))
        else:
            headers = {**session.headers, "Cache-Control": "no-cache"}
            seen = exchange(client, "GET", path, headers=headers)
        return str(told(seen)["answer"])

    def knock_with_all(self, sessions: Iterable[Session]) -> dict[str, dict[str, int]]:
        """How often each door gave each answer."""
        answers: dict[str, Counter[str]] = {door: Counter() for door in self.names}
        for session in sessions:
            for door in self.names:
                answers[door][self.knock(door, session)] += 1
        return {door: dict(counts) for door, counts in answers.items()}

    def end(self, sessions: Iterable[Session]) -> dict[str, Any]:
        """Log each out; what each door said just before, and when it let in for the last time.

        A door that is asked late is not one that refuses late: only what was let in counts.
        """
        before: dict[str, Counter[str]] = {door: Counter() for door in self.names}
        delays: dict[str, list[float | None]] = {door: [] for door in self.names}
        last: dict[str, Counter[str]] = {door: Counter() for door in self.names}
        ends: Counter[str] = Counter()
        for session in sessions:
            for door in self.names:
                before[door][self.knock(door, session)] += 1
            with self._trial.client() as client:
                ends[str(told(accounts.logout(client, session))["answer"])] += 1
            ended = time.monotonic()
            waiting, let_in = dict.fromkeys(self.names, ""), dict.fromkeys(self.names, 0.0)
            while waiting and time.monotonic() - ended < _PATIENCE:
                for door in list(waiting):
                    asked = time.monotonic()
                    waiting[door] = self.knock(door, session)
                    if waiting[door] == REVOKED:
                        delays[door].append(round(let_in[door], 3))
                        del waiting[door]
                    else:
                        let_in[door] = max(0.0, asked - ended)
            for door, answer in waiting.items():
                delays[door].append(None)
                last[door][answer] += 1
        return {
            "ends": dict(ends),
            "before": {door: dict(counts) for door, counts in before.items()},
            "delays": delays,
            "last": {door: dict(counts) for door, counts in last.items()},
        }


def end_with_socket(trial: Trial, session: Session, recipient: Session) -> dict[str, Any]:
    """A socket opened now: welcomed, told of a payment, closed when its session ends (R4.25)."""
    if why := trial.target.absence("websocket"):
        return {"absent": why}
    http = trial.target.http
    address = trial.exempt_address() if trial.target.addresses.exempt else None
    try:
        socket = websocket.open_socket(http.websocket, session.access, ca=http.ca, address=address)
    except Exception as error:
        return {"opened": f"{type(error).__name__}: {error}"}
    with socket, trial.client() as client:
        welcome = websocket.receive_until(socket, {"type": "connected"}, seconds=5)
        paid = exchange(
            client,
            "POST",
            "/api/payments",
            headers=session.headers,
            json={
                "type": "instant",
                "amount": "1.00",
                "currency": "USD",
                "description": "trial",
                "recipientId": recipient.user_id,
            },
        )
        sent = time.monotonic()
        event = websocket.receive_until(socket, {"type": "event"}, seconds=5)
        came = round(time.monotonic() - sent, 3)
        accounts.logout(client, session)
        closed = websocket.closed_within(socket, 5)
    return {
        "opened": "welcomed" if welcome else "not welcomed",
        "paid": told(paid)["answer"],
        "event_seconds": came if event and event[-1].get("type") == "event" else None,
        "closed_seconds": round(closed[0], 3) if closed else None,
        "closed_code": closed[1] if closed else None,
    }


def sessions_of(trial: Trial, people: int, each: int) -> list[Session]:
    """Open sessions of new people, several of each.

    Raises:
        CouldNotObserve: one could not be opened.
    """
    found = []
    with trial.client() as client:
        for _ in range(people):
            person = accounts.register(client, trial.prefix)
            found += [person, *(accounts.login(client, person.email) for _ in range(each - 1))]
    if not found:
        raise CouldNotObserve("no session was asked for")
    return found
