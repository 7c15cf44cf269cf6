"""OpenAPI documents: read, refused, and made fit to be tried."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from security import contract_document
from security.contract_document import NotADocument

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "paths": {
        "/things/{id}": {"parameters": [{"name": "id", "in": "path"}], "get": {"security": [{}]}},
        "/health": {"get": {}},
        "/things": {"post": {"requestBody": {}, "security": [{"token": []}]}},
    },
}


def test_operations_say_what_they_take_and_ask_for() -> None:
    """Parameters of the path count for its operations; an empty requirement asks for nobody."""
    found = {o.label: (o.has_input, o.is_public) for o in contract_document.operations(DOCUMENT)}

    assert found == {
        "GET /things/{id}": (True, True),
        "GET /health": (False, True),
        "POST /things": (True, False),
    }


def test_what_takes_no_query_and_no_body_is_given_something_to_vary() -> None:
    """The document itself stays as it was."""
    before = json.dumps(DOCUMENT)
    fit = contract_document.prepared(DOCUMENT)

    for path in ("/health", "/things/{id}"):
        assert [p["in"] for p in fit["paths"][path]["get"]["parameters"]] == ["query"]
    assert fit["paths"]["/things"] == DOCUMENT["paths"]["/things"]
    assert json.dumps(DOCUMENT) == before


@pytest.mark.parametrize(
    "text",
    [
        b"<html>",
        b"[]",
        b'{"success": true, "data": {}}',
        b'{"swagger": "2.0", "paths": {"/a": {"get": {}}}}',
        b'{"openapi": "3.1.0", "paths": {}}',
        b'{"openapi": "3.1.0", "paths": {"/a": 5}}',
    ],
)
def test_anything_else_is_no_document(text: bytes) -> None:
    """The text says what was seen and what was expected."""
    with pytest.raises(NotADocument, match=r"seen .*expected"):
        contract_document.decode(text)


def test_the_policy_names_every_rule_with_a_known_call() -> None:
    """A rule for a call that is not in the table would never excuse anything."""
    policy = contract_document.policy()
    unknown = {call for rule in policy.rules for call in rule.calls} - set(policy.operations)

    assert len(policy.operations) == 48
    assert unknown == set()


def test_lookaheads_are_spelt_out_to_the_same() -> None:
    """What the pattern takes, the alternatives take, and nothing else."""
    classes = ("[A-Z]", "[a-z]", "[0-9]", "[^A-Za-z0-9]")
    pattern = "^" + "".join(rf"(?=[\s\S]*{one})" for one in classes) + r"[\s\S]*$"
    spelt = contract_document.spelt_out(pattern)
    dice = random.Random(1)
    texts = ["".join(dice.choices("Aa1!\n", k=dice.randrange(9))) for _ in range(4000)]
    taken = [bool(re.search(pattern, text)) for text in texts]

    assert "(?=" not in spelt
    assert 0 < sum(taken) < len(texts)
    assert [bool(re.search(spelt, text)) for text in texts] == taken


@pytest.mark.parametrize("pattern", ["^[a-z]+$", r"^(?=.*[A-Z])[\s\S]*$", r"^(?=x)[\s\S]*$"])
def test_other_patterns_stay(pattern: str) -> None:
    """Only the one form is understood."""
    assert contract_document.spelt_out(pattern) == pattern
