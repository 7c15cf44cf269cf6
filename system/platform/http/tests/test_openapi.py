"""The API description says exactly what the code takes and gives (R1.154)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import jsonschema_rs
import pytest
from litestar import Litestar, Request, get, post
from litestar.testing import TestClient

from system.platform.config.loading import load
from system.platform.config.settings import Settings
from system.platform.http.app import create_app, described_routes
from system.platform.http.field import Field
from system.platform.http.numeric_fields import LARGEST, Amount, Integer
from system.platform.http.openapi import (
    ADMIN,
    PUBLIC,
    Described,
    Operation,
    document,
    error_codes,
    operation,
    operation_id,
)
from system.platform.http.replies import Reply, success
from system.platform.http.requests import json_body
from system.platform.http.shapes import ID, TEXT, array, nullable, render, shape
from system.platform.http.text_fields import Email, NewPassword, Text, Uuid
from system.platform.http.validation import Schema, at_least_one

BODY = Schema({"name": Text(1, 20, example="A name"), "email": Email(optional=True)})
THING = shape("Thing", {"id": ID, "note": nullable(TEXT)}, optional={"note"})


@post("/things/{id:str}")
@operation(
    "Make a thing",
    who=ADMIN,
    path=Schema({"id": Uuid()}),
    body=BODY,
    answers={201: THING},
    errors={409: ["EMAIL_EXISTS"]},
    links={201: {"listThings": {"id": "data/id"}}},
)
async def make_thing(request: Request[Any, Any, Any]) -> Reply:
    """Take a thing."""
    return success(BODY.parse(await json_body(request)))


@get("/things")
@operation("List things", who=PUBLIC, answers={200: array(THING)})
async def list_things() -> Reply:
    """Give things."""
    return success([])


@get("/hidden")
async def hidden() -> Reply:
    """Nobody describes it."""
    return success(None)


def settings() -> Settings:
    """Of a service in development mode."""
    return load("payments", {"PAYMENTS_DATABASE_URL": "postgresql://p@localhost/payments_db"})


def app() -> Litestar:
    """An application of the three handlers."""
    return create_app(settings(), [make_thing, list_things, hidden], checks={}, essential=())


def written() -> dict[str, Any]:
    """The description of the three handlers."""
    return document(described_routes(app()), "payments")


def test_exactly_the_described_handlers_are_in_the_document() -> None:
    """A handler without a description does not appear, the service's own routes neither."""
    assert {path: set(item) for path, item in written()["paths"].items()} == {
        "/things": {"get"},
        "/things/{id}": {"post"},
    }


def test_an_operation_says_what_it_takes_gives_and_refuses() -> None:
    """Inputs come from the schemas, the envelope and the codes of its kind are added."""
    post = written()["paths"]["/things/{id}"]["post"]

    assert post["operationId"] == "makeThing"
    assert post["security"] == [{"accessToken": []}]
    assert post["parameters"][0]["schema"] == {"type": "string", "format": "uuid"}
    assert post["requestBody"]["required"] is True
    assert post["requestBody"]["content"]["application/json"]["example"] == {"name": "A name"}
    data = post["responses"]["201"]["content"]["application/json"]["schema"]["properties"]["data"]
    assert data == {"$ref": "#/components/schemas/Thing"}
    codes = {
        status: answer["content"]["application/json"]["schema"]["properties"]["error"][
            "properties"
        ]["code"]["enum"]
        for status, answer in post["responses"].items()
        if status != "201"
    }
    assert codes["400"] == ["BAD_REQUEST", "INVALID_JSON", "VALIDATION_ERROR"]
    assert codes["401"] == ["TOKEN_EXPIRED", "TOKEN_INVALID", "TOKEN_REVOKED", "UNAUTHORIZED"]
    assert codes["403"] == ["FORBIDDEN"]
    assert codes["404"] == ["NOT_FOUND"]
    assert codes["409"] == ["EMAIL_EXISTS"]
    assert post["responses"]["201"]["links"] == {
        "listThings": {
            "operationId": "listThings",
            "parameters": {"id": "$response.body#/data/id"},
        }
    }


def test_a_public_operation_needs_no_token() -> None:
    """Neither a security requirement nor the codes of tokens."""
    listed = written()["paths"]["/things"]["get"]
    assert listed["security"] == []
    assert "401" not in listed["responses"]


def test_shapes_become_components_with_exactly_their_members() -> None:
    """What is optional may be missing, what is unknown may not be there."""
    components: dict[str, Any] = {}
    render(array(THING), components)
    assert components["Thing"]["required"] == ["id"]
    assert components["Thing"]["additionalProperties"] is False
    assert components["Thing"]["properties"]["note"] == {"type": ["string", "null"]}


