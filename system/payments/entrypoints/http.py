"""The routes of payments-service (1.11): reads requests, calls the use cases, writes answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, cast

import msgspec
from litestar import Request, Router, get, patch, post

from system.payments.domain import (
    CURRENCIES,
    DEFAULT_CURRENCY,
    WHOLE_CURRENCIES,
    Actor,
    ActorRole,
    Draft,
    PaymentStatus,
    PaymentType,
    is_payable,
)
from system.payments.ports import ListQuery
from system.payments.service.commands import PaymentCommands
from system.payments.service.reading import PaymentReads
from system.platform.cache.cache import Answer
from system.platform.http.app import Reply, created, json_body, query, success, wants_fresh
from system.platform.http.openapi import operation
from system.platform.http.shapes import (
    AMOUNT,
    ANY_OBJECT,
    EMAIL,
    ID,
    MOMENT,
    PAGINATION,
    TEXT,
    array,
    nullable,
    one_of,
    shape,
)
from system.platform.http.validation import (
    Amount,
    Choice,
    Date,
    DescribedRule,
    Email,
    Integer,
    Issue,
    JsonObject,
    Matching,
    Schema,
    Text,
    Uuid,
    at_least_one,
    parse_all,
)
from system.platform.security.litestar import authenticated, internal_only
from system.platform.security.principal import Principal

AnyRequest = Request[Any, Any, Any]

STATUSES: Final = tuple(status.value for status in PaymentStatus)
TYPES: Final = tuple(type.value for type in PaymentType)
IDEMPOTENCY_KEY: Final = "Idempotency-Key"
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


def _same_bound(first: str, second: str) -> Any:
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


def _start(values: Mapping[str, Any]) -> Any:
    start = values.get("startDate")
    return values.get("fromDate") if start is None else start


def _end(values: Mapping[str, Any]) -> Any:
    end = values.get("endDate")
    return values.get("toDate") if end is None else end


PAYMENT_ID: Final = Schema({"id": Uuid()})
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
LIST: Final = Schema(
    {
        "page": Integer(1, 10**9, default=1),
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

PARTY: Final = shape("Party", {"id": ID, "email": EMAIL})
TRANSACTION: Final = shape(
    "PaymentTransaction",
    {
        "id": ID,
        "paymentId": ID,
        "status": one_of(*STATUSES),
        "statusMessage": nullable(TEXT),
        "pspTransactionId": nullable(TEXT),
        "metadata": nullable(ANY_OBJECT),
        "createdAt": MOMENT,
    },
)
_PAYMENT_MEMBERS: Final = {
    "id": ID,
    "senderId": ID,
    "recipientId": nullable(ID),
    "amount": AMOUNT,
    "currency": one_of(*CURRENCIES),
    "status": one_of(*STATUSES),
    "type": one_of(*TYPES),
    "description": nullable(TEXT),
    "metadata": nullable(ANY_OBJECT),
    "pspTransactionId": nullable(TEXT),
    "pspStatus": nullable(TEXT),
    "failureReason": nullable(TEXT),
    "completedAt": nullable(MOMENT),
    "createdAt": MOMENT,
    "updatedAt": MOMENT,
}
PAYMENT: Final = shape("Payment", _PAYMENT_MEMBERS)
PAYMENT_WITH_PARTIES: Final = shape(
    "PaymentWithParties",
    {**_PAYMENT_MEMBERS, "sender": nullable(PARTY), "recipient": nullable(PARTY)},
)
PAYMENT_WITH_ALL: Final = shape(
    "PaymentWithAll", {**PAYMENT_WITH_PARTIES.members, "transactions": array(TRANSACTION)}
)
PAYMENT_PAGE: Final = shape(
    "PaymentPage", {"payments": array(PAYMENT_WITH_PARTIES), "pagination": PAGINATION}
)


@get("/payments")
@operation("List payments", query=LIST, answers={200: PAYMENT_PAGE})
async def list_payments(request: AnyRequest) -> Reply:
    """R1.104."""
    actor = _actor(await authenticated(request))
    given = query(request)
    answer = await _reads(request).page(actor, list_query(actor, given), fresh=wants_fresh(request))
    return _cached(answer)


@get("/payments/{id:str}")
@operation(
    "Show a payment",
    path=PAYMENT_ID,
    answers={200: PAYMENT_WITH_ALL},
    errors={403: ["FORBIDDEN"], 404: ["PAYMENT_NOT_FOUND"]},
)
async def get_payment(request: AnyRequest) -> Reply:
    """R1.107."""
    actor = _actor(await authenticated(request))
    wanted = PAYMENT_ID.parse(request.path_params)
    answer = await _reads(request).payment(actor, wanted["id"], fresh=wants_fresh(request))
    return _cached(answer)


@post("/payments")
@operation(
    "Create a payment",
    headers=KEY_HEADER,
    body=NEW_PAYMENT,
    answers={201: PAYMENT_WITH_PARTIES},
    errors={
        400: ["SELF_PAYMENT_NOT_ALLOWED"],
        404: ["RECIPIENT_NOT_FOUND"],
        409: ["IDEMPOTENCY_KEY_REUSED"],
    },
    links={201: {"getPayment": {"id": "data/id"}, "changeStatus": {"id": "data/id"}}},
)
async def create_payment(request: AnyRequest) -> Reply:
    """R1.108."""
    principal = await authenticated(request)
    key = request.headers.get(IDEMPOTENCY_KEY)
    given, headers = parse_all(
        (NEW_PAYMENT, await json_body(request)),
        (KEY_HEADER, {} if key is None else {IDEMPOTENCY_KEY: key}),
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
    outcome = await _commands(request).create(
        principal.user_id, draft, headers.get(IDEMPOTENCY_KEY)
    )
    return created(
        outcome.data, headers={"Idempotency-Replayed": "true"} if outcome.replayed else None
    )


@patch("/payments/{id:str}/status")
@operation(
    "Change the status of a payment",
    path=PAYMENT_ID,
    body=STATUS_CHANGE,
    answers={200: PAYMENT},
    errors={
        403: ["FORBIDDEN"],
        404: ["PAYMENT_NOT_FOUND"],
        409: ["INVALID_STATUS_TRANSITION"],
    },
)
async def change_status(request: AnyRequest) -> Reply:
    """R1.117."""
    actor = _actor(await authenticated(request))
    path, given = parse_all(
        (PAYMENT_ID, request.path_params), (STATUS_CHANGE, await json_body(request))
    )
    changed = await _commands(request).change_status(
        actor, path["id"], PaymentStatus(given["status"]), given.get("reason") or None
    )
    return success(changed)


@get("/payments/{id:str}/parties")
async def parties(request: AnyRequest) -> Reply:
    """Who sent and who receives, for the gateway's rooms (R1.153, R4.20)."""
    wanted = PAYMENT_ID.parse(request.path_params)
    sender_id, recipient_id = await _reads(request).parties(wanted["id"])
    return success({"senderId": sender_id, "recipientId": recipient_id})


def routes(internal_token: str) -> list[Any]:
    """Return the service's routes, the internal one behind its guard."""
    internal = Router("/internal", route_handlers=[parties], guards=[internal_only(internal_token)])
    return [list_payments, get_payment, create_payment, change_status, internal]


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


def _cached(answer: Answer) -> Reply:
    return success(msgspec.Raw(answer.body), headers={"X-Cache": answer.outcome.value})


def _actor(principal: Principal) -> Actor:
    return Actor(principal.user_id, ActorRole(principal.role))


def _reads(request: AnyRequest) -> PaymentReads:
    return cast("PaymentReads", request.app.state.reads)


def _commands(request: AnyRequest) -> PaymentCommands:
    return cast("PaymentCommands", request.app.state.commands)
