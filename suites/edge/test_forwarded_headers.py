"""What a client says about its own address, host and scheme is not believed."""

from __future__ import annotations

import time
import uuid
from typing import Any

import httpx

from harness.criterion import Access, Criterion, Effect
from harness.evidence import Evidence
from harness.probe import CouldNotObserve
from harness.tally import Tally
from harness.thresholds import Limits
from harness.trial import Trial
from harness.verdict import Outcome
from suites.probes import accounts, audit, payments
from suites.probes.accounts import Session

CRITERION = Criterion(
    id="forwarded-headers",
    area="edge",
    statement="Forwarding headers that a client sends MUST be replaced, and the true client "
    "address MUST reach the services.",
    gate="8 header names; the audit row of that request (by correlation id) shows the prober's "
    "address; two addresses give two values",
    rules=("R1.40", "R1.52", "R5.22"),
    needs=(Access.TWO,),
    parts=("payments", "audit-log"),
    effects=(Effect.READS, Effect.WRITES),
    time_limit=90,
)

FORGED_ADDRESS, FORGED_HOST = "203.0.113.77", "forged.invalid"
FORGERIES = {
    "X-Forwarded-For": FORGED_ADDRESS,
    "X-Real-IP": FORGED_ADDRESS,
    "Forwarded": f"for={FORGED_ADDRESS};host={FORGED_HOST};proto=http",
    "X-Forwarded-Host": FORGED_HOST,
    "X-Forwarded-Proto": "http",
    "X-Client-IP": FORGED_ADDRESS,
    "True-Client-IP": FORGED_ADDRESS,
    "CF-Connecting-IP": FORGED_ADDRESS,
}
CONTROL = "no forgery"
PLACES = ("first address", "second address")


def test_forged_forwarding_headers_are_replaced(trial: Trial) -> None:
    """The audit row of each request shows the address it really came from."""
    trial.decide(observe, check)


def observe(trial: Trial) -> dict[str, Any]:
    """Pay with each forged header from two addresses, then read the audit rows."""
    addresses = dict(zip(PLACES, (trial.exempt_address(), trial.fresh_address()), strict=True))
    with trial.client() as client:
        admin = accounts.login_as(trial, client, "admin")
        sender = accounts.register(client, trial.prefix)
        recipient = accounts.register(client, trial.prefix)
    asked: dict[str, dict[str, Any]] = {}
    for place, address in addresses.items():
        trial.progress(f"{len(FORGERIES)} forged headers from the {place}")
        with trial.client(address) as client:
            for name, value in {CONTROL: "", **FORGERIES}.items():
                headers = {name: value} if value else {}
                asked[f"{name} from the {place}"] = {
                    "address": address,
                    **_pay(client, sender, recipient, headers),
                }
    with trial.client() as client:
        _read_back(client, admin, sender, asked)
    return {"asked": asked, "addresses": addresses}


def _pay(
    client: httpx.Client, sender: Session, recipient: Session, forged: dict[str, str]
) -> dict[str, Any]:
    """One payment with a correlation id of its own."""
    correlation = str(uuid.uuid4())
    reply = payments.create(
        client,
        sender,
        recipient.user_id,
        headers={"X-Correlation-ID": correlation, **forged},
    )
    reflected = [
        f"{name}: {value}"
        for name, value in [*reply["headers"], ["body", reply["body"]]]
        if FORGED_ADDRESS in value or FORGED_HOST in value
    ]
    return {
        "status": reply.status,
        "error": reply["error"],
        "correlation": correlation,
        "reflected": reflected,
        "audited": None,
    }


def _read_back(
    client: httpx.Client, admin: Session, sender: Session, asked: dict[str, dict[str, Any]]
) -> None:
    """Put the address of its audit row beside each request; waits at most 10 s (R1.142: 5 s)."""
    wanted = {entry["correlation"] for entry in asked.values() if entry["status"] == 201}
    if not wanted:
        raise CouldNotObserve("no payment was accepted, so there is nothing to read back")
    deadline = time.monotonic() + 10
    while True:
        rows = audit.rows(client, admin, userId=sender.user_id, action="PAYMENT_CREATED")
        seen = {row.get("correlationId"): row.get("ipAddress") for row in rows}
        if wanted <= set(seen) or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    for entry in asked.values():
        entry["audited"] = seen.get(entry["correlation"])


def check(evidence: Evidence, limits: Limits) -> Outcome:
    """Each row shows the true address; nothing forged comes back; two addresses differ."""
    names = [f"{name} from the {place}" for place in PLACES for name in (CONTROL, *FORGERIES)]
    tally = Tally([*names, "two addresses give two values"])
    tally.enough("forged header names", len(FORGERIES), limits["headers"])
    for name, entry in evidence["asked"].items():
        if entry["status"] != 201:
            tally.unproven(name, f"the payment was answered {entry['error'] or entry['status']}")
            continue
        if entry["audited"] is None:
            tally.unproven(name, "no audit row with the request's correlation id within 10 s")
            continue
        tally.equal(name, entry["audited"], entry["address"], place=f"audit row, {name}")
        tally.equal(name, entry["reflected"], [], place=f"answer, {name}")
    plain = {place: evidence["asked"][f"{CONTROL} from the {place}"]["audited"] for place in PLACES}
    if None not in plain.values():
        tally.judge(
            "two addresses give two values",
            len(set(plain.values())) == len(PLACES),
            seen=plain,
            expected="the two addresses asked from",
        )
    return tally.outcome()
