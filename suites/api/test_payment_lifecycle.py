"""A payment moves only along the contracted transitions, and only for whom the contract names."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import httpx

from harness.criterion import Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve, Exchange, error_code, exchange
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import accounts, payments
from suites.probes.accounts import Session

CRITERION = Criterion(
    id="payment-lifecycle",
    area="api",
    statement="A payment MUST change its state only as contracted: every allowed transition works "
    "and leaves its trace, every other is refused and changes nothing.",
    gate="every pair of states for ADMIN, sender, recipient and stranger; read back after each",
    rules=("R1.100", "R1.107", "R1.108", "R1.115", "R1.117", "R1.119"),
    parts=("payments",),
    effects=(Effect.READS, Effect.WRITES),
    time_limit=180,
)

STATES = ("pending", "processing", "completed", "failed", "cancelled")
ACTORS = ("admin", "sender", "recipient", "stranger")
# How an ADMIN brings a new payment into each state.
WAY = {
    "pending": (),
    "processing": ("processing",),
    "completed": ("processing", "completed"),
    "failed": ("processing", "failed"),
    "cancelled": ("cancelled",),
}
ALLOWED = {
    ("pending", "processing"): ("admin",),
    ("pending", "cancelled"): ("admin", "sender"),
    ("processing", "completed"): ("admin",),
    ("processing", "failed"): ("admin",),
}
EDGES = (
    "unknown id is 404",
    "malformed id is 400",
    "unknown state is 400",
    "no token is 401",
    "stranger reads 403",
    "there is no DELETE",
)


def expected_answer(start: str, to: str, actor: str) -> tuple[int, str]:
    """What R1.115–R1.117 ask for: rights are judged before the state (R1.17)."""
    may = {"admin": True, "sender": to == "cancelled"}.get(actor, False)
    if not may:
        return 403, "FORBIDDEN"
    if actor in ALLOWED.get((start, to), ()):
        return 200, ""
    return 409, "INVALID_STATUS_TRANSITION"


def _subject(start: str, to: str, actor: str) -> str:
    return f"{start} → {to} by {actor}"


def test_payments_move_only_as_contracted(trial: Trial) -> None:
    """Every pair of states, by everybody."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """For each start, goal and actor: make a payment, ask, and read it back."""
    tries: dict[str, Any] = {}
    with trial.client() as client:
        people = {
            "admin": accounts.login_as(trial, client, "admin"),
            **{who: accounts.register(client, trial.prefix) for who in ACTORS[1:]},
        }
        for start in STATES:
            trial.progress(f"from {start}")
            refused_on: str | None = None
            for to in STATES:
                for actor in reversed(ACTORS):
                    # A payment whose last transition was refused is still in its state.
                    payment = refused_on or _bring(client, people, start)
                    seen = _ask(client, people, payment, to, actor)
                    tries[_subject(start, to, actor)] = seen
                    refused_on = payment if seen["after"] == start else None
        edges = _edges(client, people)
    return {"tries": tries, "edges": edges}


def _bring(client: httpx.Client, people: Mapping[str, Session], state: str) -> str:
    """A new payment in a state; raises CouldNotObserve when it cannot be brought there."""
    payment = payments.create_id(client, people["sender"], people["recipient"].user_id)
    for step in WAY[state]:
        reply = payments.change_status(client, people["admin"], payment, step)
        if reply.status != 200:
            raise CouldNotObserve(
                f"bring a payment to {state}: step {step} was answered "
                f"{reply['error'] or reply.status} {reply.code}"
            )
    return payment


def _ask(
    client: httpx.Client, people: Mapping[str, Session], payment: str, to: str, actor: str
) -> dict[str, Any]:
    reply = payments.change_status(client, people[actor], payment, to, reason="trial reason")
    after = payments.get(client, people["admin"], payment, fresh=True)
    data = _data(after)
    steps = data.get("transactions") or []
    return {
        "status": reply.status,
        "code": reply.code,
        "error": reply["error"],
        "details": _error(reply).get("details"),
        "answered_state": _data(reply).get("status"),
        "after": data.get("status"),
        "completed_at": data.get("completedAt") is not None,
        "failure_reason": data.get("failureReason"),
        "transactions": [step.get("status") for step in steps],
    }


def _edges(client: httpx.Client, people: Mapping[str, Session]) -> dict[str, Any]:
    admin = people["admin"]
    payment = _bring(client, people, "pending")
    path = f"/api/payments/{payment}"
    replies = {
        "unknown id is 404": payments.change_status(client, admin, str(uuid.uuid4()), "cancelled"),
        "malformed id is 400": payments.change_status(client, admin, "not-a-uuid", "cancelled"),
        "unknown state is 400": payments.change_status(client, admin, payment, "paid"),
        "no token is 401": exchange(client, "GET", path),
        "stranger reads 403": payments.get(client, people["stranger"], payment),
        "there is no DELETE": exchange(client, "DELETE", path, headers=admin.headers),
    }
    control = payments.get(client, people["sender"], payment)
    return {
        "replies": {
            name: {"status": r.status, "code": error_code(r), "error": r["error"]}
            for name, r in replies.items()
        },
        "control": control.status,
    }


def _data(reply: Exchange) -> dict[str, Any]:
    body = reply["json"] if isinstance(reply["json"], dict) else {}
    data = body.get("data")
    return data if isinstance(data, dict) else {}


def _error(reply: Exchange) -> dict[str, Any]:
    body = reply["json"] if isinstance(reply["json"], dict) else {}
    error = body.get("error")
    return error if isinstance(error, dict) else {}


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Each answer as expected, and the payment afterwards as the answer promised."""
    pairs = [(s, t, a) for s in STATES for t in STATES for a in ACTORS]
    tally = Tally([*(_subject(*pair) for pair in pairs), *EDGES])
    for start, to, actor in pairs:
        subject = _subject(start, to, actor)
        seen = evidence["tries"].get(subject)
        if seen is not None:
            _judge(tally, subject, start, to, actor, seen)
    codes = {
        "unknown id is 404": (404, "PAYMENT_NOT_FOUND"),
        "malformed id is 400": (400, "VALIDATION_ERROR"),
        "unknown state is 400": (400, "VALIDATION_ERROR"),
        "no token is 401": (401, "UNAUTHORIZED"),
        "stranger reads 403": (403, "FORBIDDEN"),
        "there is no DELETE": (404, "NOT_FOUND"),
    }
    tally.control("the sender reads the payment", evidence["edges"]["control"] == 200, evidence)
    for subject, (status, code) in codes.items():
        answer = evidence["edges"]["replies"][subject]
        if _cannot_tell(answer):
            tally.unproven(subject, answer["error"] or str(answer["status"]))
        else:
            tally.equal(subject, f"{answer['status']} {answer['code']}", f"{status} {code}")
    return tally.outcome()


def _cannot_tell(answer: Mapping[str, Any]) -> bool:
    return bool(answer["status"] in (0, 429) or answer["status"] >= 500)


def _judge(
    tally: Tally, subject: str, start: str, to: str, actor: str, seen: Mapping[str, Any]
) -> None:
    if _cannot_tell(seen):
        tally.unproven(subject, seen["error"] or f"{seen['status']} {seen['code']}")
        return
    status, code = expected_answer(start, to, actor)
    tally.equal(subject, f"{seen['status']} {seen['code']}".strip(), f"{status} {code}".strip())
    if status != 200:
        tally.equal(subject, seen["after"], start, place=f"{subject}: state afterwards")
        if status == 409:
            tally.equal(subject, seen["details"], {"from": start, "to": to})
        return
    tally.equal(subject, (seen["answered_state"], seen["after"]), (to, to))
    tally.equal(
        subject, seen["transactions"], ["pending", *WAY[start], to], place=f"{subject}: trace"
    )
    tally.equal(subject, seen["completed_at"], to == "completed", place=f"{subject}: completedAt")
    reason = "trial reason" if to == "failed" else None
    tally.equal(subject, seen["failure_reason"], reason, place=f"{subject}: failureReason")
