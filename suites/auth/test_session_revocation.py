"""A session that ended is dead everywhere within a second, and only that one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve, Exchange, error_code, exchange
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import accounts, administration, graphql, websocket
from suites.probes.accounts import Session

CRITERION = Criterion(
    id="session-revocation",
    area="auth",
    statement="After its session ended, an access token, its refresh token and its open WebSocket "
    "MUST stop working on every surface, and no other session's.",
    gate="per cause and surface at least 20 times: accepted at most 1 s before, refused at most "
    "1 s after; another session of the same user keeps working",
    rules=("R1.32", "R1.33", "R1.70", "R1.73", "R1.91", "R1.133", "R4.25"),
    needs=(Access.SERVICES,),
    effects=(Effect.READS, Effect.WRITES),
    time_limit=360,
)

# Cause → the part it needs. What is absent is named in the verdict.
CAUSES = {
    "logout": "auth",
    "password change": "password-change",
    "role change": "admin-users",
    "suspension": "admin-users",
    "deletion": "admin-users",
    "device removal": "devices",
}
HTTP_SURFACES = {
    "edge": "edge",
    "auth port": "auth",
    "payments port": "payments",
    "admin port": "admin",
    "profile port": "profile-api",
    "graphql": "graphql",
}
SURFACES = {**HTTP_SURFACES, "refresh token": "auth", "open websocket": "websocket"}
GIVE_UP = 4.0  # seconds after which a surface counts as never refusing


def test_a_session_that_ended_is_dead_everywhere(trial: Trial) -> None:
    """Each surface takes the token just before and refuses it within a second after."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """For every cause: open sessions, end them, and knock at every surface until it refuses."""
    absent_surfaces = _absences(trial, SURFACES)
    absent_causes = _absences(trial, CAUSES)
    surfaces = [s for s in SURFACES if s not in absent_surfaces]
    tries: list[dict[str, Any]] = []
    with _Doors(trial) as doors:
        # The administrator must outlive what he does, so he is none of those whose session ends.
        admin = accounts.login_as(trial, doors.edge, "admin")
        for cause in (c for c in CAUSES if c not in absent_causes):
            trial.progress(f"{cause}, {trial.limits['tries']} times")
            ended: list[Session] = []
            failed = 0
            # Waiting in vain takes seconds: what failed twice in the same way has been seen.
            while len(ended) < trial.limits["tries"] and failed < 2:
                ending = _ending(doors, cause, admin, trial.prefix)
                seen = _one_end(doors, ending, surfaces)
                tries.append({"cause": cause, **seen})
                ended.append(ending.session)
                failed += None in seen["delays"].values()
            for entry, session in zip(tries[-len(ended) :], ended, strict=True):
                entry["still"] = doors.knock("edge", session)["code"]
    return {
        "tries": tries,
        "absent_surfaces": absent_surfaces,
        "absent_causes": absent_causes,
    }


@dataclass(frozen=True)
class _Ending:
    """A session that is about to end, how, and one that must not.

    Attributes:
        session: ends.
        bystander: another session of the same person where the cause spares it, else of another.
        act: ends it; the status that says it is done.
        status: of the act's answer.
    """

    session: Session
    bystander: Session
    act: Callable[[], Exchange]
    status: int = 200


def _ending(doors: _Doors, cause: str, admin: Session, prefix: str) -> _Ending:
    edge = doors.edge
    person = accounts.register(edge, prefix)
    if cause == "logout":
        session = accounts.login(edge, person.email)
        return _Ending(session, person, lambda: accounts.logout(edge, session))
    if cause == "device removal":
        device = f"device-{person.user_id[:8]}"
        session = accounts.login(edge, person.email, device=device)
        return _Ending(
            session, person, lambda: administration.remove_device(edge, person, device), 204
        )
    bystander, who = accounts.register(edge, prefix), person.user_id
    new = accounts.PASSWORD + "2"
    act, status = {
        "password change": (
            lambda: administration.change_password(edge, person, accounts.PASSWORD, new),
            200,
        ),
        "role change": (lambda: administration.change_role(edge, admin, who, "VENDOR"), 200),
        "suspension": (lambda: administration.change_status(edge, admin, who, False), 200),
        "deletion": (lambda: administration.delete(edge, admin, who), 204),
    }[cause]
    return _Ending(person, bystander, act, status)


def _absences(trial: Trial, table: dict[str, str]) -> dict[str, str]:
    return {name: why for name, part in table.items() if (why := trial.target.absence(part))}


class _Doors:
    """A kept-alive client per surface, so that a knock costs milliseconds."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self.edge = trial.client()
        self._clients: dict[str, tuple[list[httpx.Client], str]] = {
            "edge": ([self.edge], "/api/auth/me"),
            "graphql": ([self.edge], "/graphql"),
        }
        for name, path in (
            ("auth", "/auth/me"),
            ("payments", "/payments?limit=1"),
            ("admin", "/api/admin/audit-logs?limit=1"),
            ("profile", "/api/profile"),
        ):
            clients = [trial.client(base=url) for url in trial.members(name)]
            self._clients[f"{name} port"] = (clients, path)

    def __enter__(self) -> _Doors:
        return self

    def __exit__(self, *details: object) -> None:
        for clients, _ in self._clients.values():
            for client in clients:
                client.close()

    def knock(self, surface: str, session: Session, *, ended: bool = False) -> dict[str, Any]:
        """Show the access token; a customer's good one is 403 at the admin port, 200 elsewhere.

        Args:
            ended: whether it is to be refused; of several members the answer of the first one
                counts that does otherwise.
        """
        clients, path = self._clients[surface]
        answers = [self._knock(surface, client, path, session) for client in clients]
        other = (seen for seen in answers if _is_revoked(seen) is not ended)
        return next(other, answers[0])

    def _knock(
        self, surface: str, client: httpx.Client, path: str, session: Session
    ) -> dict[str, Any]:
        if surface == "graphql":
            seen = graphql.as_rest(graphql.ask(client, graphql.ME, headers=session.headers))
        else:
            seen = exchange(client, "GET", path, headers=session.headers)
        return {"status": seen.status, "code": error_code(seen), "error": seen["error"]}

    def socket(self, session: Session) -> Any:
        """An open WebSocket of the session, through the edge."""
        http = self._trial.target.http
        address = self._trial.exempt_address() if self._trial.target.addresses.exempt else None
        try:
            return websocket.open_socket(
                http.websocket, session.access, ca=http.ca, address=address
            )
        except Exception as error:
            raise CouldNotObserve(f"open websocket: {type(error).__name__}: {error}") from error


