"""What may be paid, in which words (R1.101, R1.111), and what a list looks like (R1.104)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from system.payments.tests.callers import Stack, User, made, outcome

pytestmark = pytest.mark.platform

Register = Callable[[], User]

CURRENCIES = (
    *("USD", "EUR", "GBP", "JPY", "AUD", "CAD", "CHF", "CNY", "INR", "MXN", "BRL", "KRW", "SGD"),
    *("HKD", "NOK", "SEK", "DKK", "NZD", "ZAR", "RUB", "AED", "SAR", "THB", "MYR", "IDR", "PHP"),
    *("VND", "PLN", "CZK", "HUF", "ILS", "TRY", "TWD", "CLP", "COP", "PEN", "ARS", "EGP", "NGN"),
    "KES",
)
STATUSES = ("pending", "processing", "completed", "failed", "cancelled")
TYPES = ("instant", "scheduled", "recurring")
LARGEST = 10_240


def issues(user: User, body: Any) -> set[str]:
    """The members that a payment is refused for."""
    answer = user.post(body)
    assert outcome(answer) == (400, "VALIDATION_ERROR"), answer.text
    paths = [issue["path"] for issue in answer.json()["error"]["details"]]
    return {".".join(map(str, path)) for path in paths}


def test_r1_101_the_listed_words_and_no_others(register: Register, vendor: User) -> None:
    """Forty currencies, three types, five states; wherever one of them enters."""
    payer, payee = register(), register()
    assert len(set(CURRENCIES)) == 40
    for currency in CURRENCIES:
        shown = payer.pay(payee, amount="7", currency=currency).json()["data"]
        assert (shown["currency"], shown["status"]) == (currency, "pending")
    for kind in TYPES:
        assert payer.pay(payee, type=kind).json()["data"]["type"] == kind
    payment_id = made(payer.pay(payee))
    for unlisted in ("XXX", "USDT", "US", "€", "BTC", "DEM", ""):
        assert outcome(payer.pay(payee, currency=unlisted)) == (400, "VALIDATION_ERROR")
        assert outcome(payer.put(payment_id, currency=unlisted)) == (400, "VALIDATION_ERROR")
        report = vendor.get(f"/payments/reports?currency={unlisted}")
        assert outcome(report) == (400, "VALIDATION_ERROR")
    for unlisted in ("monthly", "Instant", "", "pending"):
        assert outcome(payer.pay(payee, type=unlisted)) == (400, "VALIDATION_ERROR")
        assert outcome(payer.put(payment_id, type=unlisted)) == (400, "VALIDATION_ERROR")
        assert outcome(payer.get(f"/payments?type={unlisted}")) == (400, "VALIDATION_ERROR")
    for unlisted in ("done", "Pending", "", "canceled"):
        assert outcome(payer.change(payment_id, unlisted)) == (400, "VALIDATION_ERROR")
        assert outcome(payer.get(f"/payments?status={unlisted}")) == (400, "VALIDATION_ERROR")
    for status in STATUSES:
        assert payer.get(f"/payments?status={status}").status_code == 200
    report = vendor.get("/payments/reports").json()["data"]
    assert set(report["byStatus"]) <= set(STATUSES)
    assert set(report["byType"]) <= set(TYPES)


def test_r1_104_a_list_of_payments(register: Register, vendor: User) -> None:
    """Payments with both parties and no history, and where in the whole the page is."""
    payer = register()
    ids = [made(payer.pay(vendor, amount=str(number + 1))) for number in range(3)]

    answer = payer.get("/payments?limit=2&page=2&sort=amount&order=asc")
    empty = register().get("/payments")

    assert outcome(answer) == (200, None)
    data = answer.json()["data"]
    assert set(data) == {"payments", "pagination"}
    assert data["pagination"] == {"page": 2, "limit": 2, "total": 3, "totalPages": 2}
    (row,) = data["payments"]
    assert row["id"] == ids[2]
    assert row["sender"] == {"id": payer.id, "email": payer.email}
    assert row["recipient"] == {"id": vendor.id, "email": vendor.email}
    assert "transactions" not in row
    assert empty.json()["data"] == {
        "payments": [],
        "pagination": {"page": 1, "limit": 10, "total": 0, "totalPages": 0},
    }
    assert outcome(payer.get("/payments?limit=101")) == (400, "VALIDATION_ERROR")


def test_r1_111_a_payment_in_the_fewest_words(customer: User, vendor: User) -> None:
    """INR and no metadata by default; found by e-mail in any spelling; texts are cleaned."""
    body = {
        "type": "scheduled",
        "amount": "3",
        "description": " <b>Rent</b> ",
        "recipientEmail": f" {vendor.email.upper()} ",
    }

    data = customer.post(body).json()["data"]

    assert (data["currency"], data["amount"], data["type"]) == ("INR", "3.00", "scheduled")
    assert (data["description"], data["metadata"]) == ("Rent", None)
    assert (data["recipientId"], data["status"]) == (vendor.id, "pending")
    lower = customer.pay(vendor, currency="chf").json()["data"]
    assert lower["currency"] == "CHF"


def test_r1_111_the_id_wins(register: Register, vendor: User) -> None:
    """Of id and e-mail both given; the e-mail is checked all the same (R1.7)."""
    payer, other = register(), register()

    both = payer.pay(vendor, recipientEmail=other.email)
    unknown = payer.pay(vendor, recipientEmail="nobody@x.test")

    assert both.json()["data"]["recipientId"] == vendor.id
    assert unknown.json()["data"]["recipientId"] == vendor.id
    assert outcome(payer.pay(vendor, recipientEmail="x")) == (400, "VALIDATION_ERROR")


def test_r1_111_as_much_as_fits(customer: User, vendor: User) -> None:
    """500 characters of description after cleaning, 10 kB of metadata; one more is too much."""
    frame = len(json.dumps({"a": ""}, separators=(",", ":")))
    fits = {"a": "x" * (LARGEST - frame)}

    data = customer.pay(vendor, description=f"<i>{'d' * 500}</i>", metadata=fits).json()["data"]

    assert (len(data["description"]), data["metadata"]) == (500, fits)
    assert outcome(customer.pay(vendor, description="d" * 501)) == (400, "VALIDATION_ERROR")
    more = {"a": "x" * (LARGEST - frame + 1)}
    assert outcome(customer.pay(vendor, metadata=more)) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"type": None}, "type"),
        ({"amount": None}, "amount"),
        ({"amount": ""}, "amount"),
        ({"amount": True}, "amount"),
        ({"amount": [1]}, "amount"),
        ({"amount": "1,00"}, "amount"),
        ({"amount": "0.001"}, "amount"),
        ({"currency": 978}, "currency"),
        ({"description": None}, "description"),
        ({"description": " <b></b> "}, "description"),
        ({"description": 1}, "description"),
        ({"recipientId": "1"}, "recipientId"),
        ({"recipientId": None}, "recipientId"),
        ({"recipientEmail": "v@"}, "recipientEmail"),
        ({"metadata": [1]}, "metadata"),
        ({"metadata": "x"}, "metadata"),
    ],
)
def test_r1_111_each_member_is_checked(
    customer: User, vendor: User, change: dict[str, Any], wanted: str
) -> None:
    """400 naming the member."""
    body = {
        "type": "instant",
        "amount": "1",
        "currency": "USD",
        "description": "x",
        "recipientId": vendor.id,
    }
    assert customer.post(body).status_code == 201

    assert issues(customer, {**body, **change}) == {wanted}


def test_r1_111_what_is_missing_is_named(stack: Stack, customer: User, vendor: User) -> None:
    """Three members, and one way or the other to say who is paid."""
    whole = {"type": "instant", "amount": "1", "description": "x", "recipientId": vendor.id}
    assert issues(customer, {}) == {"type", "amount", "description", ""}
    for name in ("type", "amount", "description"):
        assert issues(customer, {key: whole[key] for key in whole if key != name}) == {name}
    key = str(uuid.uuid4())
    refused = customer.post({**whole, "recipientId": ""}, **{"Idempotency-Key": key})
    assert outcome(refused) == (400, "VALIDATION_ERROR")
