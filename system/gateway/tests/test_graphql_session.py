"""How an operation reaches the services, without services (R10.4, R10.7, R10.9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

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
OTHER = PAYMENT.replace("9", "8")
HISTORIES = "/internal/payments/transactions"


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


def page_of(*ids: str) -> dict[str, Any]:
    """A page of payments as lists give them."""
    return {
        "payments": [payment(id, whole=False) for id in ids],
        "pagination": {"page": 1, "limit": 100, "total": len(ids), "totalPages": 1},
    }


def step(id: str) -> dict[str, Any]:
    """A row of a payment's history."""
    return {
        "id": id,
        "status": "pending",
        "statusMessage": None,
        "pspTransactionId": None,
        "metadata": None,
        "createdAt": AT,
    }


class FakeRest:
    """Answers by target; implements `Rest` and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Service, str, str]] = []
        self.lines: list[bytes] = []
        self.body: bytes | None = None
        self.answers: dict[str, Any] = {}
        self.pages: dict[str, Any] = {}
        self.fault: Exception | None = None

    async def send(
        self,
        service: Service,
        method: str,
        target: str,
        lines: Sequence[bytes],
        body: bytes | None,
        *,
        internal: bool = False,
    ) -> RestAnswer:
        """See the port."""
        assert internal == target.startswith("/internal/")
        self.asked.append((service, method, target))
        self.lines = list(lines)
        self.body = body
        if self.fault is not None:
            raise self.fault
        path, _, query = target.partition("?")
        if path == "/payments" and self.pages:
            data = self.pages["".join(parse_qs(query).get("status", ()))]
        else:
            data = self.answers[path]
        if path == HISTORIES:
            ids = query.removeprefix("ids=").split(",")
            data = {payment_id: data[payment_id] for payment_id in ids if payment_id in data}
        return RestAnswer(200, msgspec.json.encode({"success": True, "data": data}))


@pytest.fixture
def rest() -> FakeRest:
    """Knows two payments and their list."""
    known = FakeRest()
    for id in (PAYMENT, OTHER):
        known.answers[f"/payments/{id}"] = payment(id, whole=True)
    known.answers["/payments"] = page_of(PAYMENT, OTHER)
    known.answers[HISTORIES] = {id: [step(id)] for id in (PAYMENT, OTHER)}
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
    """Only relations that the list lacks are, all in one call."""
    await execute(rest, "{payments{edges{node{id sender{id} recipient{email}}}}}")
    assert len(rest.asked) == 1
    rest.asked.clear()
    await execute(rest, "{payments{edges{node{transactions{id} more:transactions{status}}}}}")
    assert [target for _, _, target in rest.asked][1:] == [f"{HISTORIES}?ids={PAYMENT},{OTHER}"]


@pytest.mark.parametrize(("entries", "calls"), [(1, 2), (2, 2), (100, 2), (0, 1)])
async def test_r10_9_a_list_with_histories_takes_two_calls(entries: int, calls: int) -> None:
    """However long it is: one for the page, one for the histories of all its payments."""
    rest = FakeRest()
    ids = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(entries)]
    rest.answers["/payments"] = page_of(*ids)
    rest.answers[HISTORIES] = {payment_id: [step(f"step-of-{payment_id}")] for payment_id in ids}

    result = await execute(
        rest, "{payments(input:{first:100}){edges{node{id transactions{id} sender{id}}}}}"
    )

    assert result.errors is None
    assert len(rest.asked) == calls
    assert [
        (edge["node"]["id"], [each["id"] for each in edge["node"]["transactions"]])
        for edge in result.data["payments"]["edges"]
    ] == [(payment_id, [f"step-of-{payment_id}"]) for payment_id in ids]


async def test_r10_9_histories_of_several_lists_are_asked_for_by_the_hundred() -> None:
    """Three lists of one document, 250 payments: three pages, three calls for histories."""
    rest = FakeRest()
    ids = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(250)]
    for status, stretch in (("pending", ids[:100]), ("failed", ids[100:200]), ("", ids[200:])):
        rest.pages[status] = page_of(*stretch)
    rest.answers[HISTORIES] = {payment_id: [step(payment_id)] for payment_id in ids}
    node = "{edges{node{transactions{id}}}}"

    result = await execute(
        rest,
        f"{{a:payments(input:{{first:100}},filter:{{status:PENDING}}){node}"
        f" b:payments(input:{{first:100}},filter:{{status:FAILED}}){node}"
        f" c:payments(input:{{first:100}}){node}}}",
    )

    assert result.errors is None
    assert sum(target.startswith(HISTORIES) for _, _, target in rest.asked) == 3
    assert len(rest.asked) == 6


async def test_r10_9_a_payment_that_was_loaded_whole_is_not_asked_for_again(
    rest: FakeRest,
) -> None:
    """Its history came with it; the list's other payments take one call."""
    await execute(
        rest,
        f'{{payment(id:"{PAYMENT}"){{id}} payments{{edges{{node{{transactions{{id}}}}}}}}}}',
    )
    assert rest.asked[-1] == (Service.PAYMENTS, "GET", f"{HISTORIES}?ids={OTHER}")
    assert len(rest.asked) == 3


async def test_r10_4_a_history_that_may_not_be_seen_is_an_error_of_its_field(
    rest: FakeRest,
) -> None:
    """The payment changed hands after it was listed; the others are shown."""
    del rest.answers[HISTORIES][OTHER]
    result = await execute(rest, "{payments{edges{node{id transactions{id}}}}}")
    assert [error.original_error.code for error in result.errors] == ["FORBIDDEN"]
    assert result.errors[0].path == ["payments", "edges", 1, "node", "transactions"]


async def test_r10_9_a_history_is_read_anew_after_a_change(rest: FakeRest) -> None:
    """Mutations run one after the other, and each shows what is so after it."""
    rest.answers[f"/payments/{PAYMENT}/status"] = payment(PAYMENT, whole=False)
    change = f'updatePaymentStatus(id:"{PAYMENT}",status:CANCELLED){{transactions{{id}}}}'
    await execute(rest, f"mutation{{a:{change} b:{change}}}")
    assert [target for _, _, target in rest.asked] == [
        f"/payments/{PAYMENT}/status",
        f"{HISTORIES}?ids={PAYMENT}",
    ] * 2


@pytest.mark.parametrize(
    ("given", "body"),
    [
        (
            '{bio:"x",phone:null,preferences:{theme:"dark"}}',
            {"bio": "x", "phone": None, "preferences": {"theme": "dark"}},
        ),
        ('{preferences:{theme:"dark"}}', {"preferences": {"theme": "dark"}}),
        ('{bio:"x",preferences:null}', {"bio": "x"}),
    ],
)
async def test_r10_2_a_profile_is_changed_by_one_call(
    rest: FakeRest, given: str, body: dict[str, Any]
) -> None:
    """So that fields and preferences cannot be half done."""
    rest.answers["/internal/profile"] = {
        **dict.fromkeys(("avatarUrl", "phone", "address")),
        "id": "p",
        "userId": ALICE,
        "bio": "x",
        "preferences": {"theme": "dark"},
        "createdAt": AT,
        "updatedAt": AT,
    }
    result = await execute(rest, f"mutation{{updateProfile(input:{given}){{bio preferences}}}}")
    assert result.errors is None
    assert result.data == {"updateProfile": {"bio": "x", "preferences": {"theme": "dark"}}}
    assert rest.asked == [(Service.PROFILE, "PUT", "/internal/profile")]
    assert msgspec.json.decode(rest.body or b"") == body


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
