"""R1.2, R1.16, R1.18: the form of refusals and the closed set of their codes."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from system.platform.http import errors
from system.platform.http.errors import ApiError, Issue

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "validation": ([Issue(("a",), "custom", "m")],),
    "not_found": ("GET", "/x"),
    "missing": ("USER_NOT_FOUND", "m"),
    "conflict": ("EMAIL_EXISTS", "m"),
    "payload_too_large": (10,),
    "rate_limit_exceeded": (6,),
}
FACTORIES = [
    name
    for name, thing in inspect.getmembers(errors, inspect.isfunction)
    if thing.__module__ == errors.__name__ and thing.__annotations__.get("return") == "ApiError"
]


@pytest.mark.parametrize("name", FACTORIES)
def test_every_factory_makes_an_agreed_code(name: str) -> None:
    """R1.18: status and code belong together."""
    error = getattr(errors, name)(*ARGUMENTS.get(name, ()))

    assert error.code in errors.CODES[error.status]


def test_there_are_factories_to_judge() -> None:
    """The table above is not empty by mistake."""
    assert len(FACTORIES) >= 20


def test_error_body() -> None:
    """R1.2: details are left out when there are none."""
    assert ApiError(403, "FORBIDDEN", "No").body() == {
        "success": False,
        "error": {"code": "FORBIDDEN", "message": "No"},
    }
    assert ApiError(409, "X", "No", {"from": "a"}).body()["error"]["details"] == {"from": "a"}


def test_contracted_messages() -> None:
    """R1.11, R1.15, R1.16, R1.42: texts that the contract fixes."""
    assert errors.not_found("PUT", "/api/x").message == "Route PUT /api/x not found"
    assert errors.internal_error().message == "An unexpected error occurred"
    assert errors.validation([]).message == "Invalid request data"
    limited = errors.rate_limit_exceeded(6)
    assert limited.message == "Too many requests, please try again later"
    assert limited.headers["Retry-After"] == "6"
    assert errors.service_unavailable().headers["Retry-After"] == "1"


def test_issues_are_written_in_full() -> None:
    """R1.16: path, code, message and further keys."""
    error = errors.validation([Issue(("a", 0), "too_small", "short", {"minimum": 12})])

    assert error.details == [
        {"minimum": 12, "code": "too_small", "message": "short", "path": ["a", 0]}
    ]
