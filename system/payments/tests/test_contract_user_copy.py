"""Holds payments-service's copy of users to R2.21-R2.22, R3.42, R1.112 and R1.137."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest

from system.payments.adapters.postgres import PostgresStore
from system.payments.domain import Person
from system.payments.tests.callers import Stack, User, made, newcomer, outcome, until
from system.platform.database import Database

pytestmark = pytest.mark.platform

Register = Callable[[], User]


class Administration:
    """What an ADMIN does to users, at admin-service."""

    def __init__(self, stack: Stack, admin: User) -> None:
        self._admin = admin
        self._url = f"{stack.services['admin']}/api/admin/users"

    def delete(self, user: User) -> None:
        answer = self._admin.send("DELETE", f"{self._url}/{user.id}")
        assert answer.status_code == 204, answer.text

    def set_active(self, user: User, active: bool) -> None:
        answer = self._admin.send(
            "PATCH", f"{self._url}/{user.id}/status", json={"isActive": active}
        )
        assert answer.status_code == 200, answer.text

    def rename(self, user: User, **changes: str) -> None:
        answer = self._admin.send("PUT", f"{self._url}/{user.id}", json=changes)
        assert answer.status_code == 200, answer.text


@pytest.fixture
def administration(stack: Stack, admin: User) -> Administration:
    return Administration(stack, admin)


def recipients(user: User) -> dict[str, dict[str, str]]:
    return {person["id"]: person for person in user.get("/payments/recipients").json()["data"]}


def pay_by_email(payer: User, email: str) -> tuple[int, str | None]:
    body = {"type": "instant", "amount": "1", "description": "x", "recipientEmail": email}
    return outcome(payer.post(body))


def test_r1_137_a_deleted_user_is_shown_as_such(
    stack: Stack,
    register: Register,
    customer: User,
    vendor: User,
    admin: User,
    administration: Administration,
) -> None:
    """In lists and alone, sent and received, for everybody, though all of it was cached before."""
    gone = register()
    sent, received = made(gone.pay(vendor)), made(customer.pay(gone))
    until(lambda: gone.id in recipients(customer))
    shown = f"deleted-{gone.id}@deleted.invalid"

    def emails() -> set[str]:
        found = set()
        for reader, payment_id in ((vendor, sent), (admin, sent), (customer, received)):
            rows = reader.get("/payments?limit=20").json()["data"]["payments"]
            one = reader.get(f"/payments/{payment_id}").json()["data"]
            for row in (*(row for row in rows if row["id"] == payment_id), one):
                found |= {
                    party["email"]
                    for party in (row["sender"], row["recipient"])
                    if party["id"] == gone.id
                }
        return found

    assert emails() == {gone.email}

    administration.delete(gone)

    until(lambda: emails() == {shown})
    assert gone.id not in recipients(customer)
    assert outcome(customer.pay(gone)) == (404, "RECIPIENT_NOT_FOUND")
    assert outcome(gone.pay(vendor)) == (401, "TOKEN_REVOKED")
    assert pay_by_email(customer, shown) == (404, "RECIPIENT_NOT_FOUND")


def test_r1_137_the_email_of_a_deleted_user_can_be_paid_anew(
    stack: Stack, register: Register, customer: User, administration: Administration
) -> None:
    """Whoever registers it is somebody else, and found at once (R1.112)."""
    gone = register()
    made(customer.pay(gone))
    administration.delete(gone)
    until(lambda: pay_by_email(customer, gone.email) == (404, "RECIPIENT_NOT_FOUND"))

    answer = httpx.post(
        f"{stack.services['auth']}/auth/register",
        json={**gone.credentials, "name": "Another"},
        timeout=10,
    )
    assert answer.status_code == 201, answer.text

    assert pay_by_email(customer, gone.email) == (201, None)
    payment = customer.get("/payments?limit=1").json()["data"]["payments"][0]
    assert payment["recipientId"] == answer.json()["data"]["user"]["id"]


def test_r1_112_suspended_users_cannot_be_paid(
    register: Register, customer: User, administration: Administration
) -> None:
    """Nor are they offered, until they are active again (R1.105)."""
    other = register()
    made(customer.pay(other))

    administration.set_active(other, False)
    until(lambda: other.id not in recipients(customer))
    assert outcome(customer.pay(other)) == (404, "RECIPIENT_NOT_FOUND")
    assert pay_by_email(customer, other.email) == (404, "RECIPIENT_NOT_FOUND")

    administration.set_active(other, True)
    until(lambda: other.id in recipients(customer))
    made(customer.pay(other))


def test_r3_42_r6_6_a_renamed_user_is_seen_renamed(
    register: Register, customer: User, administration: Administration
) -> None:
    """In payments and among recipients, though both were cached (R6.6)."""
    other = register()
    payment_id = made(customer.pay(other))
    email = f"{uuid.uuid4()}@renamed.test"
    recipients(customer)
    customer.get(f"/payments/{payment_id}")

    administration.rename(other, email=email, name="Renamed")

    until(
        lambda: (
            customer.get(f"/payments/{payment_id}").json()["data"]["recipient"]["email"] == email
        )
    )
    assert recipients(customer)[other.id] == {"id": other.id, "email": email, "name": "Renamed"}


def test_r2_21_nobody_waits_for_an_event(stack: Stack, register: Register, customer: User) -> None:
    """With the broker down somebody new pays and is paid, and an event is written (R1.113)."""
    stack.control("rabbitmq", "stop")
    try:
        payer, payee = register(), register()
        made(payer.pay(customer))
        made(customer.pay(payee))
        assert pay_by_email(customer, payer.email) == (201, None)
    finally:
        stack.control("rabbitmq", "start")

    with psycopg.connect(stack.database("payments"), autocommit=True) as db:
        # R3.21: they follow when the broker is back.
        until(
            lambda: (
                db.execute("SELECT count(*) FROM outbox WHERE published_at IS NULL").fetchone()
                == (0,)
            ),
            30,
        )


def test_r1_112_undecidable_recipients_are_503(
    stack: Stack, customer: User, vendor: User, admin: User
) -> None:
    """With auth-service down known users can be paid, and of unknown ones nobody can tell."""
    made(customer.pay(vendor))
    stack.control("auth", "stop")
    try:
        made(customer.pay(vendor))
        answer = customer.send(
            "POST",
            "/payments",
            json={
                "type": "instant",
                "amount": "1",
                "description": "x",
                "recipientId": str(uuid.uuid4()),
            },
        )
        by_email = pay_by_email(customer, "unknown@x.test")
    finally:
        stack.control("auth", "start")

    assert outcome(answer) == (503, "SERVICE_UNAVAILABLE")
    assert int(answer.headers["Retry-After"]) >= 1
    assert by_email == (503, "SERVICE_UNAVAILABLE")


class Copy:
    """The copy itself, as events and look-ups write it."""

    def __init__(self, stack: Stack) -> None:
        self._db = Database(stack.target["access"]["db"]["payments"]["service_url"])
        self._store = PostgresStore(self._db)

    async def __aenter__(self) -> Copy:
        await self._db.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._db.close()

    async def put(self, user_id: str, email: str, version: int, **more: Any) -> None:
        async with self._store.transaction() as unit:
            await unit.put_person(Person(user_id, email, "N", "active", version, **more))

    async def email(self, user_id: str) -> str:
        person = await self._store.person(user_id)
        assert person is not None
        return person.email


async def test_r2_21_older_events_change_nothing(stack: Stack) -> None:
    """Nor repeated ones; a deleted user stays deleted (R2.22)."""
    user_id = str(uuid.uuid4())
    async with Copy(stack) as copy:
        for version, email in ((3, "three"), (2, "two"), (3, "again")):
            await copy.put(user_id, f"{email}-{user_id}@x.test", version)
        assert await copy.email(user_id) == f"three-{user_id}@x.test"

        gone = f"deleted-{user_id}@deleted.invalid"
        await copy.put(user_id, "x@x.test", 4, deleted_at=datetime.now(UTC))
        assert await copy.email(user_id) == gone
        await copy.put(user_id, f"late-{user_id}@x.test", 5)
        assert await copy.email(user_id) == gone


async def test_r2_22_an_email_that_changes_hands(stack: Stack) -> None:
    """Whatever arrives first, in the end both have their own; nothing fails on the way."""
    one, other = str(uuid.uuid4()), str(uuid.uuid4())
    shared, new = f"shared-{one}@x.test", f"new-{one}@x.test"
    async with Copy(stack) as copy:
        # The other is fetched before the first one's events have arrived, which come now.
        await copy.put(other, shared, 1)
        await copy.put(one, shared, 1)
        assert await copy.email(other) == f"unknown-{other}@unknown.invalid"
        await copy.put(one, new, 2)
        await copy.put(other, shared, 1)

        assert (await copy.email(one), await copy.email(other)) == (new, shared)


async def test_r2_22_simultaneous_events_of_one_email(stack: Stack) -> None:
    """Writers of one address wait for each other instead of failing."""
    email = f"{uuid.uuid4()}@x.test"
    people = [str(uuid.uuid4()) for _ in range(8)]
    async with Copy(stack) as copy:
        await asyncio.gather(*(copy.put(person, email, 1) for person in people))

        held = [await copy.email(person) for person in people]

    assert held.count(email) == 1


def test_r2_21_imported_and_seeded_users_are_in_the_copy(stack: Stack) -> None:
    """Those of the seed arrive by their events within 10 s of the start (R2.23)."""
    payer = newcomer(stack)
    try:
        until(
            lambda: (
                {stack.account(role)["email"] for role in ("admin", "customer", "vendor")}
                <= {person["email"] for person in recipients(payer).values()}
            )
        )
    finally:
        payer.close()
