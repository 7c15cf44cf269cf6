"""Holds the running payments-service to 1.11: creating, editing, changing, who sees what."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, time, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from system.payments.tests.callers import Stack, User, events_of, made, outcome

Register = Callable[[], User]

pytestmark = pytest.mark.platform

MEMBERS = {
    *("id", "senderId", "recipientId", "amount", "currency", "status", "type", "description"),
    *("metadata", "pspTransactionId", "pspStatus", "failureReason", "completedAt", "createdAt"),
    "updatedAt",
}


def test_r1_100_a_payment_has_exactly_these_members(customer: User, vendor: User) -> None:
    """With sender, recipient and transactions only where the table says so."""
    answer = customer.pay(vendor)
    payment_id = made(answer)
    listed = customer.get("/payments?limit=1").json()["data"]["payments"][0]
    shown = customer.get(f"/payments/{payment_id}").json()["data"]
    edited = customer.put(payment_id, amount="1").json()["data"]
    cancelled = customer.change(payment_id, "cancelled").json()["data"]

    parties = {"sender", "recipient"}
    assert set(answer.json()["data"]) == set(listed) == MEMBERS | parties
    assert set(shown) == set(edited) == MEMBERS | parties | {"transactions"}
    assert set(cancelled) == MEMBERS
    assert set(shown["transactions"][0]) == {
        *("id", "paymentId", "status", "statusMessage", "pspTransactionId", "metadata"),
        "createdAt",
    }
    assert shown["sender"] == {"id": customer.id, "email": customer.email}


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ('"0.01"', "0.01"),
        ('"10000000"', "10000000.00"),
        ("100.5", "100.50"),
        ("1e2", "100.00"),
        ("0.29", "0.29"),
        ('"1.005"', None),
        ("0.29999999999999999", None),
        ("10000000.000000001", None),
        ("0", None),
        ("-1", None),
        ("10000000.01", None),
        ("1e400", None),
    ],
)
def test_r1_102_amounts_are_never_rounded(
    customer: User, vendor: User, written: str, shown: str | None
) -> None:
    """What has more than two decimals is refused, also where a float would not tell."""
    body = f'{{"type":"instant","amount":{written},"description":"x","recipientId":"{vendor.id}"}}'
    headers = {"Content-Type": "application/json"}

    answer = customer.send("POST", "/payments", content=body, headers=headers)

    if shown is None:
        assert answer.status_code == 400, answer.text
    else:
        assert answer.json()["data"]["amount"] == shown


def test_r1_103_who_sees_a_payment(register: Register, vendor: User, admin: User) -> None:
    """Its parties and ADMIN, in lists and alone; nobody else."""
    payer, stranger = register(), register()
    payment_id = made(payer.pay(vendor))

    def sees(user: User) -> tuple[int, bool]:
        rows = user.get("/payments?limit=100").json()["data"]["payments"]
        return user.get(f"/payments/{payment_id}").status_code, payment_id in {
            row["id"] for row in rows
        }

    assert [sees(user) for user in (payer, vendor, admin)] == [(200, True)] * 3
    assert sees(stranger) == (403, False)


def test_r1_17_checks_of_an_edit_run_in_order(stack: Stack, customer: User, vendor: User) -> None:
    """Token, validation, existence, ownership, state."""
    payment_id = made(customer.pay(vendor))
    gone = made(customer.pay(vendor))
    customer.change(gone, "cancelled")
    nobody = str(uuid.uuid4())
    bare = httpx.put(f"{stack.services['payments']}/payments/x", json={}, timeout=10)

    assert outcome(bare) == (401, "UNAUTHORIZED")
    assert outcome(vendor.put("x", amount="1")) == (400, "VALIDATION_ERROR")
    assert outcome(vendor.put(nobody)) == (400, "VALIDATION_ERROR")
    assert outcome(vendor.put(nobody, amount="1")) == (404, "PAYMENT_NOT_FOUND")
    assert outcome(vendor.put(payment_id, amount="1")) == (403, "FORBIDDEN")
    assert outcome(vendor.put(gone, amount="1")) == (403, "FORBIDDEN")
    assert outcome(customer.put(gone, amount="1")) == (400, "INVALID_STATUS")


def test_r1_116_an_edit_changes_payment_history_and_event(
    stack: Stack, register: Register, customer: User, vendor: User, admin: User
) -> None:
    """Everything that can be edited at once; the former recipient is told (R3.35)."""
    other = register()
    payment_id = made(customer.pay(vendor, metadata={"a": 1}))

    answer = customer.put(
        payment_id,
        amount="5.00",
        currency="jpy",
        type="recurring",
        description=" <i>new</i> ",
        recipientEmail=other.email.upper(),
        metadata={"b": [2.5, None, "é"]},
    )

    data = answer.json()["data"]
    assert outcome(answer) == (200, None)
    assert (data["amount"], data["currency"], data["type"]) == ("5.00", "JPY", "recurring")
    assert (data["description"], data["metadata"]) == ("new", {"b": [2.5, None, "é"]})
    assert data["recipient"] == {"id": other.id, "email": other.email}
    assert [step["statusMessage"] for step in data["transactions"]] == [
        "Payment created",
        "Payment updated",
    ]
    assert data["updatedAt"] > data["createdAt"]
    for reader in (customer, other, admin):
        assert reader.get(f"/payments/{payment_id}").json()["data"] == data
    assert vendor.get(f"/payments/{payment_id}").status_code == 403
    event = events_of(stack, payment_id)[-1]
    assert (event["type"], event["metadata"]["actorId"]) == ("payment.updated", customer.id)
    assert event["data"]["previousRecipientId"] == vendor.id
    assert set(event["data"]["changes"]) == {
        *("amount", "currency", "type", "description", "recipientId", "metadata"),
    }


def test_r1_109_refusals_of_an_edit(stack: Stack, customer: User, vendor: User) -> None:
    """Recipients are judged as for create; a whole currency needs a whole amount (R1.102)."""
    payment_id = made(customer.pay(vendor))

    def edit(**changes: Any) -> tuple[int, str | None]:
        return outcome(customer.put(payment_id, **changes))

    both = {"recipientId": vendor.id, "recipientEmail": vendor.email}
    assert edit(**both) == (400, "INVALID_RECIPIENT")
    assert edit(recipientId=customer.id) == (400, "SELF_PAYMENT_NOT_ALLOWED")
    assert edit(recipientEmail=customer.email) == (400, "SELF_PAYMENT_NOT_ALLOWED")
    assert edit(recipientId=str(uuid.uuid4())) == (404, "RECIPIENT_NOT_FOUND")
    assert edit(recipientEmail="nobody@x.test") == (404, "RECIPIENT_NOT_FOUND")
    assert edit(currency="JPY") == (400, "VALIDATION_ERROR")
    assert edit(metadata={"a": "x" * 10240}) == (400, "VALIDATION_ERROR")
    assert len(events_of(stack, payment_id)) == 1


def test_r1_120_an_edit_and_a_change_at_once(
    stack: Stack, customer: User, vendor: User, admin: User
) -> None:
    """Edits before the change succeed, those after it are refused; history and events agree."""
    payment_id = made(customer.pay(vendor))

    def act(number: int) -> tuple[int, str | None]:
        if number == 5:
            return outcome(admin.change(payment_id, "processing"))
        return outcome(customer.put(payment_id, amount=f"{number + 1}.00"))

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(act, range(12)))

    assert outcomes[5] == (200, None)
    assert set(outcomes) <= {(200, None), (400, "INVALID_STATUS")}
    succeeded = outcomes.count((200, None))
    steps = admin.get(f"/payments/{payment_id}").json()["data"]["transactions"]
    assert len(steps) == len(events_of(stack, payment_id)) == 1 + succeeded
    assert [step["status"] for step in steps] == ["pending"] * succeeded + ["processing"]


def test_r1_105_recipients(stack: Stack, register: Register, customer: User) -> None:
    """Active users but the caller, by name; a newcomer appears, and it is cached (R6.17)."""
    first = customer.get("/payments/recipients")
    again = customer.get("/payments/recipients")
    other = register()
    made(customer.pay(other))
    # The user's own event comes on its own time; what is asked of the database is there now.
    people = customer.get("/payments/recipients", **{"Cache-Control": "no-cache"})

    assert (again.headers["X-Cache"], again.json()) == ("HIT", first.json())
    assert people.headers["X-Cache"] == "BYPASS"
    data = people.json()["data"]
    assert all(set(person) == {"id", "email", "name"} for person in data)
    ids = [person["id"] for person in data]
    assert other.id in ids
    assert customer.id not in ids
    with psycopg.connect(stack.database("payments")) as db:
        rows = db.execute(
            "SELECT id FROM users WHERE status = 'active' AND deleted_at IS NULL AND id <> %s "
            "ORDER BY name, id",
            [customer.id],
        ).fetchall()
    assert ids == [user_id for (user_id,) in rows]


def test_r1_106_r1_123_reports(
    stack: Stack, register: Register, admin: User, vendor: User, customer: User
) -> None:
    """Sums, counts and the total's three forms, for a period and a currency."""
    payer = register()
    before = vendor.get("/payments/reports").json()["data"]
    for amount, currency, kind in (
        ("0.10", "KES", "instant"),
        ("0.20", "KES", "scheduled"),
        ("7.00", "CLP", "instant"),
    ):
        made(payer.pay(vendor, amount=amount, currency=currency, type=kind))

    after = vendor.get("/payments/reports").json()["data"]
    kes = vendor.get("/payments/reports?currency=kes").json()["data"]
    none = vendor.get("/payments/reports?endDate=2020-01-31").json()["data"]
    everything = admin.get("/payments/reports?startDate=2020-01-01").json()["data"]

    assert outcome(customer.get("/payments/reports")) == (403, "FORBIDDEN")
    assert outcome(customer.get("/payments/reports?currency=x")) == (403, "FORBIDDEN")
    assert set(after) == {
        *("totalPayments", "totalAmount", "totalsByCurrency", "byStatus", "byType", "period"),
    }
    start, end = (datetime.fromisoformat(after["period"][name]) for name in ("start", "end"))
    assert (start.time(), end - start) == (time(), timedelta(days=31, milliseconds=-1))
    assert start <= datetime.now(UTC) <= end + timedelta(seconds=10)
    assert outcome(vendor.get("/payments/reports?currency=x")) == (400, "VALIDATION_ERROR")
    assert after["totalPayments"] == before["totalPayments"] + 3
    assert after["totalAmount"] is None
    assert kes["totalsByCurrency"] == {"KES": kes["totalAmount"]}
    assert after["totalsByCurrency"]["KES"] == kes["totalAmount"]
    assert (
        sum(after["byStatus"].values()) == sum(after["byType"].values()) == after["totalPayments"]
    )
    assert (none["totalPayments"], none["totalAmount"], none["totalsByCurrency"]) == (0, "0.00", {})
    assert none["period"] == {
        "start": "2020-01-01T00:00:00.000Z",
        "end": "2020-01-31T23:59:59.999Z",
    }
    with psycopg.connect(stack.database("payments")) as db:
        rows = db.execute("SELECT currency, sum(amount)::text FROM payments GROUP BY 1").fetchall()
        mine = db.execute(
            "SELECT sum(amount)::text FROM payments WHERE currency = 'KES' AND "
            "(sender_id = %(id)s OR recipient_id = %(id)s)",
            {"id": vendor.id},
        ).fetchone()
    assert everything["totalsByCurrency"] == dict(rows)
    assert mine == (kes["totalAmount"],)


