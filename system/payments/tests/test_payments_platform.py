"""Holds the running payments-service to the contract: real database, broker, Redis and tokens."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from system.payments.adapters.statements import FORGET
from system.payments.tests.callers import Stack, User, made, newcomer, publish, seen, until
from system.platform.events.envelope import new_event

pytestmark = pytest.mark.platform


def test_life_of_a_payment(stack: Stack, customer: User, vendor: User, admin: User) -> None:
    """Created, processed, completed: answers, history, events and times agree (R1.108-R1.119)."""
    payment_id = made(customer.pay(vendor, amount=7.5, metadata={"a": [1, None]}))
    processing = admin.change(payment_id, "processing")
    completed = admin.change(payment_id, "completed", reason="paid out")

    shown = vendor.get(f"/payments/{payment_id}").json()["data"]
    assert processing.json()["data"]["completedAt"] is None
    assert completed.json()["data"]["completedAt"] == shown["completedAt"] is not None
    assert (shown["amount"], shown["metadata"]) == ("7.50", {"a": [1, None]})
    assert [(step["status"], step["statusMessage"]) for step in shown["transactions"]] == [
        ("pending", "Payment created"),
        ("processing", "Payment processing"),
        ("completed", "paid out"),
    ]
    with psycopg.connect(stack.database("payments")) as db:
        events = db.execute(
            "SELECT event_type FROM outbox WHERE envelope->'data'->>'paymentId' = %s ORDER BY seq",
            [payment_id],
        ).fetchall()
    assert [event for (event,) in events] == [
        "payment.created",
        "payment.updated",
        "payment.completed",
    ]


def test_checks_run_in_the_agreed_order(stack: Stack, customer: User, vendor: User) -> None:
    """Malformed 400, unknown 404, foreign 403 (R1.17); no DELETE (R1.124)."""
    payment_id = made(customer.pay(vendor))
    stranger = newcomer(stack)

    answers = {
        "malformed": stranger.get("/payments/nope").status_code,
        "unknown": stranger.get(f"/payments/{uuid.uuid4()}").status_code,
        "foreign": stranger.get(f"/payments/{payment_id}").status_code,
        "foreign change": stranger.change(payment_id, "cancelled").status_code,
        "malformed change": stranger.change(payment_id, "gone").status_code,
        "no token": httpx.get(f"{stack.services['payments']}/payments/nope").status_code,
    }

    assert answers == {
        "malformed": 400,
        "unknown": 404,
        "foreign": 403,
        "foreign change": 403,
        "malformed change": 400,
        "no token": 401,
    }
    stranger.close()


def test_simultaneous_requests_with_one_key(customer: User, vendor: User, stack: Stack) -> None:
    """Of ten at once one pays; all answers tell of the same payment (R1.114)."""
    key = str(uuid.uuid4())

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: customer.pay(vendor, key=key), range(10)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["data"]["id"] for answer in answers}) == 1
    replayed = [answer.headers.get("Idempotency-Replayed") for answer in answers]
    assert sorted(replayed, key=str) == [None] + ["true"] * 9
    other = customer.pay(vendor, key=key, amount="100.51")
    assert (other.status_code, other.json()["error"]["code"]) == (409, "IDEMPOTENCY_KEY_REUSED")
    with psycopg.connect(stack.database("payments")) as db:
        db.execute("UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
        db.commit()
    assert (
        customer.pay(vendor, key=key, amount="100.51").headers.get("Idempotency-Replayed") is None
    )


def test_concurrent_changes_have_one_winner(customer: User, vendor: User, admin: User) -> None:
    """Of ten changes at once one wins; the others are judged against the new state (R1.120)."""
    payment_id = made(customer.pay(vendor))

    with ThreadPoolExecutor(10) as pool:
        wanted = ["processing", "cancelled"] * 5
        answers = list(pool.map(lambda to: admin.change(payment_id, to), wanted))

    winner = next(answer for answer in answers if answer.status_code == 200)
    losers = [answer for answer in answers if answer.status_code != 200]
    assert len(losers) == 9
    state = winner.json()["data"]["status"]
    assert {answer.status_code for answer in losers} == {409}
    assert {answer.json()["error"]["details"]["from"] for answer in losers} == {state}
    assert len(admin.get(f"/payments/{payment_id}").json()["data"]["transactions"]) == 2


def test_own_writes_are_read(customer: User, vendor: User, admin: User) -> None:
    """A HIT directly before each write, the new state directly after it, for all readers (R6.5)."""
    payment_id = made(customer.pay(vendor))
    readers = (customer, vendor, admin)
    for status in ("processing", "failed"):
        for reader in readers:
            for path in (f"/payments/{payment_id}", "/payments?limit=5"):
                reader.get(path)
                assert seen(reader.get(path)) == (200, "HIT")

        admin.change(payment_id, status)

        for reader in readers:
            assert reader.get(f"/payments/{payment_id}").json()["data"]["status"] == status
            rows = reader.get("/payments?limit=5").json()["data"]["payments"]
            assert {row["id"]: row["status"] for row in rows}[payment_id] == status


def test_the_event_of_a_write_leaves_newer_entries_alone(
    stack: Stack, customer: User, vendor: User
) -> None:
    """What was stored after a write survives the write's own event (R6.2, R3.42)."""
    payment_id = made(customer.pay(vendor))
    customer.get("/payments")
    with psycopg.connect(stack.database("payments"), autocommit=True) as db:
        until(
            lambda: (
                db.execute(
                    "SELECT count(*) FROM outbox o JOIN inbox i USING (event_id) "
                    "WHERE o.envelope->'data'->>'paymentId' = %s",
                    [payment_id],
                ).fetchone()
                == (1,)
            )
        )

    assert seen(customer.get("/payments")) == (200, "HIT")


