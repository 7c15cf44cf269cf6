"""Payments as a probe makes and reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from harness.probe import CouldNotObserve, Exchange, exchange
from suites.probes.accounts import Session


def create(
    client: httpx.Client,
    sender: Session,
    recipient_id: str,
    *,
    amount: str = "10.50",
    description: str = "trial",
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    **fields: Any,
) -> Exchange:
    """Create a payment; returns the exchange whatever was answered."""
    sent = {**sender.headers, **({"Idempotency-Key": key} if key else {}), **(headers or {})}
    body = {
        "type": "instant",
        "amount": amount,
        "currency": "USD",
        "description": description,
        "recipientId": recipient_id,
        **fields,
    }
    return exchange(client, "POST", "/api/payments", headers=sent, json=body)


def create_id(client: httpx.Client, sender: Session, recipient_id: str, **fields: Any) -> str:
    """Create a payment and give its id.

    Raises:
        CouldNotObserve: it was not answered 201 with an id.
    """
    reply = create(client, sender, recipient_id, **fields)
    data = reply["json"].get("data") if isinstance(reply["json"], dict) else None
    if reply.status != 201 or not isinstance(data, dict) or "id" not in data:
        seen = reply["error"] or f"{reply.status} {reply.code}".strip()
        raise CouldNotObserve(f"create payment: seen {seen}, expected 201 with an id")
    return str(data["id"])


def get(
    client: httpx.Client, session: Session, payment_id: str, *, fresh: bool = False
) -> Exchange:
    """Read one payment; ``fresh`` goes past the cache."""
    headers = {**session.headers, **({"Cache-Control": "no-cache"} if fresh else {})}
    return exchange(client, "GET", f"/api/payments/{payment_id}", headers=headers)


def change_status(
    client: httpx.Client, session: Session, payment_id: str, status: str, reason: str = "trial"
) -> Exchange:
    """Ask for another state of a payment."""
    return exchange(
        client,
        "PATCH",
        f"/api/payments/{payment_id}/status",
        headers=session.headers,
        json={"status": status, "reason": reason},
    )


def all_of(client: httpx.Client, session: Session) -> list[dict[str, Any]]:
    """Every payment that a person sees, past the cache.

    Raises:
        CouldNotObserve: the list is not readable as contracted.
    """
    headers = {**session.headers, "Cache-Control": "no-cache"}
    found: list[dict[str, Any]] = []
    page, pages = 1, 1
    while page <= pages:
        path = f"/api/payments?limit=100&page={page}&sort=createdAt&order=asc"
        seen = exchange(client, "GET", path, headers=headers)
        data = seen["json"].get("data") if isinstance(seen["json"], dict) else None
        if seen.status != 200 or not isinstance(data, dict) or "payments" not in data:
            raise CouldNotObserve(f"payments: seen {seen['error'] or seen.status}, expected 200")
        found += data["payments"]
        pages = int(data["pagination"]["totalPages"])
        page += 1
    return found