def test_r6_16_a_report_is_cached_until_a_payment(vendor: User, customer: User) -> None:
    """HIT for an equal request, another entry for another; a payment voids it (R6.2, R6.5)."""
    path = "/payments/reports?startDate=2026-01-01"
    vendor.get(path)
    hit = vendor.get(path)
    other = vendor.get(f"{path}T12:00:00Z")
    payment_id = made(customer.pay(vendor, currency="NGN"))
    after = vendor.get(path)
    customer.put(payment_id, currency="EGP")

    assert [answer.headers["X-Cache"] for answer in (hit, other, after)] == ["HIT", "MISS", "MISS"]
    assert after.json()["data"]["totalPayments"] == hit.json()["data"]["totalPayments"] + 1
    assert "NGN" not in vendor.get(path).json()["data"]["totalsByCurrency"]


def test_r6_5_an_edit_is_seen_by_all_readers(
    register: Register, customer: User, vendor: User, admin: User
) -> None:
    """HIT directly before, the new state directly after; the former recipient loses it (R6.4)."""
    other = register()
    payment_id = made(customer.pay(vendor))
    paths = (f"/payments/{payment_id}", "/payments?limit=3")
    for reader in (customer, vendor, admin):
        for path in paths:
            reader.get(path)
            assert reader.get(path).headers["X-Cache"] == "HIT"
    other.get("/payments?limit=3")

    assert customer.put(payment_id, recipientId=other.id).status_code == 200

    for reader in (customer, other, admin):
        assert reader.get(paths[0]).json()["data"]["recipientId"] == other.id
        rows = reader.get(paths[1]).json()["data"]["payments"]
        assert {row["id"]: row["recipientId"] for row in rows}[payment_id] == other.id
    assert vendor.get(paths[0]).status_code == 403
    assert payment_id not in {row["id"] for row in vendor.get(paths[1]).json()["data"]["payments"]}