def test_filters_sort_and_pages(stack: Stack, vendor: User) -> None:
    """Filters, order and pagination agree with what was paid (R1.110)."""
    payer = newcomer(stack)
    amounts = ["5.00", "1.00", "3.00", "2.00", "4.00"]
    ids = [made(payer.pay(vendor, amount=amount, type="scheduled")) for amount in amounts]
    made(payer.pay(vendor, amount="9.00"))

    def page(query: str) -> tuple[list[str], dict[str, int]]:
        data = payer.get(f"/payments?{query}").json()["data"]
        return [row["amount"] for row in data["payments"]], data["pagination"]

    assert page("type=scheduled&sort=amount&order=asc&limit=2&page=2") == (
        ["3.00", "4.00"],
        {"page": 2, "limit": 2, "total": 5, "totalPages": 3},
    )
    assert page("minAmount=2&maxAmount=4.00&sort=amount")[0] == ["4.00", "3.00", "2.00"]
    assert page("type=scheduled")[0] == list(reversed(amounts))
    assert page("status=completed") == ([], {"page": 1, "limit": 10, "total": 0, "totalPages": 0})
    assert page("page=9")[1]["total"] == 6
    first = payer.get(f"/payments/{ids[0]}").json()["data"]["createdAt"]
    assert page(f"startDate={first}&endDate={first}")[0][-1] == "5.00"
    assert page("endDate=2020-01-01")[0] == []
    payer.close()


def test_a_user_registered_a_moment_before_can_pay_and_be_paid(
    stack: Stack, customer: User
) -> None:
    """Nobody waits for events (R1.112, R2.21)."""
    newest = newcomer(stack)

    assert customer.pay(newest).status_code == 201
    assert newest.pay(customer).status_code == 201
    newest.close()


def test_a_renamed_user_is_seen_by_all_who_list_them(stack: Stack, customer: User) -> None:
    """A changed e-mail arrives by event, reaches copy and caches; an older event does nothing."""
    other = newcomer(stack)
    made(customer.pay(other))
    customer.get("/payments?limit=1")

    def tell(email: str, version: int) -> None:
        event = new_event(
            "user.updated",
            {
                "userId": other.id,
                "email": email,
                "name": "New",
                "role": "CUSTOMER",
                "status": "active",
                "emailVerified": False,
                "userVersion": version,
                "changes": ["email"],
                "updatedAt": "2026-01-17T10:00:00.000Z",
            },
            source="auth-service",
            actor_id=other.id,
        )
        publish(stack, event)

    def shown() -> str:
        rows = customer.get("/payments?limit=1").json()["data"]["payments"]
        return str(rows[0]["recipient"]["email"])

    renamed = f"{uuid.uuid4()}@renamed.test"
    tell(renamed, 7)
    until(lambda: shown() == renamed)
    tell("older@renamed.test", 6)
    latest = f"{uuid.uuid4()}@renamed.test"
    tell(latest, 8)
    until(lambda: shown() == latest)
    other.close()