def test_one_name_means_one_shape() -> None:
    """Two different shapes of one name are refused."""
    components: dict[str, Any] = {}
    render(THING, components)
    with pytest.raises(ValueError, match="two different shapes named Thing"):
        render(shape("Thing", {"id": TEXT}), components)


def test_codes_are_those_of_the_contract() -> None:
    """R1.18: a code that does not belong to its status is refused at once."""
    with pytest.raises(ValueError, match="expected codes of"):
        Operation(summary="x", answers={}, errors={404: ["EMAIL_EXISTS"]})


def test_an_input_without_an_example_is_refused() -> None:
    """R1.154: examples are valid requests, so there must be one."""
    silent = Operation(summary="x", answers={}, body=Schema({"name": Text(1, 5)}))
    with pytest.raises(ValueError, match="no example of name"):
        document([Described("POST", "/x", "x", silent)], "x")


def test_an_example_that_breaks_a_rule_is_refused() -> None:
    """R1.154: an example that the route would refuse is none."""
    wrong = Operation(summary="x", answers={}, body=Schema({"name": Text(1, 5, example="longer")}))
    with pytest.raises(ValueError, match="expected one without"):
        document([Described("POST", "/x", "x", wrong)], "x")


def test_two_operations_with_one_name_are_refused() -> None:
    """R1.154: an operation's id is unique."""
    plain = Operation(summary="x", answers={})
    with pytest.raises(ValueError, match="two operations x"):
        document([Described("GET", "/x", "x", plain), Described("PUT", "/x", "x", plain)], "x")


def test_an_operation_id_is_the_handlers_name() -> None:
    """In camel case."""
    assert operation_id("create_payment") == "createPayment"


def test_every_operation_may_meet_the_gateways_refusals() -> None:
    """R1.12, R1.13, R1.42: whoever answers, the caller may see these."""
    assert set(error_codes(Operation(summary="x", answers={}))) == {
        *(400, 401, 413, 429, 500, 502, 503, 504)
    }


def test_the_document_is_served_to_the_gateway_only() -> None:
    """R1.153: without the internal token it is 401, with it the document."""
    with TestClient(app()) as client:
        assert client.get("/internal/openapi.json").status_code == 401
        answer = client.get(
            "/internal/openapi.json",
            headers={"X-Internal-Token": settings().internal_service_token},
        )
    assert answer.status_code == 200
    assert answer.json() == written()


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        (Amount(), ["0.01", "1", "1.5", "100.50", "10000000", "10000000.00", "007.00"], []),
        (Amount(), [], ["0", "0.00", "0.001", "10000000.01", "10000001", "", "1.", "-1", "x"]),
        (Amount(), [1, 100, 10000000], [0, -1, 10000001, True, None]),
        (Text(1, 5), ["a", " a ", "<", "a\0"], ["", " ", "\t\n", "\0", "\u3000", "\x1c"]),
        (NewPassword(), ["Harbour-Light-42", "aB3£aB3£aB3£"], ["aB3£", "a" * 20, "aB3a" * 4]),
        (Integer(1), [1, 5.0, LARGEST], [0, 5.5, 1e300, LARGEST + 1, "x", None, 10**30, True]),
        (Uuid(), ["00000000-0000-4000-8000-000000000000"], ["1", ""]),
        (Email(), ["a@x.test", "A.B+c@x-y.test"], ["", "a", "a@", "@x.test"]),
    ],
)
def test_reader_and_description_agree(field: Field, good: list[Any], bad: list[Any]) -> None:
    """R1.154: what the description allows is read, what it forbids is not."""
    schema = Schema({"value": field})
    described = jsonschema_rs.Draft202012Validator(schema.describe(), validate_formats=True)
    for value in good:
        assert schema.accepts({"value": value}), value
        assert described.is_valid({"value": value}), value
    for value in bad:
        assert not schema.accepts({"value": value}), value
        assert not described.is_valid({"value": value}), value


def test_rules_on_several_members_are_described() -> None:
    """R1.154: `at_least_one` is said in JSON Schema too."""
    schema = Schema(
        {"a": Amount(optional=True), "b": Text(optional=True)}, [at_least_one("a", "b")]
    )
    described = jsonschema_rs.Draft202012Validator(schema.describe())
    for value in ({}, {"c": 1}, {"a": "1.00"}, {"b": "x"}):
        assert described.is_valid(value) == schema.accepts(value), value


def test_a_samples_value_is_valid() -> None:
    """The kinds' own examples pass their own reading."""
    for field in (Amount(), Email(), NewPassword(), Uuid(), Amount(minimum=Decimal("5"))):
        assert Schema({"value": field}).accepts({"value": field.shown})
