"""Every accepted write becomes exactly one event, and every event is consumed once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import Exchange
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import accounts, administration, audit, broker, payments, writers
from suites.probes.accounts import Session
from suites.probes.broker import EventObserver

CRITERION = Criterion(
    id="event-delivery",
    area="events",
    statement="Every accepted write MUST become exactly one event, consumed once by each consumer "
    "or found in the DLQ.",
    gate="at least 3,000 accepted writes over all event types; 0 lost, 0 unexplained",
    rules=("R3.16", "R3.23", "R3.28", "R3.31", "R3.34", "R3.43", "R3.44"),
    needs=(Access.AMQP,),
    parts=("payments", "audit-log"),
    effects=(Effect.READS, Effect.WRITES, Effect.LOADS),
    time_limit=420,
)

QUEUES = tuple(f"{s}.events.queue" for s in ("auth", "payments", "admin", "profile"))
# Type → (audit action, part it needs).
TYPES = {
    "user.created": ("USER_REGISTERED", "auth"),
    "user.login": ("USER_LOGIN", "auth"),
    "user.login_failed": ("USER_LOGIN_FAILED", "auth"),
    "user.logout": ("USER_LOGOUT", "auth"),
    "payment.created": ("PAYMENT_CREATED", "payments"),
    "payment.updated": ("PAYMENT_UPDATED", "payments"),
    "payment.completed": ("PAYMENT_COMPLETED", "payments"),
    "payment.failed": ("PAYMENT_FAILED", "payments"),
    "payment.cancelled": ("PAYMENT_CANCELLED", "payments"),
    "user.updated": ("USER_UPDATED", "admin-users"),
    "user.role_changed": ("USER_ROLE_CHANGED", "admin-users"),
    "user.status_changed": ("USER_STATUS_CHANGED", "admin-users"),
    "user.deleted": ("USER_DELETED", "admin-users"),
    "user.password_changed": ("USER_PASSWORD_CHANGED", "password-change"),
    "profile.updated": ("PROFILE_UPDATED", "profile-api"),
    "secrets.rotated": ("SECRETS_ROTATED", "key-rotation"),
}
# The final state of each fourth payment, and the writes on the way there.
WAYS = (
    ("processing", "completed"),
    ("cancelled",),
    ("processing", "failed"),
    ("processing", "completed"),
)
EVENT_OF = {"processing": "payment.updated"}
PEOPLE = 20
LIVES = 10


def test_every_write_becomes_one_event(trial: Trial) -> None:
    """Writes, events on the exchange and audit rows are the same set."""
    # 3,000 writes take half a minute; a lost event stays lost, so a second look adds nothing.
    trial.decide(observe, check, confirm=False)


def observe(trial: Trial) -> dict[str, Any]:
    """Write thousands of times while all events are watched, then read the audit log."""
    amqp = broker.access(trial.target)
    dead_before = broker.queue_depth(amqp, "events.dlq")
    with EventObserver(amqp) as observer, trial.client() as client:
        admin = accounts.login_as(trial, client, "admin")
        accepted: Counter[str] = Counter()
        people = _auth_writes(client, trial.prefix, accepted)
        people += _account_writes(trial, client, admin, accepted)
        count = trial.limits["payments"]
        trial.progress(f"{count} payments and their way through the states")

        def one_payment(client: httpx.Client, number: int) -> list[str]:
            sender, recipient = people[number % PEOPLE], people[(number + 1) % PEOPLE]
            return _payment_writes(client, admin, sender, recipient, number)

        for acts in writers.in_parallel(trial, range(count), one_payment):
            accepted.update(acts)
        trial.progress(f"{accepted.total()} writes accepted; waiting for the queues")
        drained = _wait_until_drained(amqp, observer, accepted.total(), trial.limits["seconds"])
    with trial.client() as client:
        known = {p.user_id for p in people} | {act.split(" ")[1] for act in accepted}
        logged = _audited(client, admin, people, accepted, trial.limits["seconds"])
    return {
        "accepted": dict(accepted),
        "published": dict(_published(observer, known)),
        "event_ids": len(observer.ids()),
        "events": len(observer.events),
        "audited": {act: number for act, number in logged.items() if act in _as_audit(accepted)},
        "drained": drained,
        "dead_letters": broker.queue_depth(amqp, "events.dlq") - dead_before,
        "absent": {t: why for t, (_, part) in TYPES.items() if (why := trial.target.absence(part))},
    }


def _auth_writes(client: httpx.Client, prefix: str, accepted: Counter[str]) -> list[Session]:
    """Register, fail to log in, log in, log out: each person once."""
    people = []
    for _ in range(PEOPLE):
        person = accounts.register(client, prefix)
        accepted[f"user.created {person.user_id}"] += 1
        wrong = client.post("/api/auth/login", json={"email": person.email, "password": "wrong"})
        if wrong.status_code == 401:
            accepted[f"user.login_failed {person.user_id}"] += 1
        second = accounts.login(client, person.email)
        accepted[f"user.login {person.user_id}"] += 1
        if accounts.logout(client, second).status == 200:
            accepted[f"user.logout {person.user_id}"] += 1
        people.append(person)
    return people


def _account_writes(
    trial: Trial, client: httpx.Client, admin: Session, accepted: Counter[str]
) -> list[Session]:
    """Lives of people who are changed and deleted, and one rotation; what is absent is left out."""
    lives = []
    for _ in range(LIVES):
        person = accounts.register(client, trial.prefix)
        accepted[f"user.created {person.user_id}"] += 1
        for kind, act in _life(client, admin, person).items():
            if trial.target.absence(TYPES[kind][1]) is None and act().status in (200, 204):
                accepted[f"{kind} {person.user_id}"] += 1
        lives.append(person)
    if trial.target.absence(TYPES["secrets.rotated"][1]) is None:
        # The refresh key: whoever holds the target file signs access tokens with the present one.
        kid = administration.rotate_keys(client, admin, "refresh")
        accepted[f"secrets.rotated {kid}"] += 1
    return lives


def _life(
    client: httpx.Client, admin: Session, person: Session
) -> dict[str, Callable[[], Exchange]]:
    """Event → the act that causes it, in an order in which each one is possible."""
    who, new = person.user_id, accounts.PASSWORD + "2"
    return {
        "profile.updated": lambda: administration.update_profile(client, person, "trial"),
        "user.updated": lambda: administration.rename(client, admin, who, "Trial Renamed"),
        "user.password_changed": lambda: administration.change_password(
            client, person, accounts.PASSWORD, new
        ),
        "user.role_changed": lambda: administration.change_role(client, admin, who, "VENDOR"),
        "user.status_changed": lambda: administration.change_status(client, admin, who, False),
        "user.deleted": lambda: administration.delete(client, admin, who),
    }


def _payment_writes(
    client: httpx.Client, admin: Session, sender: Session, recipient: Session, number: int
) -> list[str]:
    """Create a payment and walk it through its states; the acts that were accepted."""
    created = payments.create(client, sender, recipient.user_id, description=f"no. {number}")
    if created.status != 201:
        return []
    payment = created["json"]["data"]["id"]
    done = [f"payment.created {payment}"]
    for state in WAYS[number % len(WAYS)]:
        if payments.change_status(client, admin, payment, state).status == 200:
            done.append(f"{EVENT_OF.get(state, f'payment.{state}')} {payment}")
    return done


def _published(observer: EventObserver, known: set[str]) -> Counter[str]:
    """How often each act of ours was seen on the exchange, by distinct event id."""
    seen: dict[str, str] = {}
    for _, _, event in observer.events:
        data = event.get("data") or {}
        subject = data.get("paymentId") or data.get("userId") or data.get("newKid")
        if event.get("type") in TYPES and subject in known:
            seen[str(event["id"])] = f"{event['type']} {subject}"
    return Counter(seen.values())


def _as_audit(acts: Counter[str]) -> dict[str, str]:
    """Audit act → the event it stands for."""
    pairs = ((act, *act.split(" ", 1)) for act in acts)
    return {f"{TYPES[kind][0]} {subject}": act for act, kind, subject in pairs}


def _wait_until_drained(
    amqp: Any, observer: EventObserver, wanted: int, seconds: float
) -> dict[str, Any]:
    started = time.monotonic()
    depths: dict[str, int] = {}
    while time.monotonic() - started < seconds:
        depths = {queue: broker.queue_depth(amqp, queue) for queue in QUEUES}
        if len(observer.ids()) >= wanted and not any(depths.values()):
            break
        time.sleep(0.25)
    return {"seconds": round(time.monotonic() - started, 2), "depths": depths}


def _audited(
    client: httpx.Client,
    admin: Session,
    people: list[Session],
    accepted: Counter[str],
    seconds: float,
) -> Counter[str]:
    """The audit rows of our acts; waits until all are there or the time is over."""
    wanted = set(_as_audit(accepted))
    deadline = time.monotonic() + seconds
    while True:
        found: Counter[str] = Counter()
        for person in people:
            found.update(audit.acts(audit.rows(client, admin, userId=person.user_id)))
        found.update(audit.acts(audit.rows(client, admin, userId=admin.user_id)))
        # A failed login was acted by nobody the log can name, so its row stands under no user.
        failed = audit.acts(audit.rows(client, admin, action="USER_LOGIN_FAILED"))
        found.update({act: number for act, number in failed.items() if act not in found})
        if wanted <= set(found) or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Accepted, published and audited are equal, act by act; nothing died, nothing waits."""
    tally = Tally([*TYPES, "queues drained", "no dead letters"])
    tally.absences(evidence["absent"])
    accepted: dict[str, int] = evidence["accepted"]
    total = sum(accepted.values())
    tally.enough("accepted writes", total, limits["writes"])
    counts: Counter[str] = Counter()
    for act, number in accepted.items():
        counts[act.split(" ")[0]] += number
        kind, subject = act.split(" ", 1)
        published = evidence["published"].get(act, 0)
        tally.equal(kind, published, number, place=f"events on the exchange for {act}")
        audited = evidence["audited"].get(f"{TYPES[kind][0]} {subject}", 0)
        tally.equal(kind, audited, number, place=f"audit rows for {act}")
    surplus = {act: n for act, n in evidence["published"].items() if act not in accepted}
    for act, number in surplus.items():
        tally.equal(act.split(" ")[0], number, 0, place=f"events nobody caused: {act}")
    waiting = {q: n for q, n in evidence["drained"]["depths"].items() if n}
    tally.equal("queues drained", waiting, {}, place="messages left in the queues")
    tally.equal("no dead letters", evidence["dead_letters"], 0, place="new dead letters")
    for kind, number in sorted(counts.items()):
        tally.figure(kind, number)
    tally.figure("drained after", evidence["drained"]["seconds"], "s")
    return tally.outcome(passed=f"{total} accepted writes, none lost")
