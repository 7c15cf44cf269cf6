"""What requests to payments-service must look like, and what they mean (1.11)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from system.payments.domain import (
    CURRENCIES,
    DEFAULT_CURRENCY,
    WHOLE_CURRENCIES,
    Actor,
    Draft,
    Edit,
    PaymentStatus,
    PaymentType,
    ProviderNotice,
    is_payable,
    report_period,
)
from system.payments.ports import ListQuery, ReportQuery
from system.payments.service.refusals import two_recipients
from system.platform.http.errors import Issue, validation
from system.platform.http.json_fields import JsonObject
from system.platform.http.numeric_fields import Amount, Integer
from system.platform.http.text_fields import Choice, Date, Email, Matching, Text, Uuid
from system.platform.http.validation import DescribedRule, Rule, Schema, at_least_one, parse_all

STATUSES: Final = tuple(status.value for status in PaymentStatus)
TYPES: Final = tuple(type.value for type in PaymentType)
IDEMPOTENCY_KEY: Final = "Idempotency-Key"
TIMESTAMP: Final = "X-Webhook-Timestamp"
SIGNATURE: Final = "X-Webhook-Signature"
# A filter may begin at nothing and end above what a single payment may be.
_ANY_AMOUNT: Final = Amount(
    minimum=Decimal("0.00"), maximum=Decimal("999999999999.99"), optional=True
)


def _whole_amount(values: Mapping[str, Any]) -> Iterable[Issue]:
    amount, currency = values.get("amount"), values.get("currency")
    if amount is not None and currency is not None and not is_payable(amount, currency):
        yield Issue(("amount",), "custom", f"{currency} allows only whole amounts")


# R1.102 in the words of JSON Schema.
_WHOLE_AMOUNT: Final = {
    "if": {
        "properties": {"currency": {"enum": sorted(WHOLE_CURRENCIES)}},
        "required": ["currency"],
    },
    "then": {
        "properties": {
            "amount": {
                "anyOf": [
                    {"type": "string", "pattern": r"^[0-9]+(?:\.00?)?$"},
                    {"type": "integer"},
                ]
            }
        }
    },
}


def _left_to_its_code(_: Mapping[str, Any]) -> Iterable[Issue]:
    return ()


# R1.116 has a code of its own for this; only the description needs to know here.
_NOT_BOTH_RECIPIENTS: Final = DescribedRule(
    _left_to_its_code, {"not": {"required": ["recipientId", "recipientEmail"]}}
)


def _same_bound(first: str, second: str) -> Rule:
    def rule(values: Mapping[str, Any]) -> Iterable[Issue]:
        one, other = values.get(first), values.get(second)
        if one is not None and other is not None and one != other:
            yield Issue((second,), "custom", f"Differs from {first}, which names the same bound")

    return rule


def _ordered_bounds(values: Mapping[str, Any]) -> Iterable[Issue]:
    start, end = _start(values), _end(values)
    if start is not None and end is not None and end < start:
        name = "endDate" if values.get("endDate") is not None else "toDate"
        yield Issue((name,), "custom", "Must not be before the start")
    least, most = values.get("minAmount"), values.get("maxAmount")
    if least is not None and most is not None and least > most:
        yield Issue(("maxAmount",), "custom", "Must not be below minAmount")


def _start(values: Mapping[str, Any]) -> datetime | None:
    start = values.get("startDate")
    return values.get("fromDate") if start is None else start


def _end(values: Mapping[str, Any]) -> datetime | None:
    end = values.get("endDate")
    return values.get("toDate") if end is None else end


PAYMENT_ID: Final = Schema({"id": Uuid()})
_ID: Final = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
PAYMENT_IDS: Final = Schema(
    {"ids": Matching(f"{_ID}(,{_ID}){{0,99}}", "Expected 1 to 100 ids with commas between them")}
)
NEW_PAYMENT: Final = Schema(
    {
        "type": Choice(*TYPES, example="instant"),
        "amount": Amount(example="100.50"),
        "currency": Choice(*CURRENCIES, upper=True, default=DEFAULT_CURRENCY, example="USD"),
        "description": Text(1, 500, example="Lunch"),
        "recipientId": Uuid(optional=True),
        "recipientEmail": Email(optional=True, example="vendor@example.com"),
        "metadata": JsonObject(optional=True),
    },
    [
        at_least_one("recipientId", "recipientEmail"),
        DescribedRule(_whole_amount, _WHOLE_AMOUNT),
    ],
)
EDIT: Final = Schema(
    {
        "amount": Amount(optional=True, example="120.00"),
        "currency": Choice(*CURRENCIES, upper=True, optional=True, example="USD"),
        "type": Choice(*TYPES, optional=True),
        "description": Text(0, 500, optional=True, example="Dinner"),
        "recipientId": Uuid(optional=True),
        "recipientEmail": Email(optional=True),
        "metadata": JsonObject(optional=True),
    },
    [
        at_least_one(
            "amount",
            "currency",
            "type",
            "description",
            "recipientId",
            "recipientEmail",
            "metadata",
        ),
        _NOT_BOTH_RECIPIENTS,
        DescribedRule(_whole_amount, _WHOLE_AMOUNT),
    ],
)
KEY_HEADER: Final = Schema(
    {
        IDEMPOTENCY_KEY: Matching(
            r"[\x20-\x7e]{1,255}", "Expected 1 to 255 printable ASCII characters", optional=True
        )
    }
)
STATUS_CHANGE: Final = Schema(
    {"status": Choice(*STATUSES), "reason": Text(maximum=500, optional=True)}
)
# Described only: whatever is wrong about them is one answer (R1.121).
SIGNED: Final = Schema(
    {
        TIMESTAMP: Matching(r"[0-9]{1,12}", "Expected unix seconds", example="1768644000"),
        SIGNATURE: Matching(
            r"sha256=[0-9a-f]{64}", "Expected sha256= and 64 digits", example="sha256=" + "0" * 64
        ),
    }
)
NOTICE: Final = Schema(
    {
        "paymentId": Uuid(),
        "status": Choice(*STATUSES),
        "pspTransactionId": Text(maximum=255, optional=True, example="psp-1"),
        "pspStatus": Text(maximum=100, optional=True, example="SETTLED"),
        "failureReason": Text(maximum=1000, optional=True),
        "metadata": JsonObject(optional=True),
    }
)
LIST: Final = Schema(
    {
        "page": Integer(1, default=1),
        "limit": Integer(1, 100, default=10),
        "sort": Choice("createdAt", "amount", "status", default="createdAt"),
        "order": Choice("asc", "desc", default="desc"),
        "status": Choice(*STATUSES, optional=True),
        "type": Choice(*TYPES, optional=True),
        "startDate": Date(optional=True),
        "fromDate": Date(optional=True),
        "endDate": Date(end=True, optional=True),
        "toDate": Date(end=True, optional=True),
        "minAmount": _ANY_AMOUNT,
        "maxAmount": _ANY_AMOUNT,
    },
    [_same_bound("startDate", "fromDate"), _same_bound("endDate", "toDate"), _ordered_bounds],
)
REPORT: Final = Schema(
    {
        "startDate": Date(optional=True),
        "endDate": Date(end=True, optional=True),
        "currency": Choice(*CURRENCIES, upper=True, optional=True, example="USD"),
    }
)


def list_query(actor: Actor, given: Mapping[str, Any]) -> ListQuery:
    """Read the parameters of a list (R1.110).

    Raises:
        ApiError: 400 VALIDATION_ERROR.
    """
    values = LIST.parse(given)
    status, kind = values.get("status"), values.get("type")
    return ListQuery(
        visible_to=None if actor.is_admin else actor.user_id,
        page=values["page"],
        limit=values["limit"],
        sort=values["sort"],
        descending=values["order"] == "desc",
        status=None if status is None else PaymentStatus(status),
        type=None if kind is None else PaymentType(kind),
        start=_start(values),
        end=_end(values),
        min_amount=values.get("minAmount"),
        max_amount=values.get("maxAmount"),
    )


def report_query(actor: Actor, given: Mapping[str, Any], now: datetime) -> ReportQuery:
    """Read the parameters of a report (R1.106, R1.123).

    Raises:
        ApiError: 400 VALIDATION_ERROR.
    """
    values, issues = REPORT.collect(given)
    start, end = report_period(values.get("startDate"), values.get("endDate"), now)
    if end < start:
        name = "endDate" if "endDate" in values else "startDate"
        issues.append(Issue((name,), "custom", "The end must not be before the start"))
    if issues:
        raise validation(issues)
    return ReportQuery(
        visible_to=None if actor.is_admin else actor.user_id,
        start=start,
        end=end,
        currency=values.get("currency"),
    )


def new_payment(body: Mapping[str, Any], key: str | None) -> tuple[Draft, str | None]:
    """Read a create: the payment and its Idempotency-Key (R1.111, R1.114).

    Raises:
        ApiError: 400 VALIDATION_ERROR.
    """
    given, headers = parse_all(
        (NEW_PAYMENT, body), (KEY_HEADER, {} if key is None else {IDEMPOTENCY_KEY: key})
    )
    draft = Draft(
        amount=given["amount"],
        currency=given["currency"],
        type=PaymentType(given["type"]),
        description=given["description"],
        recipient_id=given.get("recipientId"),
        recipient_email=given.get("recipientEmail"),
        metadata=given.get("metadata"),
    )
    return draft, headers.get(IDEMPOTENCY_KEY)


def edit_of(path: Mapping[str, Any], body: Mapping[str, Any]) -> tuple[str, Edit]:
    """Read an edit: the payment's id and what is to change (R1.116).

    Raises:
        ApiError: 400 VALIDATION_ERROR or INVALID_RECIPIENT.
    """
    wanted, given = parse_all((PAYMENT_ID, path), (EDIT, body))
    if "recipientId" in given and "recipientEmail" in given:
        raise two_recipients()
    kind = given.get("type")
    return wanted["id"], Edit(
        amount=given.get("amount"),
        currency=given.get("currency"),
        type=None if kind is None else PaymentType(kind),
        description=given.get("description"),
        recipient_id=given.get("recipientId"),
        recipient_email=given.get("recipientEmail"),
        metadata=given.get("metadata"),
    )


def notice_of(body: Mapping[str, Any]) -> ProviderNotice:
    """Read what the payment provider says; an empty text says nothing (R1.118).

    Raises:
        ApiError: 400 VALIDATION_ERROR.
    """
    given = NOTICE.parse(body)
    return ProviderNotice(
        payment_id=given["paymentId"],
        status=PaymentStatus(given["status"]),
        psp_transaction_id=given.get("pspTransactionId") or None,
        psp_status=given.get("pspStatus") or None,
        failure_reason=given.get("failureReason") or None,
        metadata=given.get("metadata"),
    )
