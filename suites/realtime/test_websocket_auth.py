"""Who may open a WebSocket, and how everybody else is refused."""

from __future__ import annotations

import time
from typing import Any

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve, Refusal, read_refusal
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import accounts, tokens, websocket

CRITERION = Criterion(
    id="websocket-auth",
    area="realtime",
    statement="A valid token MUST connect; none, an invalid, expired or revoked one and a refused "
    "origin MUST NOT, each refused as contracted.",
    gate="table of cases, through the edge and directly at the gateway",
    rules=("R4.1", "R4.2", "R4.3", "R4.4", "R4.8"),
    needs=(Access.KEY, Access.SERVICES),
    parts=("websocket",),
    effects=(Effect.READS, Effect.WRITES),
    time_limit=90,
)

PLACES = ("edge", "gateway")
# Case → status and code of the refusal; 101 is accepted.
CASES: dict[str, tuple[int, str]] = {
    "token as subprotocol": (101, ""),
    "token in the query": (101, ""),
    "own origin": (101, ""),
    "good subprotocol, bad query": (101, ""),
    "bad subprotocol, good query": (401, "TOKEN_INVALID"),
    "no token": (401, "UNAUTHORIZED"),
    "not a token": (401, "TOKEN_INVALID"),
    "bad signature": (401, "TOKEN_INVALID"),
    "alg none": (401, "TOKEN_INVALID"),
    "refresh token": (401, "TOKEN_INVALID"),
    "expired": (401, "TOKEN_EXPIRED"),
    "revoked": (401, "TOKEN_REVOKED"),
    "foreign origin": (403, "ORIGIN_NOT_ALLOWED"),
    "foreign origin, no token": (403, "ORIGIN_NOT_ALLOWED"),
    "other path": (404, "NOT_FOUND"),
}
FOREIGN = "https://evil.example"


def test_only_who_may_connects(trial: Trial) -> None:
    """Each case at each place is accepted or refused as contracted."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Try every case at the edge and at the gateway, controls before and after."""
    keys, http = trial.target.access.keys, trial.target.http
    if keys is None or not http.websocket:
        raise CouldNotObserve("the target file has no [access.keys] or no http.websocket")
    with trial.client() as client:
        session = accounts.register(client, trial.prefix)
        stale = accounts.register(client, trial.prefix)
        accounts.logout(client, stale)
    header, now = accounts.header_of(session.access), int(time.time())
    expired = tokens.sign(
        header, {**session.claims, "iat": now - 1900, "exp": now - 1000}, keys.access.secret
    )
    unsigned = tokens.sign({**header, "alg": "none"}, session.claims, "")
    damaged = session.access[:-2] + ("AA" if not session.access.endswith("AA") else "BB")
    good = session.access
    plans: dict[str, dict[str, Any]] = {
        "token as subprotocol": {"token": good},
        "token in the query": {"token": good, "by_query": True},
        "own origin": {"token": good, "origin": http.origin},
        "good subprotocol, bad query": {"token": good, "suffix": "?token=abc"},
        "bad subprotocol, good query": {"token": "abc", "suffix": f"?token={good}"},
        "no token": {"token": None},
        "not a token": {"token": "abc"},
        "bad signature": {"token": damaged},
        "alg none": {"token": unsigned},
        "refresh token": {"token": session.refresh},
        "expired": {"token": expired},
        "revoked": {"token": stale.access},
        "foreign origin": {"token": good, "origin": FOREIGN},
        "foreign origin, no token": {"token": None, "origin": FOREIGN},
        "other path": {"token": good, "suffix": "/other"},
    }
    places = {
        "edge": http.websocket,
        "gateway": trial.service("gateway").replace("http://", "ws://") + "/ws",
    }
    address = trial.exempt_address() if trial.target.addresses.exempt else None
    seen: dict[str, Any] = {}
    for place, url in places.items():
        trial.progress(f"{len(plans)} handshakes at the {place}")
        answers = {}
        for case, plan in plans.items():
            options = {k: v for k, v in plan.items() if k in ("origin", "by_query")}
            answers[case] = websocket.handshake(
                url + plan.get("suffix", ""),
                plan["token"],
                ca=http.ca,
                address=address,
                **options,
            )
        again = websocket.handshake(url, good, ca=http.ca, address=address)
        seen[place] = {"cases": answers, "after": again}
    return {"places": seen, "user": session.user_id}


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Accepted cases greet their user; refused ones carry status and code."""
    subjects = [f"{place}: {case}" for place in PLACES for case in CASES]
    tally = Tally(subjects)
    for place, seen in evidence["places"].items():
        control = seen["cases"]["token as subprotocol"]
        for answer, when in ((control, "before"), (seen["after"], "after")):
            tally.control(
                f"{place}: a good token connects {when}",
                answer["status"] == 101,
                answer["error"] or answer["status"],
            )
        for case, (status, code) in CASES.items():
            _judge(tally, f"{place}: {case}", seen["cases"][case], status, code, evidence["user"])
    return tally.outcome()


def _judge(
    tally: Tally, subject: str, answer: dict[str, Any], status: int, code: str, user: str
) -> None:
    if status == 101:
        if answer["status"] != 101:
            seen = answer["error"] or f"{answer['status']} {_code(answer)}"
            tally.judge(subject, False, seen=seen, expected="connected")
            return
        message = answer["json"] or {}
        greeting = (message.get("type"), (message.get("payload") or {}).get("userId"))
        tally.equal(subject, greeting, ("connected", user))
        return
    if subject == "edge: other path":  # the edge upgrades no other path; it is a page there (R5.13)
        answered = answer["status"] in (200, 404, 101)
        if not answered:
            tally.unproven(subject, answer["error"] or str(answer["status"]))
        else:
            tally.judge(subject, answer["status"] != 101, seen="upgraded", expected="no upgrade")
        return
    reading = read_refusal(answer, status, (code,))
    if reading is Refusal.CANNOT_TELL:
        tally.unproven(subject, answer["error"] or str(answer["status"]))
        return
    tally.judge(
        subject,
        reading is Refusal.REFUSED,
        seen=f"{answer['status']} {_code(answer)}".strip(),
        expected=f"{status} {code}",
        severity="critical" if answer["status"] == 101 else "major",
    )


def _code(answer: dict[str, Any]) -> str:
    body = answer["json"] if isinstance(answer["json"], dict) else {}
    return str((body.get("error") or {}).get("code", ""))
