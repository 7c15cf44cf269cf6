"""Holds the reading of list parameters and of new payments to R1.110 and R1.111, by tables."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from system.payments.domain import Actor, ActorRole, PaymentStatus
from system.payments.entrypoints.requests import KEY_HEADER, NEW_PAYMENT, list_query
from system.payments.ports import ListQuery
from system.payments.service.reading import normal_form
from system.platform.http.errors import ApiError

USER = Actor("u", ActorRole.CUSTOMER)
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
