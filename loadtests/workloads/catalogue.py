"""The catalogue of single requests that workloads are made of, each with its expected answer."""

from __future__ import annotations

import msgspec

from loadtests.engine.plan import Request
from loadtests.workloads.population import Member, Population, audit_path, payment_body

LIST_QUERIES = ("limit=10", "limit=20&sort=amount&order=asc", "status=pending&limit=10")
REPORTED = ("USD", "EUR", "INR")
_BY_GRAPHQL = (
    "{ payments(input: {first: 10}) { totalCount edges { node "
    "{ id senderId recipientId amount currency status createdAt } } } }"
)

GROUPS = {
    "auth-me": "GET /api/auth/me",
    "payments-list": "GET /api/payments, three combinations of parameters",
    "payments-detail": "GET /api/payments/:id, payments of one's own",
    "payments-create": "POST /api/payments to another person of the population",
    "profile": "GET /api/profile",
    "graphql": "POST /graphql, a page of payments",
    "payments-report": "GET /api/payments/reports?currency=…, by the admin, three currencies",
    "audit-list": "GET /api/admin/audit-logs?userId=…, by the admin",
    "auth-login": "POST /api/auth/login (its cost is the password hash's; measured apart)",
}


class Catalogue:
    """Makes requests for a population's members.

    Args:
        population: whose tokens and ids are used.
        prefix: begins the descriptions of what is created.
    """

    def __init__(self, population: Population, prefix: str) -> None:
        self._population = population
        self._prefix = prefix

    def me(self, member: Member) -> Request:
        """The person itself; the answer holds its id."""
        return self._get("auth-me", "/api/auth/me", member, member.user_id)

    def payments(self, member: Member, query: str) -> Request:
        """A page of payments; each of them holds the person's id as sender or recipient."""
        return self._get("payments-list", f"/api/payments?{query}", member, member.user_id)

    def payment(self, member: Member, payment: str) -> Request:
        """One payment, with its id."""
        return self._get("payments-detail", f"/api/payments/{payment}", member, payment)

    def profile(self, member: Member) -> Request:
        """The person's profile; it holds the person's id."""
        return self._get("profile", "/api/profile", member, member.user_id)

    def payments_by_graphql(self, member: Member) -> Request:
        """A page of payments; each of them holds the person's id as sender or recipient."""
        return Request(
            method="POST",
            path="/graphql",
            group="graphql",
            headers=(*_authorization(member), ("Content-Type", "application/json")),
            body=msgspec.json.encode({"query": _BY_GRAPHQL}),
            expect_body=member.user_id,
            answer_bytes=self._size("graphql"),
        )

    def report(self, admin: Member, currency: str) -> Request:
        """What was paid in a currency in the last thirty days, seen by the admin."""
        path = f"/api/payments/reports?currency={currency}"
        return self._get("payments-report", path, admin, "totalsByCurrency")

    def audit(self, admin: Member, about: Member) -> Request:
        """A person's audit rows, seen by the admin; each holds the person's id."""
        return self._get("audit-list", audit_path(about), admin, about.user_id)

    def create(self, sender: Member, recipient: Member, number: int) -> Request:
        """A new payment; the answer holds the recipient's id."""
        body = payment_body(recipient, f"{self._prefix} load {number}", number)
        return Request(
            method="POST",
            path="/api/payments",
            group="payments-create",
            headers=(*_authorization(sender), ("Content-Type", "application/json")),
            body=msgspec.json.encode(body),
            expect_status=(201,),
            expect_body=recipient.user_id,
            answer_bytes=self._size("payments-create"),
        )

    def log_in(self, member: Member) -> Request:
        """A log-in; the answer holds the person's id."""
        body = {"email": member.email, "password": member.password}
        return Request(
            method="POST",
            path="/api/auth/login",
            group="auth-login",
            headers=(("Content-Type", "application/json"),),
            body=msgspec.json.encode(body),
            expect_body=member.user_id,
            answer_bytes=1500,
        )

    def _get(self, group: str, path: str, member: Member, expected: str) -> Request:
        return Request(
            method="GET",
            path=path,
            group=group,
            headers=_authorization(member),
            expect_body=expected,
            answer_bytes=self._size(group),
        )

    def _size(self, group: str) -> int:
        return self._population.sizes.get(group, 512)


def _authorization(member: Member) -> tuple[tuple[str, str], ...]:
    return (("Authorization", f"Bearer {member.access_token}"), ("Accept", "application/json"))