def test_r1_114_a_replay_answers_what_was_answered(customer: User, vendor: User) -> None:
    """Also when the payment has changed since, and for another spelling of the same body."""
    key = str(uuid.uuid4())
    first = customer.pay(vendor, key=key, amount="7.50", metadata={"b": 1, "a": [1.5]})
    customer.change(made(first), "cancelled")

    again = customer.pay(vendor, key=key, amount=7.5, currency="usd", metadata={"a": [1.5], "b": 1})
    other = customer.pay(vendor, key=key, amount="7.50", metadata={"a": [1.5], "b": 2})

    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
    assert again.json() == first.json()
    assert "Idempotency-Replayed" not in first.headers
    assert outcome(other) == (409, "IDEMPOTENCY_KEY_REUSED")


def test_r1_114_fifty_at_once_pay_once(stack: Stack, customer: User, vendor: User) -> None:
    """More than the service has connections: all get the same 201, one payment and event exist."""
    key = str(uuid.uuid4())

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: customer.pay(vendor, key=key), range(50)))

    assert {answer.status_code for answer in answers} == {201}
    (payment_id,) = {made(answer) for answer in answers}
    replayed = [answer.headers.get("Idempotency-Replayed") for answer in answers]
    assert (replayed.count("true"), replayed.count(None)) == (49, 1)
    assert len(events_of(stack, payment_id)) == 1


