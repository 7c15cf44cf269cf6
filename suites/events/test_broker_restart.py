"""Accepted writes survive an outage of the broker, and everybody comes back by himself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve, exchange, http_client
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import accounts, audit, broker, diagnostics, faults, payments
from suites.probes.accounts import Session
from suites.probes.diagnostics import SERVICES, queue_of

CRITERION = Criterion(
    id="broker-restart",
    area="events",
    statement="Accepted writes and queued messages MUST survive a broker restart and a 20 s "
    "outage; publishers and consumers MUST come back by themselves.",
    gate="at least 200 writes accepted before, during and after, and more while the broker goes "
    "down with messages queued, in retry and dead; broker proven down ≥ 20 s; 0 lost; flowing "
    "≤ 15 s after; the same where the target lets everybody be cut off from the broker in "
    "silence, and 200 writes over ways that lose 5 % of all packets",
    rules=("R3.20", "R3.21", "R3.51", "R1.113", "R11.12"),
    needs=(Access.CONTROL, Access.AMQP, Access.DIAG),
    parts=("payments", "audit-log", "rabbitmq"),
    effects=(Effect.READS, Effect.WRITES, Effect.DISRUPTS),
    time_limit=420,
)

PHASES = ("before", "going down", "during", "after")
# Where the target offers it: everybody's way to the broker is cut, heals, and loses packets.
FAULT_PHASES = ("cut off", "healed", "lossy")
PROGRAMS = (*SERVICES, "gateway")
WAYS = tuple((program, "rabbitmq") for program in PROGRAMS)
# Where messages lie at the moment the broker stops (R11.12).
PLACES = ("queued", "in retry", "dead")
QUEUES = tuple(map(queue_of, SERVICES))
FROZEN = "profile"  # whose queue fills
FAILING = tuple(service for service in SERVICES if service != FROZEN)
WRITERS = 2
PAUSE_SECONDS = 0.02  # between two writes of one writer: the backlog is to flow, not to be drained
FROZEN_SECONDS = 1.0


def test_writes_survive_the_broker(trial: Trial) -> None:
    """Payments of all phases end in the audit log, each once; messages end where they belong."""
    # An outage of 20 s disturbs everybody, and a lost write stays lost: once is enough.
    trial.decide(observe, check, confirm=False)


def observe(trial: Trial) -> dict[str, Any]:
    """Write, stop the broker with messages everywhere, write on, start it and write on."""
    amqp = broker.access(trial.target)
    nonce = diagnostics.new_nonce()
    for service in SERVICES:
        diagnostics.read(trial, service, nonce)  # reachable, or told before anything is disturbed
    limits = trial.limits
    with trial.client(timeout=30) as client:
        admin = accounts.login_as(trial, client, "admin")
        sender = accounts.register(client, trial.prefix)
        recipient = accounts.register(client, trial.prefix)

        def write(number: int) -> list[str]:
            replies = (payments.create(client, sender, recipient.user_id) for _ in range(number))
            return [r["json"]["data"]["id"] for r in replies if r.status == 201]

        accepted = {"before": write(limits["writes"])}
        if not accepted["before"]:
            raise CouldNotObserve("no payment was accepted before anything was disturbed")
        broker.wait_for_consumers(amqp, QUEUES, 20.0)
        trial.control(FROZEN, "pause")
        try:
            dead_before = broker.queue_depth(amqp, "events.dlq")
            sent = _fill(amqp, nonce, limits["messages"])
            with _writing(trial, sender, recipient) as going:
                lying = _lying(amqp, dead_before, limits["messages"])
                trial.progress("broker frozen, then stopped")
                # Frozen first: what writers publish now is on its way and never confirmed.
                trial.control("rabbitmq", "pause")
                time.sleep(FROZEN_SECONDS)
                trial.control("rabbitmq", "stop")
                stopped = time.monotonic()
        finally:
            trial.control(FROZEN, "resume")
        accepted["going down"] = going.accepted
        try:
            accepted["during"] = write(limits["writes"])
            down = [_broker_answers(amqp)]
            while time.monotonic() - stopped < limits["outage_seconds"]:
                time.sleep(0.5)  # the outage itself
                down.append(_broker_answers(amqp))
            outage = time.monotonic() - stopped
        finally:
            trial.control("rabbitmq", "start")
        _wait_for_broker(amqp)
        returned = time.monotonic()
        trial.progress("broker is back")
        back = broker.wait_for_consumers(amqp, QUEUES, 45.0) is not None
        consuming = round(time.monotonic() - returned, 2) if back else None
        flowing = _flowing(client, admin, sender, accepted["during"], returned)
        accepted["after"] = write(limits["writes"])
        counts = _audited(client, admin, sender, accepted, 30.0)
        arrived = _arrived(trial, nonce, sent, 30.0)
        arrived["dead"] = len(diagnostics.take_dead_letters(amqp, nonce, 5.0, sent["dead"]))

        cut: dict[str, Any] = {}
        disturbed: dict[str, list[str]] = {}
        if faults.offered(trial, WAYS, "cut"):
            trial.progress("everybody is cut off from the broker")
            with faults.on_all(trial, WAYS, "cut"):
                began = time.monotonic()
                disturbed["cut off"] = write(limits["writes"])
                cut["connected"] = _connected(trial)
                # The outage itself: between two of TCP's own repeats (thresholds.toml).
                time.sleep(max(0.0, began + limits["cut_seconds"] - time.monotonic()))
                cut["seconds"] = round(time.monotonic() - began, 1)
            healed = time.monotonic()
            cut["flowing"] = _flowing(client, admin, sender, disturbed["cut off"], healed)
            disturbed["healed"] = write(limits["writes"])
        if faults.offered(trial, WAYS, "lose"):
            trial.progress("everybody's way to the broker loses packets")
            with faults.on_all(trial, WAYS, "lose", limits["lost_percent"]):
                disturbed["lossy"] = write(limits["writes"])
                counts |= _audited(client, admin, sender, disturbed, 30.0)
        accepted |= disturbed
        counts |= _audited(client, admin, sender, disturbed, 30.0)
    return {
        "accepted": {phase: len(ids) for phase, ids in accepted.items()},
        "refused_going_down": going.refused,
        "answers_while_down": sum(down),
        "outage_seconds": round(outage, 1),
        "consuming_seconds": consuming,
        "flowing_seconds": flowing,
        "audited": counts,
        "messages": {
            place: {"sent": sent[place], "lying": lying[place], "arrived": arrived[place]}
            for place in PLACES
        },
        "cut": cut,
        "uptimes": _uptimes(trial),
    }


def _fill(amqp: Any, nonce: str, number: int) -> dict[str, int]:
    """Put messages where the stop is to find them; how many must arrive, by place.

    The frozen service's queue takes ``number`` and keeps all but a prefetch (R3.44); each other
    service fails ``number`` for about seven seconds (R3.46); malformed ones die at once (R3.48),
    a copy for each queue whose consumer runs, the frozen one's when it runs again.
    """
    with broker.channel(amqp) as channel:
        channel.confirm_delivery()
        for seq in range(number):
            body = f"{{nonce: {nonce}-{seq}".encode()
            broker.publish(
                channel,
                amqp.exchange,
                diagnostics.EVERY_QUEUE,
                body,
                message_id=f"{nonce}-dead-{seq}",
            )
        for seq in range(number):
            diagnostics.publish_probe(channel, amqp, f"{nonce}-queued", seq)
        for service in FAILING:
            for seq in range(number):
                diagnostics.publish_probe(
                    channel,
                    amqp,
                    f"{nonce}-{service}",
                    seq,
                    fail_times=3,
                    fail_queue=queue_of(service),
                )
    return {
        "queued": number * len(SERVICES),
        "in retry": number * len(FAILING),
        "dead": number * len(SERVICES),
    }


def _lying(amqp: Any, dead_before: int, number: int) -> dict[str, int]:
    """How many messages lie in each place now; waits until they are there, 5 s at most."""
    deadline = time.monotonic() + 5.0
    while True:
        lying = {
            "queued": broker.queue_depth(amqp, queue_of(FROZEN)),
            "in retry": sum(
                broker.queue_depth(amqp, f"{service}.events.retry.{level}")
                for service in FAILING
                for level in (1, 2, 3)
            ),
            "dead": broker.queue_depth(amqp, "events.dlq") - dead_before,
        }
        if all(found >= number for found in lying.values()) or time.monotonic() > deadline:
            return lying
        time.sleep(0.05)


class _Writers:
    """What writers got accepted, and what they were refused, while something happened."""

    def __init__(self) -> None:
        self.accepted: list[str] = []
        self.refused: list[str] = []
        self.stop = threading.Event()

    def write(self, client: httpx.Client, sender: Session, recipient: Session) -> None:
        while not self.stop.wait(PAUSE_SECONDS):
            reply = payments.create(client, sender, recipient.user_id)
            if reply.status == 201:
                self.accepted.append(reply["json"]["data"]["id"])
            else:
                self.refused.append(reply["error"] or f"{reply.status} {reply.code}".strip())


@contextmanager
def _writing(trial: Trial, sender: Session, recipient: Session) -> Iterator[_Writers]:
    """Several clients write without a pause until the block ends."""
    writers = _Writers()
    clients = [trial.client(timeout=30) for _ in range(WRITERS)]
    threads = [
        threading.Thread(target=writers.write, args=(client, sender, recipient))
        for client in clients
    ]
    try:
        for thread in threads:
            thread.start()
        yield writers
    finally:
        writers.stop.set()
        for thread in threads:
            thread.join()
        for client in clients:
            client.close()


def _arrived(trial: Trial, nonce: str, sent: dict[str, int], seconds: float) -> dict[str, int]:
    """How many probes took effect where they were sent; waits for all of them."""
    deadline = time.monotonic() + seconds
    while True:
        arrived = {
            "queued": sum(_done(trial, service, f"{nonce}-queued") for service in SERVICES),
            "in retry": sum(_done(trial, service, f"{nonce}-{service}") for service in FAILING),
        }
        if all(arrived[place] >= sent[place] for place in arrived) or time.monotonic() > deadline:
            return arrived
        time.sleep(0.5)


def _done(trial: Trial, service: str, nonce: str) -> int:
    return sum(bool(probe["processedAt"]) for probe in diagnostics.read(trial, service, nonce))


def _broker_answers(amqp: Any) -> bool:
    try:
        with broker.channel(amqp):
            return True
    except CouldNotObserve:
        return False


def _wait_for_broker(amqp: Any) -> None:
    deadline = time.monotonic() + 60
    while not _broker_answers(amqp):
        if time.monotonic() > deadline:
            raise CouldNotObserve("the broker did not come back in 60 s after its start")
        time.sleep(0.25)


def _flowing(
    client: httpx.Client, admin: Session, sender: Session, held: list[str], returned: float
) -> float | None:
    """Seconds from the broker's return until a write of the outage stands in the audit log."""
    query = f"userId={sender.user_id}&action=PAYMENT_CREATED&limit=100"
    while time.monotonic() - returned < 45:
        seen = exchange(client, "GET", f"/api/admin/audit-logs?{query}", headers=admin.headers)
        data = seen["json"].get("data") if isinstance(seen["json"], dict) else None
        rows = data.get("auditLogs", []) if isinstance(data, dict) else []
        if any(row["resourceId"] in held for row in rows):
            return round(time.monotonic() - returned, 2)
        time.sleep(0.2)
    return None


