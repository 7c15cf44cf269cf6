"""How an operation reaches the services, without services (R10.4, R10.7, R10.9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from graphql import get_introspection_query

from system.gateway.domain.routes import RouteTable, Service
from system.gateway.entrypoints.graphql.endpoint import GraphQLEntry, Refused
from system.gateway.entrypoints.graphql.schema import SCHEMA
from system.gateway.entrypoints.graphql.session import Session
from system.gateway.ports import RestAnswer
from system.gateway.service.admission import AdmissionService, Exemptions
from system.gateway.tests.stand_ins import (
    ALICE,
    BOB,
    PAYMENT,
    FakeAuthentication,
    FakeCredentialLimiter,
    FakeGeneralLimiter,
    principal,
)
from system.platform.http import errors

AT = "2026-01-17T10:00:00.000Z"


def payment(id: str, *, whole: bool) -> dict[str, Any]:
    """A payment as lists give it, or with all its relations."""
    shown: dict[str, Any] = {
        "id": id,
        "senderId": ALICE,
        "recipientId": BOB,
        "amount": "1.00",
        "currency": "USD",
        "status": "pending",
        "type": "instant",
        "description": None,
        "metadata": None,
        "pspTransactionId": None,
        "pspStatus": None,
        "failureReason": None,
        "completedAt": None,
        "createdAt": AT,
        "updatedAt": AT,
        "sender": {"id": ALICE, "email": "a@x.test"},
        "recipient": {"id": BOB, "email": "b@x.test"},
    }
    return {**shown, "transactions": []} if whole else shown


class FakeRest:
    """Answers by target; implements `Rest` and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Service, str, str]] = []
        self.lines: list[bytes] = []
        self.answers: dict[str, Any] = {}
        self.fault: Exception | None = None

    async def send(
        self,
        service: Service,
        method: str,
        target: str,
        lines: Sequence[bytes],
        body: bytes | None,
    ) -> RestAnswer:
        """See the port."""
        self.asked.append((service, method, target))
        self.lines = list(lines)
        if self.fault is not None:
            raise self.fault
        data = self.answers[target.partition("?")[0]]
        return RestAnswer(200, msgspec.json.encode({"success": True, "data": data}))


@pytest.fixture
def rest() -> FakeRest:
    """Knows two payments and their list."""
    known = FakeRest()
    other = PAYMENT.replace("9", "8")
    for id in (PAYMENT, other):
        known.answers[f"/payments/{id}"] = payment(id, whole=True)
    known.answers["/payments"] = {
        "payments": [payment(PAYMENT, whole=False), payment(other, whole=False)],
        "pagination": {"page": 1, "limit": 10, "total": 2, "totalPages": 1},
    }
    return known


def admission() -> AdmissionService:
    """Knows Alice's token."""
    return AdmissionService(
        FakeAuthentication({"alice": principal(ALICE)}),
        FakeGeneralLimiter(),
        FakeCredentialLimiter(),
        Exemptions([]),
    )


async def execute(rest: FakeRest, query: str, token: str = "alice") -> Any:
    """Run a document as somebody."""
    session = Session(
        rest, RouteTable(), admission(), [f"Bearer {token}"], [b"X-Correlation-ID: c"]
    )
    try:
        return await SCHEMA.execute(query, context_value=session)
    finally:
        await session.close()


async def test_r10_9_an_entity_is_loaded_once(rest: FakeRest) -> None:
    """However often and under whatever name a document asks for it."""
    result = await execute(
        rest,
        f'{{a:payment(id:"{PAYMENT}"){{id sender{{id}}}} b:payment(id:"{PAYMENT}")'
        "{transactions{id} recipient{email}}}",
    )
    assert result.errors is None
    assert rest.asked == [(Service.PAYMENTS, "GET", f"/payments/{PAYMENT}")]


async def test_r10_9_what_a_list_gives_is_not_loaded_again(rest: FakeRest) -> None:
    """Only relations that the list lacks are, once for each entry."""
    await execute(rest, "{payments{edges{node{id sender{id} recipient{email}}}}}")
    assert len(rest.asked) == 1
    rest.asked.clear()
    await execute(rest, "{payments{edges{node{transactions{id} more:transactions{status}}}}}")
    assert len(rest.asked) == 3
    assert len(set(rest.asked)) == 3


async def test_r10_9_the_callers_token_and_headers_go_along(rest: FakeRest) -> None:
    """The service judges the caller again."""
    await execute(rest, f'{{payment(id:"{PAYMENT}"){{id}}}}')
    assert b"Authorization: Bearer alice" in rest.lines
    assert b"X-Correlation-ID: c" in rest.lines


async def test_r10_4_without_a_good_token_no_service_is_asked(rest: FakeRest) -> None:
    """The gateway judges first."""
    result = await execute(rest, f'{{payment(id:"{PAYMENT}"){{id}}}}', token="unknown")
    assert [error.original_error.code for error in result.errors] == ["TOKEN_INVALID"]
    assert rest.asked == []


async def test_r10_4_a_service_that_is_down_is_an_error_of_its_field(rest: FakeRest) -> None:
    """502 as REST would say; fields that need no service work."""
    rest.fault = errors.bad_gateway()
    result = await execute(rest, f'{{payment(id:"{PAYMENT}"){{id}} __typename}}')
    assert result.data == {"payment": None, "__typename": "Query"}
    assert result.errors[0].original_error is rest.fault


def entry(*, production: bool) -> GraphQLEntry:
    """The endpoint in either mode."""
    return GraphQLEntry(FakeRest(), RouteTable(), admission(), production=production)


def test_r10_7_introspection_works_in_development_only() -> None:
    """There it is free of the limits; in production it is not valid."""
    query = get_introspection_query(descriptions=False)
    document, _ = entry(production=False).judge(query, {}, None)
    assert document.definitions
    with pytest.raises(Refused) as refused:
        entry(production=True).judge(query, {}, None)
    assert {shown["extensions"]["code"] for shown in refused.value.errors} == {
        "GRAPHQL_VALIDATION_FAILED"
    }


def test_r10_7_field_names_are_suggested_in_development_only() -> None:
    """In production nobody learns names by guessing."""
    messages = {}
    for production in (False, True):
        with pytest.raises(Refused) as refused:
            entry(production=production).judge("{paymens{totalCount}}", {}, None)
        messages[production] = str(refused.value.errors)
    assert "Did you mean" in messages[False]
    assert "Did you mean" not in messages[True]
    assert "'payments'" not in messages[True]