def test_r1_114_failures_are_not_stored(customer: User, vendor: User) -> None:
    """A refused request leaves its key free; a key of another form is refused."""
    key = str(uuid.uuid4())

    assert customer.pay(vendor, key=key, amount="0").status_code == 400
    assert customer.pay(customer, key=key).status_code == 400
    made(customer.pay(vendor, key=key))
    assert outcome(customer.pay(vendor, key="x" * 256)) == (400, "VALIDATION_ERROR")


def test_r1_16_all_issues_at_once(customer: User) -> None:
    """Path, header and body of one request."""
    answer = customer.post(
        {"amount": "x", "currency": "XXX", "metadata": []}, **{"Idempotency-Key": "x" * 256}
    )

    details = answer.json()["error"]["details"]
    assert answer.json()["error"]["message"] == "Invalid request data"
    assert {json.dumps(issue["path"]) for issue in details} == {
        '["type"]',
        '["amount"]',
        '["currency"]',
        '["description"]',
        '["metadata"]',
        "[]",
        '["Idempotency-Key"]',
    }


def test_r1_124_there_is_no_delete(customer: User, vendor: User) -> None:
    """404 NOT_FOUND, as for every route that is none (R1.11)."""
    payment_id = made(customer.pay(vendor))

    assert outcome(customer.send("DELETE", f"/payments/{payment_id}")) == (404, "NOT_FOUND")
    assert outcome(customer.get("/payments/reports/x")) == (404, "NOT_FOUND")


def test_r1_49_every_route_through_the_edge(stack: Stack, vendor: User, customer: User) -> None:
    """Methods, bodies and the headers of R1.47 pass; the checks are the service's own."""
    transport = httpx.HTTPTransport(verify=stack.trust, local_address=stack.exempt)
    headers = {"Authorization": vendor.authorization, "Idempotency-Key": str(uuid.uuid4())}
    body = {"type": "instant", "amount": "1", "description": "x", "recipientId": customer.id}
    with httpx.Client(
        base_url=f"{stack.origin}/api", transport=transport, headers=headers, timeout=10
    ) as edge:
        first, again = (edge.post("/payments", json=body) for _ in range(2))
        path = f"/payments/{made(first)}"
        answers = [
            edge.put(path, json={"amount": "2"}),
            edge.get(path),
            edge.get("/payments?limit=1"),
            edge.get("/payments/recipients"),
            edge.get("/payments/reports"),
            edge.patch(f"{path}/status", json={"status": "cancelled"}),
        ]
        late = edge.put(path, json={"amount": "3"})
        gone = edge.delete(path)

    assert again.headers["Idempotency-Replayed"] == "true"
    assert [answer.status_code for answer in answers] == [200] * 6
    assert all(answer.headers["X-Cache"] in {"HIT", "MISS"} for answer in answers[1:5])
    assert answers[1].json()["data"]["amount"] == "2.00"
    assert outcome(late) == (400, "INVALID_STATUS")
    assert outcome(gone) == (404, "NOT_FOUND")
    assert gone.json()["error"]["message"] == f"Route DELETE /api{path} not found"
