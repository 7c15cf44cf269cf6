"""A session that ended is dead everywhere within a second, and only that one."""

from __future__ import annotations

import time
from typing import Any

import httpx

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve, error_code, exchange
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import accounts, websocket
from suites.probes.accounts import Session

CRITERION = Criterion(
    id="session-revocation",
    area="auth",
    statement="After its session ended, an access token, its refresh token and its open WebSocket "
    "MUST stop working on every surface, and no other session's.",
    gate="per cause and surface at least 20 times: accepted at most 1 s before, refused at most "
    "1 s after; another session of the same user keeps working",
    rules=("R1.32", "R1.33", "R1.70", "R4.25"),
    needs=(Access.SERVICES,),
    effects=(Effect.READS, Effect.WRITES),
    time_limit=240,
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
    """Open two sessions of a person, end one, and knock at every surface until it refuses."""
    absent_surfaces = _absences(trial, SURFACES)
    absent_causes = _absences(trial, CAUSES)
    surfaces = [s for s in SURFACES if s not in absent_surfaces]
    tries: list[dict[str, Any]] = []
    with _Doors(trial) as doors:
        person = accounts.register(doors.edge, trial.prefix)
        keeps = accounts.login(doors.edge, person.email)
        ended: list[Session] = []
        for number in range(trial.limits["tries"]):
            if number % 5 == 0:
                trial.progress(f"logout {number + 1} of {trial.limits['tries']}")
            session = accounts.login(doors.edge, person.email)
            tries.append(_one_logout(doors, session, keeps, surfaces))
            ended.append(session)
        still = [doors.knock("edge", session)["code"] for session in ended]
    return {
        "cause": "logout",
        "tries": tries,
        "still_refused": still,
        "absent_surfaces": absent_surfaces,
        "absent_causes": absent_causes,
    }


def _absences(trial: Trial, table: dict[str, str]) -> dict[str, str]:
    return {name: why for name, part in table.items() if (why := trial.target.absence(part))}


class _Doors:
    """A kept-alive client per surface, so that a knock costs milliseconds."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self.edge = trial.client()
        self._clients: dict[str, tuple[httpx.Client, str]] = {
            "edge": (self.edge, "/api/auth/me"),
            "graphql": (self.edge, "/graphql"),
        }
        for name, path in (
            ("auth", "/auth/me"),
            ("payments", "/payments?limit=1"),
            ("admin", "/api/admin/audit-logs?limit=1"),
            ("profile", "/api/profile"),
        ):
            client = trial.client(base=trial.service(name))
            self._clients[f"{name} port"] = (client, path)

    def __enter__(self) -> _Doors:
        return self

    def __exit__(self, *details: object) -> None:
        for client, _ in self._clients.values():
            client.close()

    def knock(self, surface: str, session: Session) -> dict[str, Any]:
        """Show the access token; a customer's good one is 403 at the admin port, 200 elsewhere."""
        client, path = self._clients[surface]
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


def _one_logout(
    doors: _Doors, session: Session, keeps: Session, surfaces: list[str]
) -> dict[str, Any]:
    """One session's end: what each surface said before, and how long it took to refuse."""
    http = [s for s in surfaces if s in HTTP_SURFACES]
    socket = doors.socket(session) if "open websocket" in surfaces else None
    try:
        before = {}
        for surface in http:
            before[surface] = {**doors.knock(surface, session), "at": time.monotonic()}
        asked_to_end = time.monotonic()
        end = accounts.logout(doors.edge, session)
        ended = time.monotonic()
        delays: dict[str, float | None] = dict.fromkeys(surfaces)
        last: dict[str, Any] = {}
        while ended + GIVE_UP > time.monotonic() and any(delays[s] is None for s in http):
            for surface in [s for s in http if delays[s] is None]:
                asked = time.monotonic()
                last[surface] = doors.knock(surface, session)
                if (last[surface]["status"], last[surface]["code"]) == (401, "TOKEN_REVOKED"):
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
        other = doors.knock("edge", keeps)
    finally:
        if socket is not None:
            socket.close()
    return {
        "before": {
            surface: {**seen, "seconds": round(asked_to_end - seen.pop("at"), 3)}
            for surface, seen in before.items()
        },
        "logout": end.status,
        "delays": {s: None if d is None else round(d, 3) for s, d in delays.items()},
        "last": last,
        "other_session": other["status"],
    }


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Every surface took the token before, refuses within the limit after; others live on."""
    tally = Tally([*SURFACES, "other session", "stays refused", *CAUSES])
    tally.absences({**evidence["absent_surfaces"], **evidence["absent_causes"]})
    tries = evidence["tries"]
    tally.enough("logouts", len(tries), limits["tries"])
    worst: dict[str, float] = {}
    for number, seen in enumerate(tries, 1):
        tally.control("logout is answered 200", seen["logout"] == 200, seen["logout"])
        for surface, answer in seen["before"].items():
            good = (403, "FORBIDDEN") if surface == "admin port" else (200, "")
            fresh = answer["seconds"] <= limits["seconds"]
            tally.control(
                f"{surface} takes the token at most {limits['seconds']} s before",
                (answer["status"], answer["code"]) == good and fresh,
                f"{answer['error'] or answer['status']} {answer['code']}, "
                f"{answer['seconds']} s before",
            )
        for surface, delay in seen["delays"].items():
            worst[surface] = max(worst.get(surface, 0.0), GIVE_UP if delay is None else delay)
            tally.judge(
                surface,
                delay is not None and delay <= limits["seconds"],
                seen=f"{seen['last'].get(surface)}"
                if delay is None
                else f"refused after {delay} s",
                expected=f"401 TOKEN_REVOKED (WebSocket: close 4401) within {limits['seconds']} s",
                place=f"{surface}, logout {number}",
                severity="critical",
            )
        tally.equal("other session", seen["other_session"], 200, place=f"logout {number}")
    tally.judge("logout", bool(tries), seen=f"{len(tries)} logouts", expected="at least one logout")
    alive = [code for code in evidence["still_refused"] if code != "TOKEN_REVOKED"]
    tally.equal("stays refused", ", ".join(alive) or "all refused", "all refused")
    for surface, seconds in worst.items():
        tally.figure(f"slowest: {surface}", round(seconds, 3), "s", limit=limits["seconds"])
    return tally.outcome()
