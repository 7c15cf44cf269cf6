"""Holds the reading of requests to R1.110, R1.111, R1.116, R1.118 and R1.123, by tables."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from system.payments.domain import (
    Actor,
    ActorRole,
    Edit,
    PaymentStatus,
    PaymentType,
    ProviderNotice,
)
from system.payments.entrypoints.requests import (
    KEY_HEADER,
    NEW_PAYMENT,
    edit_of,
    list_query,
    notice_of,
    report_query,
)
from system.payments.ports import ListQuery, ReportQuery
from system.payments.service.reading import normal_form
from system.platform.http.errors import ApiError

USER = Actor("u", ActorRole.CUSTOMER)
ID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
DAY_END = datetime(2026, 1, 31, 23, 59, 59, 999000, UTC)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"page": "3", "limit": "100"}, {"page": 3, "limit": 100}),
        ({"sort": "amount", "order": "asc"}, {"sort": "amount", "descending": False}),
        ({"status": "failed"}, {"status": PaymentStatus.FAILED}),
        ({"startDate": "2026-01-01"}, {"start": datetime(2026, 1, 1, tzinfo=UTC)}),
        ({"fromDate": "2026-01-01"}, {"start": datetime(2026, 1, 1, tzinfo=UTC)}),
        ({"endDate": "2026-01-31"}, {"end": DAY_END}),
        ({"toDate": "2026-01-31"}, {"end": DAY_END}),
        ({"endDate": "2026-01-31", "toDate": "2026-01-31T23:59:59.999Z"}, {"end": DAY_END}),
        (
            {"startDate": "2026-01-01T01:00:00+01:00", "fromDate": "2026-01-01"},
            {"start": datetime(2026, 1, 1, tzinfo=UTC)},
        ),
        ({"minAmount": "0", "maxAmount": "0"}, {"min_amount": 0, "max_amount": 0}),
        ({"minAmount": "1.5"}, {"min_amount": Decimal("1.50")}),
        ({"startDate": "2026-01-31", "endDate": "2026-01-31"}, None),
        ({"unknown": "x"}, {}),
    ],
)
def test_list_parameters(given: dict[str, str], expected: dict[str, Any] | None) -> None:
    """Good parameters are read in their normal form; unknown ones are ignored."""
    query = list_query(USER, given)

    if expected is not None:
        assert query == ListQuery(visible_to="u", **expected)


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ({"page": "0"}, ["page"]),
        ({"page": "1.5"}, ["page"]),
        ({"page": "1" * 16}, ["page"]),
        ({"limit": "0"}, ["limit"]),
        ({"limit": "101"}, ["limit"]),
        ({"sort": "id"}, ["sort"]),
        ({"order": "up"}, ["order"]),
        ({"status": ""}, ["status"]),
        ({"type": "once"}, ["type"]),
        ({"startDate": "yesterday"}, ["startDate"]),
        ({"endDate": "2026-02-30"}, ["endDate"]),
        ({"minAmount": "1.005"}, ["minAmount"]),
        ({"maxAmount": "-1"}, ["maxAmount"]),
        ({"startDate": "2026-01-01", "fromDate": "2026-01-02"}, ["fromDate"]),
        ({"endDate": "2026-01-01", "toDate": "2026-01-02"}, ["toDate"]),
        ({"startDate": "2026-01-02", "endDate": "2026-01-01"}, ["endDate"]),
        ({"fromDate": "2026-01-02", "toDate": "2026-01-01"}, ["toDate"]),
        ({"minAmount": "2", "maxAmount": "1.99"}, ["maxAmount"]),
        ({"page": ["1", "2"]}, ["page"]),
        ({"page": "x", "limit": "x", "status": "x"}, ["page", "limit", "status"]),
    ],
)
def test_bad_list_parameters(given: dict[str, Any], paths: list[str]) -> None:
    """Every broken rule is named at once."""
    with pytest.raises(ApiError) as error:
        list_query(USER, given)

    assert error.value.code == "VALIDATION_ERROR"
    assert [issue["path"] for issue in error.value.details] == [[path] for path in paths]


def test_administrators_see_all() -> None:
    """An ADMIN's list has no owner (R1.103)."""
    assert list_query(Actor("a", ActorRole.ADMIN), {}).visible_to is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"page": "1", "limit": "10", "sort": "createdAt", "order": "desc"}),
        ({"minAmount": "1"}, {"minAmount": "1.00"}),
        ({"startDate": "2026-01-01"}, {"fromDate": "2026-01-01T00:00:00Z"}),
        ({"endDate": "2026-01-01"}, {"toDate": "2026-01-01T23:59:59.999Z"}),
    ],
)
def test_equal_requests_share_a_key(one: dict[str, str], other: dict[str, str]) -> None:
    """Spellings of one request have one normal form (R6.4)."""
    assert normal_form(list_query(USER, one)) == normal_form(list_query(USER, other))


