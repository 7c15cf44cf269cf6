"""Only what a rule of the contract says explains a refusal of valid data."""

from __future__ import annotations

from typing import Any

import pytest

from security import contract_document
from suites.api.test_api_contract import rule_of

RULES = contract_document.policy().rules


def _failure(**changed: Any) -> dict[str, Any]:
    return {
        "operation": "GET /api/payments",
        "check": "positive_data_acceptance",
        "status": 400,
        "code": "VALIDATION_ERROR",
        "issues": [["custom", "endDate"]],
        **changed,
    }


def test_a_refusal_that_a_rule_names_is_explained() -> None:
    """Whatever the document calls the parameters of its path."""
    edit = _failure(operation="PUT /api/payments/{paymentId}", code="INVALID_STATUS", issues=[])
    found = [rule_of(failure, RULES) for failure in (_failure(), edit)]

    assert [rule and rule.rule for rule in found] == ["R1.110", "R1.116"]


@pytest.mark.parametrize(
    "changed",
    [
        {"operation": "GET /api/admin/users"},
        {"check": "response_schema_conformance"},
        {"status": 422},
        {"status": 500},
        {"code": "BAD_REQUEST"},
        {"issues": []},
        {"issues": [["custom", "limit"]]},
        {"issues": [["invalid_type", "endDate"]]},
        {"issues": [["custom", "endDate"], ["too_big", "limit"]]},
    ],
)
def test_any_other_is_a_failure(changed: dict[str, Any]) -> None:
    """One thing that the rule does not say is enough."""
    assert rule_of(_failure(**changed), RULES) is None