def _audited(
    client: httpx.Client,
    admin: Session,
    sender: Session,
    accepted: dict[str, list[str]],
    seconds: float,
) -> dict[str, dict[str, int]]:
    """Per phase: how many payments stand in the audit log never, once, more often."""
    deadline = time.monotonic() + seconds
    while True:
        rows = audit.rows(client, admin, userId=sender.user_id, action="PAYMENT_CREATED")
        found = audit.acts(rows)
        counts = {
            phase: {
                "never": sum(found[f"PAYMENT_CREATED {id}"] == 0 for id in ids),
                "once": sum(found[f"PAYMENT_CREATED {id}"] == 1 for id in ids),
                "more": sum(found[f"PAYMENT_CREATED {id}"] > 1 for id in ids),
            }
            for phase, ids in accepted.items()
        }
        if not any(count["never"] for count in counts.values()) or time.monotonic() > deadline:
            return counts
        time.sleep(0.5)


def _connected(trial: Trial) -> list[str]:
    """Who says that the broker is up; nobody can while all are cut off."""
    connected = []
    for name in PROGRAMS:
        for url in trial.members(name):
            with http_client(url) as client:
                body = exchange(client, "GET", "/health/ready")["json"] or {}
            checks = (body.get("data") or {}).get("checks") or {}
            if (checks.get("rabbitmq") or {}).get("status") != "down":
                connected.append(url)
    return connected