GOOD: dict[str, Any] = {
    "type": "instant",
    "amount": "100.50",
    "description": "Lunch",
    "recipientEmail": "v@x.test",
}


@pytest.mark.parametrize(
    ("change", "member", "expected"),
    [
        ({}, "amount", Decimal("100.50")),
        ({}, "currency", "INR"),
        ({"currency": "eur"}, "currency", "EUR"),
        ({"amount": 100.5}, "amount", Decimal("100.50")),
        ({"amount": 7}, "amount", Decimal("7.00")),
        ({"amount": 0.01}, "amount", Decimal("0.01")),
        ({"amount": 1.1}, "amount", Decimal("1.10")),
        ({"amount": 0.29}, "amount", Decimal("0.29")),
        ({"amount": 10000000}, "amount", Decimal("10000000.00")),
        ({"amount": "10000000.00"}, "amount", Decimal("10000000.00")),
        ({"amount": "5", "currency": "jpy"}, "amount", Decimal("5.00")),
        ({"amount": "5.00", "currency": "JPY"}, "amount", Decimal("5.00")),
        ({"description": " <b>a</b> "}, "description", "a"),
        ({"recipientEmail": " V@X.test "}, "recipientEmail", "v@x.test"),
        ({"metadata": {"a": [1]}}, "metadata", {"a": [1]}),
    ],
)
def test_new_payments(change: Mapping[str, Any], member: str, expected: Any) -> None:
    """Good bodies are read exactly; no amount passes through rounding (R1.102, R1.111)."""
    assert NEW_PAYMENT.parse({**GOOD, **change})[member] == expected


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        ({"amount": "0"}, ["amount"]),
        ({"amount": "0.001"}, ["amount"]),
        ({"amount": 1.005}, ["amount"]),
        ({"amount": "10000000.01"}, ["amount"]),
        ({"amount": "1e3"}, ["amount"]),
        ({"amount": "-1"}, ["amount"]),
        ({"amount": " 1"}, ["amount"]),
        ({"amount": Decimal("0.29999999999999999")}, ["amount"]),
        ({"amount": True}, ["amount"]),
        ({"amount": None}, ["amount"]),
        ({"amount": "5.50", "currency": "JPY"}, ["amount"]),
        ({"amount": 0.5, "currency": "KRW"}, ["amount"]),
        ({"currency": "XXX"}, ["currency"]),
        ({"type": "monthly"}, ["type"]),
        ({"description": "<b></b>"}, ["description"]),
        ({"description": "x" * 501}, ["description"]),
        ({"recipientEmail": "v"}, ["recipientEmail"]),
        ({"recipientId": "1"}, ["recipientId"]),
        ({"metadata": []}, ["metadata"]),
        ({"metadata": {"a": "x" * 10240}}, ["metadata"]),
    ],
)
def test_bad_new_payments(change: Mapping[str, Any], paths: list[str]) -> None:
    """Each broken rule of R1.111 is a VALIDATION_ERROR that names its member."""
    with pytest.raises(ApiError) as error:
        NEW_PAYMENT.parse({**GOOD, **change})

    assert [issue["path"] for issue in error.value.details] == [[path] for path in paths]


def test_an_empty_body_names_everything() -> None:
    """All that is missing is named at once (R1.16)."""
    with pytest.raises(ApiError) as error:
        NEW_PAYMENT.parse({})

    assert [issue["path"] for issue in error.value.details] == [
        ["type"],
        ["amount"],
        ["description"],
        [],
    ]


@pytest.mark.parametrize(("key", "good"), [("k", True), ("~ " * 127, True), ("", False)])
def test_idempotency_keys(key: str, good: bool) -> None:
    """1 to 255 printable ASCII characters (R1.114)."""
    assert (not KEY_HEADER.collect({"Idempotency-Key": key})[1]) is good


