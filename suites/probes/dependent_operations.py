"""Operations that a service cannot do without its database: reads past the cache, and writes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from harness.probe import CouldNotObserve, Exchange, exchange, header_values
from harness.trial import Trial
from suites.probes import accounts, administration, graphql, payments
from suites.probes.accounts import PASSWORD, Session

SERVICES = ("auth", "payments", "admin", "profile")
_PAY = "mutation ($input: CreatePaymentInput!) { createPayment(input: $input) { id } }"


@dataclass(frozen=True)
class Operation:
    """One thing that a client asks for.

    Attributes:
        name: for people.
        service: whose database it needs.
        ask: asks once.
        accepted: the status of a success.
        part: of the target, without which there is no such operation.
    """

    name: str
    service: str
    ask: Callable[[httpx.Client], Exchange]
    accepted: int = 200
    part: str = ""


# Service → its operations' names, and the part of the target each needs.
NAMES: dict[str, dict[str, str]] = {
    "auth": {
        "POST /api/auth/register": "",
        "POST /api/auth/login": "",
        "POST /api/auth/refresh": "",
        "GET /api/auth/me": "",
        "GET /api/auth/sessions": "devices",
    },
    "payments": {
        "GET /api/payments": "",
        "GET /api/payments/:id": "",
        "POST /api/payments": "",
        "PUT /api/payments/:id": "",
        "GET /api/payments/reports": "reports",
        "createPayment by GraphQL": "graphql",
    },
    "admin": {
        "GET /api/admin/users": "admin-users",
        "GET /api/admin/audit-logs": "audit-log",
        "GET /api/admin/config/:key": "",
        "PUT /api/admin/config/:key": "",
    },
    "profile": {
        "GET /api/profile": "profile-api",
        "PUT /api/profile": "profile-api",
        "GET /api/profile/preferences": "profile-api",
        "PUT /api/profile/preferences": "profile-api",
    },
}


@dataclass
class _Refreshed:
    """A session that goes on with what the last refresh gave."""

    token: str

    def ask(self, client: httpx.Client) -> Exchange:
        seen = accounts.refresh(client, self.token)
        data = seen["json"].get("data") if isinstance(seen["json"], dict) else None
        if seen.status == 200 and isinstance(data, dict):
            self.token = str(data.get("refreshToken", self.token))
        return seen


def prepare(trial: Trial, client: httpx.Client, admin: Session) -> list[Operation]:
    """Make the people and things the operations are about; each operation can be done again.

    Raises:
        CouldNotObserve: the target refused something of this.
    """
    sender, recipient = (accounts.register(client, trial.prefix) for _ in range(2))
    payment = payments.create_id(client, sender, recipient.user_id)
    key = config_key(trial)
    stored = administration.set_config(client, admin, key, "before")
    if stored.status != 200:
        raise CouldNotObserve(f"PUT config: seen {stored['error'] or stored.status}, expected 200")
    asks = _asks(trial, admin, sender, recipient, payment, key)
    return [
        Operation(name, service, asks[name][0], asks[name][1], part)
        for service, names in NAMES.items()
        for name, part in names.items()
        if not part or trial.target.absence(part) is None
    ]


def config_key(trial: Trial) -> str:
    """The run's one configuration key (R1.140); there is no way to remove it."""
    return f"{trial.prefix.lower()}.outage"


def _asks(
    trial: Trial,
    admin: Session,
    sender: Session,
    recipient: Session,
    payment: str,
    key: str,
) -> Mapping[str, tuple[Callable[[httpx.Client], Exchange], int]]:
    def read(path: str, who: Session = sender) -> Callable[[httpx.Client], Exchange]:
        headers = {**who.headers, "Cache-Control": "no-cache"}
        return lambda client: exchange(client, "GET", path, headers=headers)

    def put(
        path: str, body: dict[str, Any], who: Session = sender
    ) -> Callable[[httpx.Client], Exchange]:
        return lambda client: exchange(client, "PUT", path, headers=who.headers, json=body)

    def register(client: httpx.Client) -> Exchange:
        name = f"{trial.prefix}-{secrets.token_hex(5)}"
        form = {"email": f"{name}@trial.invalid", "password": PASSWORD, "name": name}
        return exchange(client, "POST", "/api/auth/register", json=form)

    def log_in(client: httpx.Client) -> Exchange:
        form = {"email": sender.email, "password": PASSWORD}
        return exchange(client, "POST", "/api/auth/login", json=form)

    def pay(client: httpx.Client) -> Exchange:
        return payments.create(client, sender, recipient.user_id)

    def pay_by_graphql(client: httpx.Client) -> Exchange:
        given = {
            "type": "INSTANT",
            "amount": "1.00",
            "currency": "USD",
            "description": "trial",
            "recipientId": recipient.user_id,
        }
        seen = graphql.ask(client, _PAY, headers=sender.headers, variables={"input": given})
        return graphql.as_rest(seen)

    config = f"/api/admin/config/{key}"
    return {
        "POST /api/auth/register": (register, 201),
        "POST /api/auth/login": (log_in, 200),
        "POST /api/auth/refresh": (_Refreshed(recipient.refresh).ask, 200),
        "GET /api/auth/me": (read("/api/auth/me"), 200),
        "GET /api/auth/sessions": (read("/api/auth/sessions"), 200),
        "GET /api/payments": (read("/api/payments"), 200),
        "GET /api/payments/:id": (read(f"/api/payments/{payment}"), 200),
        "POST /api/payments": (pay, 201),
        "PUT /api/payments/:id": (put(f"/api/payments/{payment}", {"description": "again"}), 200),
        "GET /api/payments/reports": (read("/api/payments/reports", admin), 200),
        "createPayment by GraphQL": (pay_by_graphql, 200),
        "GET /api/admin/users": (read("/api/admin/users?limit=1", admin), 200),
        "GET /api/admin/audit-logs": (read("/api/admin/audit-logs?limit=1", admin), 200),
        "GET /api/admin/config/:key": (read(config, admin), 200),
        "PUT /api/admin/config/:key": (put(config, {"value": "again"}, admin), 200),
        "GET /api/profile": (read("/api/profile"), 200),
        "PUT /api/profile": (put("/api/profile", {"bio": "again"}), 200),
        "GET /api/profile/preferences": (read("/api/profile/preferences"), 200),
        "PUT /api/profile/preferences": (put("/api/profile/preferences", {"language": "de"}), 200),
    }


def told(seen: Exchange) -> dict[str, Any]:
    """What an answer said, as little as judging takes."""
    return {
        "answer": seen["error"] or f"{seen.status} {seen.code}".strip(),
        "retry_after": header_values(seen, "retry-after"),
        "seconds": round(seen["seconds"], 3),
    }
