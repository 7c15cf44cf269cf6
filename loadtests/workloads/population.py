"""The population of a load test: people with open sessions, payments of their own, and an admin.

Everything a workload's requests refer to is made here, before the measured time begins, from an
address that is exempt from rate limits.
"""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

import httpx
import msgspec

from harness.probe import CouldNotObserve, http_client, wait_until
from harness.target import Target

_PASSWORD = "Load-Test-Passw0rd!"  # of accounts that this run makes for itself
_HANDS = 2  # people prepared at the same time
_PATIENCE = 30.0
_AUDIT_PATIENCE = 15.0  # R1.142 promises 5 s
# Group of requests → the part of the target it needs, where that part can be absent.
_PARTS = {
    "audit-list": "audit-log",
    "payments-report": "reports",
    "profile": "profile-api",
    "graphql": "graphql",
}
_ADMINS = ("audit-list", "payments-report")


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One person with an open session.

    Attributes:
        email, password: to log in with.
        user_id: the id in every answer about this person.
        access_token, refresh_token: of the session.
        payments: ids of payments this person sent.
    """

    email: str
    password: str
    user_id: str
    access_token: str
    refresh_token: str = ""
    payments: tuple[str, ...] = ()


class Population(msgspec.Struct, frozen=True, kw_only=True):
    """Everybody a workload speaks for.

    Attributes:
        origin, ca: of the target.
        addresses: exempt source addresses.
        members: the people.
        admin: an administrator; None if the target has none to offer.
        absent: groups of requests that cannot be made, each with the reason.
        sizes: bytes of an answer's body, by group, as seen while preparing.
    """

    origin: str
    ca: str
    addresses: tuple[str, ...]
    members: tuple[Member, ...]
    admin: Member | None = None
    absent: dict[str, str] = msgspec.field(default_factory=dict)
    sizes: dict[str, int] = msgspec.field(default_factory=dict)


def exempt_addresses(target: Target, count: int = 8) -> tuple[str, ...]:
    """Up to so many source addresses that the target exempts from rate limits."""

    def each() -> Iterator[str]:
        for text in target.addresses.exempt:
            network = ipaddress.ip_network(text, strict=False)
            yield from (str(host) for host in islice(network.hosts(), count))

    return tuple(islice(each(), count))


def settle(target: Target, *, prefix: str, users: int, payments_each: int) -> Population:
    """Register people, give each some payments, log the admin in.

    Args:
        target: where.
        prefix: the run's prefix; begins every e-mail address and description.
        users: how many people, at least two (payments need a recipient).
        payments_each: how many payments each of them sends to the next one.

    Raises:
        CouldNotObserve: the target refused something of this; says what and how.
    """
    if users < 2:
        raise ValueError(f"users is {users}, expected at least 2: a payment needs a recipient")
    addresses = exempt_addresses(target)
    http = target.http
    with Desk(http.origin, http.ca, addresses) as desk, ThreadPoolExecutor(_HANDS) as hands:
        members = list(hands.map(lambda n: desk.register(prefix, n), range(users)))
        paying = hands.map(
            lambda n: desk.with_payments(
                members[n], members[(n + 1) % users], prefix, payments_each
            ),
            range(users),
        )
        members = list(paying)
        absent = {
            group: reason
            for group, part in _PARTS.items()
            if (reason := target.absence(part)) is not None
        }
        admin = None
        account = target.accounts.get("admin")
        if account is None:
            absent |= dict.fromkeys(_ADMINS, "the target file has no [accounts.admin]")
        elif "audit-list" not in absent:
            admin = desk.log_in(account.email, account.password)
            desk.wait_for_audit(admin, members)
        sizes = desk.sizes_of_answers(members[0], admin)
    return Population(
        origin=target.http.origin,
        ca=target.http.ca,
        addresses=addresses,
        members=tuple(members),
        admin=admin,
        absent=absent,
        sizes=sizes,
    )


def renew(population: Population) -> Population:
    """The same people with fresh tokens (access tokens live 15 min, R1.25).

    Raises:
        CouldNotObserve: the target refused a log-in.
    """
    paperwork = Desk(population.origin, population.ca, population.addresses)
    with paperwork as desk, ThreadPoolExecutor(_HANDS) as hands:

        def fresh(member: Member) -> Member:
            session = desk.log_in(member.email, member.password)
            return msgspec.structs.replace(session, payments=member.payments)

        members = tuple(hands.map(fresh, population.members))
        admin = fresh(population.admin) if population.admin else None
    return msgspec.structs.replace(population, members=members, admin=admin)


class Desk:
    """Does the paperwork over REST; safe to use from several threads.

    Args:
        origin, ca: of the target.
        addresses: source addresses; the first is used.
    """

    def __init__(self, origin: str, ca: str, addresses: tuple[str, ...]) -> None:
        address = addresses[0] if addresses else None
        self._client = http_client(origin, ca=ca, address=address, timeout=_PATIENCE)

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def register(self, prefix: str, number: int) -> Member:
        """A new customer with an open session (R1.59)."""

        def form() -> dict[str, str]:
            # Drawn anew for each try: one that timed out may have had its effect, and several
            # populations of one run share the prefix.
            email = f"{prefix}-load-{number:04d}-{secrets.token_hex(4)}@example.test".lower()
            return {"email": email, "password": _PASSWORD, "name": f"Load {prefix} {number}"}

        data = self._ask("POST", "/api/auth/register", 201, body=form)
        return _member(str(data["user"]["email"]), _PASSWORD, data)

    def log_in(self, email: str, password: str) -> Member:
        """A new session of an account (R1.60)."""
        form = {"email": email, "password": password}
        data = self._ask("POST", "/api/auth/login", 200, body=lambda: form)
        return _member(email, password, data)

    def with_payments(self, sender: Member, recipient: Member, prefix: str, count: int) -> Member:
        """The sender, who now has sent so many payments to the recipient (R1.108)."""
        ids = []
        for number in range(count):
            body = partial(payment_body, recipient, f"{prefix} prepared {number}", number)
            data = self._ask("POST", "/api/payments", 201, token=sender.access_token, body=body)
            ids.append(str(data["id"]))
        return msgspec.structs.replace(sender, payments=tuple(ids))

    def wait_for_audit(self, admin: Member, members: list[Member]) -> None:
        """Wait until the audit log shows the first and the last of the people (R1.142)."""
        for member in (members[0], members[-1]):
            path = audit_path(member)

            def shown(path: str = path) -> bool:
                return bool(self._ask("GET", path, 200, token=admin.access_token)["auditLogs"])

            wait_until(
                shown,
                seconds=_AUDIT_PATIENCE,
                what="the audit log to show the people just registered",
                pause=0.2,
            )

    def sizes_of_answers(self, member: Member, admin: Member | None) -> dict[str, int]:
        """How long an answer of each group is, so that calibration can answer as much."""
        paths = {
            "auth-me": ("/api/auth/me", member),
            "payments-list": ("/api/payments?limit=10", member),
            "profile": ("/api/profile", member),
        }
        if member.payments:
            paths["payments-detail"] = (f"/api/payments/{member.payments[0]}", member)
        if admin is not None:
            paths["audit-list"] = (audit_path(member), admin)
            paths["payments-report"] = ("/api/payments/reports", admin)
        sizes = {}
        for group, (path, who) in paths.items():
            sizes[group] = len(self._send("GET", path, token=who.access_token).content)
        if "payments-detail" in sizes:
            sizes["payments-create"] = sizes["payments-detail"]
        sizes["graphql"] = sizes["payments-list"]  # the same page, fewer fields
        return sizes

    def _ask(
        self,
        method: str,
        path: str,
        expected: int,
        *,
        token: str = "",
        body: Callable[[], Any] = lambda: None,
    ) -> Any:
        """The ``data`` of an answer that must have this status; `body` is made for each try."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            reply = self._send(method, path, token=token, json=body())
            if reply.status_code == expected:
                return reply.json()["data"]
            # Preparing is not judged, so a stack that is not up to it yet is asked again.
            if reply.status_code not in (502, 503, 504) or time.monotonic() > deadline:
                raise CouldNotObserve(
                    f"preparing the load: {method} {path} answered {reply.status_code}, "
                    f"expected {expected}: {reply.text[:300]}"
                )
            time.sleep(0.5)

    def _send(self, method: str, path: str, *, token: str = "", json: Any = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            return self._client.request(method, path, headers=headers, json=json)
        except httpx.HTTPError as error:
            raise CouldNotObserve(
                f"preparing the load: {method} {path} got no answer: {error}"
            ) from error


def _member(email: str, password: str, data: Any) -> Member:
    return Member(
        email=email,
        password=password,
        user_id=str(data["user"]["id"]),
        access_token=str(data["accessToken"]),
        refresh_token=str(data.get("refreshToken", "")),
    )


def payment_body(recipient: Member, description: str, number: int) -> dict[str, str]:
    """A payment as R1.111 wants it; amounts differ so that sorting by amount has work to do."""
    return {
        "recipientId": recipient.user_id,
        "amount": f"{10 + number % 90}.{number % 100:02d}",
        "currency": "USD",
        "type": "instant",
        "description": description,
    }


def audit_path(member: Member) -> str:
    """The newest audit rows of a person."""
    return f"/api/admin/audit-logs?userId={member.user_id}&limit=20"