def _is_revoked(answer: dict[str, Any]) -> bool:
    return (answer["status"], answer["code"]) == (401, "TOKEN_REVOKED")


def _one_end(doors: _Doors, ending: _Ending, surfaces: list[str]) -> dict[str, Any]:
    """One session's end: what each surface said before, and how long it took to refuse."""
    session = ending.session
    http = [s for s in surfaces if s in HTTP_SURFACES]
    socket = doors.socket(session) if "open websocket" in surfaces else None
    try:
        before = {}
        for surface in http:
            before[surface] = {**doors.knock(surface, session), "at": time.monotonic()}
        asked_to_end = time.monotonic()
        end = ending.act()
        ended = time.monotonic()
        delays: dict[str, float | None] = dict.fromkeys(surfaces)
        last: dict[str, Any] = {}
        while ended + GIVE_UP > time.monotonic() and any(delays[s] is None for s in http):
            for surface in [s for s in http if delays[s] is None]:
                asked = time.monotonic()
                last[surface] = doors.knock(surface, session, ended=True)
                if _is_revoked(last[surface]):
                    delays[surface] = max(0.0, asked - ended)
        if socket is not None:
            remaining = max(0.05, ended + GIVE_UP - time.monotonic())
            started = time.monotonic()
            closed = websocket.closed_within(socket, remaining)
            last["open websocket"] = {"code": closed[1] if closed else None}
            if closed and closed[1] == 4401:
                delays["open websocket"] = max(0.0, started + closed[0] - ended)
        if "refresh token" in surfaces:
            spent = accounts.refresh(doors.edge, session.refresh)
            last["refresh token"] = {"status": spent.status, "code": spent.code}
            if (spent.status, spent.code) == (401, "TOKEN_REVOKED"):
                delays["refresh token"] = 0.0
        other = doors.knock("edge", ending.bystander)
    finally:
        if socket is not None:
            socket.close()
    return {
        "before": {
            surface: {**seen, "seconds": round(asked_to_end - seen.pop("at"), 3)}
            for surface, seen in before.items()
        },
        "end": {"status": end.status, "expected": ending.status, "error": end["error"]},
        "delays": {s: None if d is None else round(d, 3) for s, d in delays.items()},
        "last": last,
        "other_session": other["status"],
    }


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Every surface took the token before, refuses within the limit after; others live on."""
    tally = Tally([*SURFACES, "other session", "stays refused", *CAUSES])
    tally.absences({**evidence["absent_surfaces"], **evidence["absent_causes"]})
    worst: dict[str, float] = {}
    counts: Counter[str] = Counter()
    for seen in evidence["tries"]:
        cause, end = seen["cause"], seen["end"]
        counts[cause] += 1
        tally.control(
            f"{cause} is answered {end['expected']}",
            end["status"] == end["expected"],
            end["error"] or end["status"],
        )
        _judge_before(tally, seen["before"], limits)
        for surface, delay in seen["delays"].items():
            worst[surface] = max(worst.get(surface, 0.0), GIVE_UP if delay is None else delay)
            good = delay is not None and delay <= limits["seconds"]
            for subject in (surface, cause):
                tally.judge(
                    subject,
                    good or subject == cause,  # one finding for one observation
                    seen=f"{seen['last'].get(surface)}"
                    if delay is None
                    else f"refused after {delay} s",
                    expected=f"401 TOKEN_REVOKED (WebSocket: close 4401) within "
                    f"{limits['seconds']} s",
                    place=f"{surface}, {cause} {counts[cause]}",
                    severity="critical",
                )
        tally.equal("other session", seen["other_session"], 200, place=f"after {cause}")
        tally.equal("stays refused", seen["still"], "TOKEN_REVOKED", place=f"after {cause}")
    for cause in CAUSES:
        if cause not in evidence["absent_causes"]:
            tally.enough(f"tries: {cause}", counts[cause], limits["tries"])
    for surface, seconds in worst.items():
        tally.figure(f"slowest: {surface}", round(seconds, 3), "s", limit=limits["seconds"])
    return tally.outcome()


def _judge_before(tally: Tally, before: Mapping[str, Any], limits: Limits) -> None:
    for surface, answer in before.items():
        good = (403, "FORBIDDEN") if surface == "admin port" else (200, "")
        fresh = answer["seconds"] <= limits["seconds"]
        tally.control(
            f"{surface} takes the token at most {limits['seconds']} s before",
            (answer["status"], answer["code"]) == good and fresh,
            f"{answer['error'] or answer['status']} {answer['code']}, {answer['seconds']} s before",
        )
