"""The description of the API: joined, complete, valid, readable (R1.154)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from system.gateway.domain.description import Clash, join
from system.gateway.domain.routes import Service
from system.gateway.entrypoints.description import as_yaml
from system.gateway.entrypoints.description_page import page
from system.gateway.service.description import KEPT_S, DescriptionService
from system.platform.http.errors import ApiError
from system.platform.http.openapi import PUBLIC, Described, Operation, document
from system.platform.http.shapes import ID, TEXT, Part, shape
from system.platform.http.text_fields import Text, Uuid
from system.platform.http.validation import Schema

EMPTY: Mapping[str, Any] = {"paths": {}, "components": {"schemas": {}}}
PAYMENT = shape("Payment", {"id": ID})
BY_ID = Schema({"key": Uuid()})


def payments(answer: Part = PAYMENT) -> dict[str, Any]:
    """What payments-service says about two public routes and one that is not."""
    return document(
        [
            Described(
                "POST",
                "/payments",
                "create_payment",
                Operation(
                    summary="Create",
                    body=Schema({"description": Text(1, 5, example="<b>&")}),
                    answers={201: answer},
                    links={201: {"getPayment": {"id": "data/id"}, "gone": {"id": "data/id"}}},
                ),
            ),
            Described(
                "GET",
                "/payments/{key:str}",
                "get_payment",
                Operation(summary="Show", path=BY_ID, answers={200: answer}),
            ),
            Described(
                "DELETE",
                "/payments/{key:str}",
                "delete_payment",
                Operation(summary="Delete", path=BY_ID, answers={204: None}),
            ),
        ],
        "payments",
    )


def joined(**services: Mapping[str, Any]) -> dict[str, Any]:
    """The document of these services and a gateway with nothing of its own."""
    return join(
        {Service(name): said for name, said in services.items()},
        EMPTY,
        origin="https://localhost",
        security={},
    )


def test_only_what_the_gateway_routes_is_described_with_public_paths() -> None:
    """A route the gateway does not pass on is left out, whatever a service says about it."""
    paths = joined(payments=payments())["paths"]
    assert {path: set(item) for path, item in paths.items()} == {
        "/api/payments": {"post"},
        "/api/payments/{id}": {"get"},
    }


def test_path_parameters_have_the_names_of_the_public_path() -> None:
    """A service may call them otherwise."""
    shown = joined(payments=payments())["paths"]["/api/payments/{id}"]["get"]
    assert [parameter["name"] for parameter in shown["parameters"]] == ["id"]


def test_links_lead_to_operations_of_the_document() -> None:
    """A link to an operation that nobody routes is left out."""
    created = joined(payments=payments())["paths"]["/api/payments"]["post"]["responses"]["201"]
    assert set(created["links"]) == {"getPayment"}


def test_only_schemas_in_use_are_in_the_document() -> None:
    """JsonValue, which every service brings along, is not if nothing leads to it."""
    assert set(joined(payments=payments())["components"]["schemas"]) == {"Payment"}


def test_one_name_for_two_schemas_is_a_clash() -> None:
    """Better no document than a wrong one."""
    other = payments(shape("Payment", {"id": TEXT}))
    with pytest.raises(Clash, match="two schemas named Payment"):
        joined(payments=payments(), auth=other)


def test_one_name_for_two_operations_is_a_clash() -> None:
    """The id of an operation is unique in the document."""
    mine = document(
        [Described("GET", "/auth/me", "create_payment", Operation(summary="x", answers={}))],
        "auth",
    )
    with pytest.raises(Clash, match="createPayment again"):
        joined(payments=payments(), auth=mine)


def test_yaml_says_the_same_as_json() -> None:
    """And nothing in it is a reference of YAML's own."""
    whole = joined(payments=payments())
    written = as_yaml(whole)
    assert yaml.safe_load(written) == whole
    assert b"*id" not in written


def test_the_page_shows_every_operation_and_runs_nothing() -> None:
    """R5.24: no script; text of the document is text of the page."""
    drawn = page(joined(payments=payments())).decode()
    assert "/api/payments/{id}" in drawn
    assert "id='createPayment'" in drawn
    assert "<script" not in drawn
    assert "&lt;b&gt;&amp;" in drawn
    assert "<b>" not in drawn
    assert "http:" not in drawn.replace("https://localhost", "")


class FakeDescriptions:
    """Says what it is told to; implements `ServiceDescriptions`."""

    def __init__(self) -> None:
        self.says: dict[Service, Mapping[str, Any]] = dict.fromkeys(Service, EMPTY)
        self.asked = 0

    async def of(self, service: Service) -> Mapping[str, Any] | None:
        """See the port."""
        self.asked += 1
        return self.says.get(service)


async def test_until_every_service_has_answered_there_is_no_document() -> None:
    """A document without a service's routes would not be true: 503, and asked again next time."""
    source = FakeDescriptions()
    said = source.says.pop(Service.ADMIN)
    service = DescriptionService(source, "https://localhost")
    with pytest.raises(ApiError) as refused:
        await service.document()
    assert refused.value.status == 503
    source.says[Service.ADMIN] = said
    assert set((await service.document())["paths"]) == {
        "/health",
        "/health/live",
        "/health/ready",
    }


async def test_a_service_that_is_down_stands_with_what_it_said_last() -> None:
    """And one that was changed is seen after a minute."""
    now = 0.0
    source = FakeDescriptions()
    source.says[Service.PAYMENTS] = payments()
    service = DescriptionService(source, "https://localhost", lambda: now)
    first = await service.document()
    assert await service.document() is first
    assert source.asked == len(Service)
    now = KEPT_S
    del source.says[Service.PAYMENTS]
    source.says[Service.AUTH] = document(
        [Described("GET", "/auth/me", "me", Operation(summary="x", who=PUBLIC, answers={200: ID}))],
        "auth",
    )
    assert {"/api/payments", "/api/auth/me"} <= set((await service.document())["paths"])