def test_r3_42_an_event_of_a_payment_voids_what_its_parties_see(
    stack: Stack, customer: User, vendor: User, admin: User
) -> None:
    """Also the former recipient's: the writer may have died before it could (R6.20)."""
    sender, recipient, former = newcomer(stack), newcomer(stack), newcomer(stack)
    payment_id = made(sender.pay(recipient))
    bystander = newcomer(stack)
    readers = (sender, recipient, former, admin, bystander)
    # The events of the people themselves must have come, or they would void the lists too.
    until(lambda: bystander.id in vendor.get("/payments/recipients").text)
    for reader in readers:
        reader.get("/payments")
    until(lambda: all(seen(reader.get("/payments")) == (200, "HIT") for reader in readers))

    event = new_event(
        "payment.updated",
        {
            "paymentId": payment_id,
            "senderId": sender.id,
            "recipientId": recipient.id,
            "previousRecipientId": former.id,
            "amount": "100.50",
            "currency": "USD",
            "status": "pending",
            "changes": ["recipientId"],
            "updatedAt": "2026-01-17T10:00:00.000Z",
        },
        source="payments-service",
        actor_id=sender.id,
    )
    publish(stack, event)

    with psycopg.connect(stack.database("payments"), autocommit=True) as db:
        until(
            lambda: (
                db.execute("SELECT count(*) FROM inbox WHERE event_id = %s", [event.id]).fetchone()
                == (1,)
            )
        )
    # Void before the acknowledgement, which follows the commit just seen.
    stale = {sender, recipient, former, admin}

    def all_have_missed() -> bool:
        stale.difference_update(
            [reader for reader in stale if seen(reader.get("/payments")) == (200, "MISS")]
        )
        return not stale

    until(all_have_missed, 2)
    assert seen(bystander.get("/payments")) == (200, "HIT")
    for reader in readers[:3]:
        reader.close()
    bystander.close()


@pytest.mark.parametrize(("down", "up"), [("pause", "resume"), ("stop", "start")])
def test_nothing_stale_after_redis_was_away(
    stack: Stack, customer: User, vendor: User, admin: User, down: str, up: str
) -> None:
    """Away: BYPASS with the same body. Back: no entry older than a write made meanwhile (R6.9)."""
    payment_id = made(customer.pay(vendor))
    path = f"/payments/{payment_id}"
    before = customer.get(path).json()
    until(lambda: seen(customer.get(path)) == (200, "HIT"))
    stack.control("redis", down)
    try:
        away = customer.get(path)
        assert (seen(away), away.json()) == ((200, "BYPASS"), before)
        assert admin.change(payment_id, "processing").status_code == 200
    finally:
        stack.control("redis", up)

    assert customer.get(path).json()["data"]["status"] == "processing"
    until(lambda: seen(customer.get(path)) == (200, "HIT"))
    assert customer.get(path).json()["data"]["status"] == "processing"


def test_parties_are_told_to_the_gateway_only(stack: Stack, customer: User, vendor: User) -> None:
    """The internal route knows both parties and needs the internal token (R1.153)."""
    payment_id = made(customer.pay(vendor))
    url = f"{stack.services['payments']}/internal/payments/{payment_id}/parties"
    token = stack.target["access"]["internal"]["token"]

    told = httpx.get(url, headers={"X-Internal-Token": token})
    refused = httpx.get(url)

    assert told.json()["data"] == {"senderId": customer.id, "recipientId": vendor.id}
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "UNAUTHORIZED")


def test_histories_of_many_payments_are_internal(
    stack: Stack, customer: User, vendor: User, admin: User
) -> None:
    """R1.153, R1.103: with both tokens, and only of what the caller may see; as in R1.107."""
    payments = [made(customer.pay(vendor)), made(customer.pay(vendor))]
    admin.change(payments[1], "processing")
    stranger = newcomer(stack)
    ids = ",".join([*payments, str(uuid.uuid4())])
    url = f"{stack.services['payments']}/internal/payments/transactions"
    internal = {"X-Internal-Token": stack.target["access"]["internal"]["token"]}

    def told(user: User, **changes: str) -> httpx.Response:
        headers = {**internal, "Authorization": user.authorization}
        return httpx.get(url, params={"ids": ids, **changes}, headers=headers)

    shown = {
        payment: vendor.get(f"/payments/{payment}").json()["data"]["transactions"]
        for payment in payments
    }
    assert told(vendor).json()["data"] == told(admin).json()["data"] == shown
    assert told(stranger).json()["data"] == {}
    assert told(vendor, ids="nope").status_code == 400
    own = {"Authorization": vendor.authorization}
    assert httpx.get(url, params={"ids": ids}, headers=internal).status_code == 401
    assert httpx.get(url, params={"ids": ids}, headers=own).status_code == 401
    stranger.close()


def test_r1_114_answers_are_kept_for_a_day_and_then_thrown_away(stack: Stack) -> None:
    """By the service's own role; what is younger stays."""
    owner = f"tidying-{uuid.uuid4()}"
    ages = {"23 h": 23, "25 h": 25, "3 days": 72}
    with psycopg.connect(stack.target["access"]["db"]["payments"]["service_url"]) as db:
        for key, hours in ages.items():
            db.execute(
                "INSERT INTO idempotency_keys (user_id, key, request_hash, response, created_at)"
                " VALUES (%s, %s, 'x', 'null', now() - make_interval(hours => %s))",
                [owner, key, hours],
            )
        db.execute(FORGET.encode())
        left = db.execute("SELECT key FROM idempotency_keys WHERE user_id = %s", [owner]).fetchall()
        db.rollback()
    assert left == [("23 h",)]