@pytest.mark.parametrize("key", ["x" * 256, "é", "a\tb"])
def test_bad_idempotency_keys(key: str) -> None:
    """Longer or other characters are refused (R1.114)."""
    assert KEY_HEADER.collect({"Idempotency-Key": key})[1]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"amount": "7"}, Edit(amount=Decimal("7.00"))),
        ({"currency": "eur"}, Edit(currency="EUR")),
        ({"type": "recurring"}, Edit(type=PaymentType.RECURRING)),
        ({"description": ""}, Edit(description="")),
        ({"description": "<b>"}, Edit(description="")),
        ({"recipientId": ID.upper()}, Edit(recipient_id=ID)),
        ({"recipientEmail": " V@X.test"}, Edit(recipient_email="v@x.test")),
        ({"metadata": {}}, Edit(metadata={})),
        ({"amount": "5.00", "currency": "JPY"}, Edit(amount=Decimal("5.00"), currency="JPY")),
        ({"amount": "5.50"}, Edit(amount=Decimal("5.50"))),
    ],
)
def test_edits(given: dict[str, Any], expected: Edit) -> None:
    """Any member alone is an edit; what is not there stays (R1.116)."""
    assert edit_of({"id": ID}, given) == (ID, expected)


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ({}, [[]]),
        ({"status": "completed"}, [[]]),
        ({"amount": "0"}, [["amount"]]),
        ({"amount": "5.50", "currency": "JPY"}, [["amount"]]),
        ({"description": "x" * 501}, [["description"]]),
        ({"metadata": None}, [["metadata"]]),
        ({"recipientId": "x", "recipientEmail": "v@x.test"}, [["recipientId"]]),
        ({"type": "x", "currency": "XXX"}, [["currency"], ["type"]]),
    ],
)
def test_bad_edits(given: dict[str, Any], paths: list[list[str]]) -> None:
    """Each broken rule is a VALIDATION_ERROR that names its member (R1.116)."""
    with pytest.raises(ApiError) as error:
        edit_of({"id": ID}, given)

    assert error.value.code == "VALIDATION_ERROR"
    assert [issue["path"] for issue in error.value.details] == paths


def test_path_and_body_are_judged_at_once() -> None:
    """R1.16."""
    with pytest.raises(ApiError) as error:
        edit_of({"id": "x"}, {"amount": "x"})

    assert [issue["path"] for issue in error.value.details] == [["id"], ["amount"]]


def test_two_recipients_have_a_code_of_their_own() -> None:
    """R1.116: by id and by e-mail, even if they are one."""
    with pytest.raises(ApiError) as error:
        edit_of({"id": ID}, {"recipientId": ID, "recipientEmail": "v@x.test"})

    assert (error.value.status, error.value.code) == (400, "INVALID_RECIPIENT")


NOW = datetime(2026, 3, 5, 13, 30, tzinfo=UTC)
VENDOR = Actor("v", ActorRole.VENDOR)


@pytest.mark.parametrize(
    ("given", "start", "end", "currency"),
    [
        ({}, "2026-02-03", "2026-03-05", None),
        ({"startDate": "2026-03-01"}, "2026-03-01", "2026-03-05", None),
        ({"endDate": "2026-01-31"}, "2026-01-01", "2026-01-31", None),
        ({"startDate": "2026-01-31", "endDate": "2026-01-31"}, "2026-01-31", "2026-01-31", None),
        ({"currency": "eur"}, "2026-02-03", "2026-03-05", "EUR"),
    ],
)
def test_report_parameters(
    given: dict[str, str], start: str, end: str, currency: str | None
) -> None:
    """Whole UTC days, the last 31 of them by default (R1.123)."""
    query = report_query(VENDOR, given, NOW)

    assert query == ReportQuery(
        "v",
        datetime.fromisoformat(f"{start}T00:00:00Z"),
        datetime.fromisoformat(f"{end}T23:59:59.999Z"),
        currency,
    )


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ({"startDate": "x", "endDate": "x", "currency": "x"}, ["startDate", "endDate", "currency"]),
        ({"startDate": "2026-01-02", "endDate": "2026-01-01"}, ["endDate"]),
        ({"startDate": "2026-03-06"}, ["startDate"]),
    ],
)
def test_bad_report_parameters(given: dict[str, str], paths: list[str]) -> None:
    """A period that ends before it starts is none (R1.106)."""
    with pytest.raises(ApiError) as error:
        report_query(VENDOR, given, NOW)

    assert [issue["path"] for issue in error.value.details] == [[path] for path in paths]


def test_notices() -> None:
    """Only payment and status are required; texts are cleaned (R1.118, R1.19)."""
    assert notice_of({"paymentId": ID, "status": "failed"}) == ProviderNotice(
        ID, PaymentStatus.FAILED
    )
    assert notice_of(
        {
            "paymentId": ID,
            "status": "failed",
            "pspTransactionId": " 1<b> ",
            "pspStatus": "NO",
            "failureReason": "no funds",
            "metadata": {"a": 1},
        }
    ) == ProviderNotice(ID, PaymentStatus.FAILED, "1", "NO", "no funds", {"a": 1})


@pytest.mark.parametrize(
    ("name", "longest"), [("pspTransactionId", 255), ("pspStatus", 100), ("failureReason", 1000)]
)
def test_lengths_of_notices(name: str, longest: int) -> None:
    """R1.118."""
    good = {"paymentId": ID, "status": "failed", name: "x" * longest}

    notice_of(good)
    with pytest.raises(ApiError) as error:
        notice_of({**good, name: "x" * (longest + 1)})

    assert [issue["path"] for issue in error.value.details] == [[name]]
