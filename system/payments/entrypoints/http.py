"""The routes of payments-service (1.11): reads requests, calls the use cases, writes answers."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, cast

import msgspec
from litestar import Request, Router, get, patch, post, put

from system.payments.domain import Actor, ActorRole, PaymentStatus
from system.payments.entrypoints.requests import (
    EDIT,
    IDEMPOTENCY_KEY,
    KEY_HEADER,
    LIST,
    NEW_PAYMENT,
    PAYMENT_ID,
    PAYMENT_IDS,
    REPORT,
    STATUS_CHANGE,
    edit_of,
    list_query,
    new_payment,
    report_query,
)
from system.payments.entrypoints.shapes import (
    PAYMENT,
    PAYMENT_PAGE,
    PAYMENT_WITH_ALL,
    PAYMENT_WITH_PARTIES,
    RECIPIENTS,
    REPORT_SHOWN,
)
from system.payments.ports import ListQuery
from system.payments.service.changes import PaymentChanges
from system.payments.service.commands import PaymentCommands
from system.payments.service.reading import PaymentReads
from system.platform.cache.answers import Answer
from system.platform.http.openapi import operation
from system.platform.http.replies import Reply, created, success
from system.platform.http.requests import json_body, query, query_of, wants_fresh
from system.platform.http.validation import parse_all
from system.platform.security.litestar import authenticated, internal_only
from system.platform.security.principal import Principal, require_role

AnyRequest = Request[Any, Any, Any]

# R1.102: its digits count as they were written.
_EXACT: Final = ("amount",)


@get("/payments")
@operation("List payments", query=LIST, answers={200: PAYMENT_PAGE})
async def list_payments(request: AnyRequest) -> Reply:
    """R1.104."""
    actor = _actor(await authenticated(request))
    wanted = _list_query(actor, request.scope["query_string"])
    return _cached(await _reads(request).page(actor, wanted, fresh=wants_fresh(request)))


@lru_cache(maxsize=4096)
def _list_query(actor: Actor, query_string: bytes) -> ListQuery:
    """Read the parameters of a list; the same text of the same actor is judged once."""
    return list_query(actor, query_of(query_string))


@get("/payments/recipients")
@operation("List whom one can pay", answers={200: RECIPIENTS})
async def list_recipients(request: AnyRequest) -> Reply:
    """R1.105."""
    principal = await authenticated(request)
    answer = await _reads(request).recipients(principal.user_id, fresh=wants_fresh(request))
    return _cached(answer)


@get("/payments/reports")
@operation(
    "Add up the payments of a period",
    query=REPORT,
    answers={200: REPORT_SHOWN},
    errors={403: ["FORBIDDEN"]},
)
async def get_report(request: AnyRequest) -> Reply:
    """R1.106."""
    principal = await authenticated(request)
    require_role(principal, ActorRole.VENDOR, ActorRole.ADMIN)
    actor = _actor(principal)
    wanted = report_query(actor, query(request), datetime.now(UTC))
    return _cached(await _reads(request).report(actor, wanted, fresh=wants_fresh(request)))


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
    links={
        201: {
            "getPayment": {"id": "data/id"},
            "editPayment": {"id": "data/id"},
            "changeStatus": {"id": "data/id"},
        }
    },
)
async def create_payment(request: AnyRequest) -> Reply:
    """R1.108."""
    principal = await authenticated(request)
    draft, key = new_payment(
        await json_body(request, exact=_EXACT), request.headers.get(IDEMPOTENCY_KEY)
    )
    outcome = await _commands(request).create(principal.user_id, draft, key)
    return created(
        outcome.data, headers={"Idempotency-Replayed": "true"} if outcome.replayed else None
    )


@put("/payments/{id:str}")
@operation(
    "Edit a pending payment",
    path=PAYMENT_ID,
    body=EDIT,
    answers={200: PAYMENT_WITH_ALL},
    errors={
        400: ["INVALID_STATUS", "INVALID_RECIPIENT", "SELF_PAYMENT_NOT_ALLOWED"],
        403: ["FORBIDDEN"],
        404: ["PAYMENT_NOT_FOUND", "RECIPIENT_NOT_FOUND"],
    },
)
async def edit_payment(request: AnyRequest) -> Reply:
    """R1.109."""
    actor = _actor(await authenticated(request))
    payment_id, edit = edit_of(request.path_params, await json_body(request, exact=_EXACT))
    return success(await _changes(request).edit(actor, payment_id, edit))


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
    changed = await _changes(request).change_status(
        actor, path["id"], PaymentStatus(given["status"]), given.get("reason") or None
    )
    return success(changed)


@get("/payments/{id:str}/parties")
async def parties(request: AnyRequest) -> Reply:
    """Who sent and who receives, for the gateway's rooms (R1.153, R4.20)."""
    wanted = PAYMENT_ID.parse(request.path_params)
    sender_id, recipient_id = await _reads(request).parties(wanted["id"])
    return success({"senderId": sender_id, "recipientId": recipient_id})


@get("/payments/transactions")
async def transactions(request: AnyRequest) -> Reply:
    """The histories of many payments in one go, for GraphQL; the caller's token counts as well."""
    actor = _actor(await authenticated(request))
    wanted = PAYMENT_IDS.parse(query(request))
    return success(await _reads(request).histories(actor, wanted["ids"].split(",")))


def routes(internal_token: str) -> list[Any]:
    """Return the service's routes, the internal ones behind their guard."""
    internal = Router(
        "/internal",
        route_handlers=[parties, transactions],
        guards=[internal_only(internal_token)],
    )
    return [
        list_payments,
        list_recipients,
        get_report,
        get_payment,
        create_payment,
        edit_payment,
        change_status,
        internal,
    ]


def _cached(answer: Answer) -> Reply:
    return success(msgspec.Raw(answer.body), headers={"X-Cache": answer.outcome.value})


def _actor(principal: Principal) -> Actor:
    return Actor(principal.user_id, ActorRole(principal.role))


def _reads(request: AnyRequest) -> PaymentReads:
    return cast("PaymentReads", request.app.state.reads)


def _commands(request: AnyRequest) -> PaymentCommands:
    return cast("PaymentCommands", request.app.state.commands)


def _changes(request: AnyRequest) -> PaymentChanges:
    return cast("PaymentChanges", request.app.state.changes)