def _uptimes(trial: Trial) -> dict[str, float]:
    """Seconds each member of each service has been up: shows that nobody had to be restarted."""
    uptimes: dict[str, float] = {}
    for name in PROGRAMS:
        if name not in trial.target.services:
            continue
        for number, url in enumerate(trial.members(name), 1):
            with http_client(url) as client:
                body = exchange(client, "GET", "/health")["json"] or {}
            key = name if number == 1 else f"{name}-{number}"
            uptimes[key] = float((body.get("data") or {}).get("uptime", 0.0))
    return uptimes


_PLACE = {
    "before": "writes before the outage",
    "going down": "writes while the broker went down",
    "during": "writes during the outage",
    "after": "writes after the outage",
    "cut off": "writes while all were cut off",
    "healed": "writes after the cut",
    "lossy": "writes while packets got lost",
}


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Everything accepted or queued arrives; the outage was one; events flow again in time."""
    disturbed = [phase for phase in FAULT_PHASES if phase in evidence["accepted"]]
    phases = [*PHASES, *disturbed]
    tally = Tally([*phases, *PLACES, "flowing again", "consumers are back", "nobody restarted"])
    outage = evidence["outage_seconds"]
    tally.control(
        f"the broker was down for {limits['outage_seconds']} s",
        evidence["answers_while_down"] == 0 and outage >= limits["outage_seconds"],
        f"{evidence['answers_while_down']} answers in {outage} s",
    )
    for phase in phases:
        number = evidence["accepted"][phase]
        writes = _PLACE[phase]
        if phase == "going down":
            refused = evidence["refused_going_down"]
            tally.equal(phase, refused, [], place=f"{writes} that were refused")
            tally.enough("accepted going down", number, limits["going_down_writes"])
        else:
            tally.judge(
                phase,
                number >= limits["writes"],
                seen=f"{number} of {limits['writes']} writes accepted",
                expected="all of them: a write needs no broker",
                place=writes,
            )
            tally.figure(f"accepted {phase}", number, limit=limits["writes"], bound="lower")
        counts = evidence["audited"][phase]
        tally.equal(phase, counts["never"], 0, place=f"{writes} that were lost")
        tally.equal(phase, counts["more"], 0, place=f"{writes} seen twice")
    for place in PLACES:
        found = evidence["messages"][place]
        tally.enough(f"{place} when the broker stopped", found["lying"], limits["messages"])
        tally.equal(place, found["arrived"], found["sent"], place=f"messages {place}, arrived")
    _judge_flowing(
        tally, limits, "flowing again", "the broker's return", evidence["flowing_seconds"]
    )
    if cut := evidence.get("cut"):
        tally.control(
            f"everybody was cut off from the broker for {limits['cut_seconds']} s",
            not cut["connected"] and cut["seconds"] >= limits["cut_seconds"],
            f"{cut['connected']} not, after {cut['seconds']} s",
        )
        _judge_flowing(tally, limits, "flowing after the cut", "its end", cut["flowing"])
    consuming = evidence["consuming_seconds"]
    tally.judge(
        "consumers are back",
        consuming is not None and consuming <= limits["flowing_seconds"],
        seen=f"{consuming} s" if consuming is not None else "not in 45 s",
        expected=f"every service's queue within {limits['flowing_seconds']} s",
    )
    young = {name: up for name, up in evidence["uptimes"].items() if up < outage}
    tally.equal("nobody restarted", young, {}, place="services younger than the outage")
    tally.figure("outage", outage, "s")
    tally.figure("phases with a disturbed network", len(disturbed))
    return tally.outcome()


def _judge_flowing(
    tally: Tally, limits: Limits, subject: str, since: str, seconds: float | None
) -> None:
    """A write of the outage is in the audit log in time."""
    tally.judge(
        subject,
        seconds is not None and seconds <= limits["flowing_seconds"],
        seen=f"{seconds} s" if seconds is not None else "not in 45 s",
        expected=f"within {limits['flowing_seconds']} s of {since}",
    )
    tally.figure(
        subject, 45.0 if seconds is None else seconds, "s", limit=limits["flowing_seconds"]
    )
