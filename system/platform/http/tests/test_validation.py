"""R1.8, R1.16, R1.19-R1.21, R1.102, R1.110: what input is taken, what is said of the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from system.platform.http.cleaning import clean_text, normal_email
from system.platform.http.errors import ApiError, Issue
from system.platform.http.field import Field
from system.platform.http.json_fields import Boolean, JsonObject
from system.platform.http.numeric_fields import LARGEST, Amount, Integer
from system.platform.http.text_fields import (
    NOT_BLANK,
    Choice,
    Date,
    Email,
    Matching,
    NewPassword,
    Text,
    Uuid,
)
from system.platform.http.validation import Schema, at_least_one, parse_all

PASSWORD = "TestPassword123!"
ID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"


def read(field: Field, value: Any) -> Any:
    """Return what a field makes of a value."""
    return Schema({"x": field}).parse({"x": value})["x"]


def issues_of(field: Field, value: Any) -> list[dict[str, Any]]:
    """Return what a field complains about."""
    with pytest.raises(ApiError) as caught:
        read(field, value)
    assert caught.value.code == "VALIDATION_ERROR"
    found: list[dict[str, Any]] = caught.value.details
    assert all(issue["path"][0] == "x" and issue["message"] for issue in found)
    return found


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("  Ann  ", "Ann"),
        ("e\u0301", "\u00e9"),
        ("<b>bold</b>", "bold"),
        ("<script>alert(1)</script>", "alert(1)"),
        ("a < b", "a < b"),
        ("a < b > c", "a  c"),
        ("JavaScript:alert(1)", "alert(1)"),
        ("x onClick = y", "x  y"),
        ("onload=1", "1"),
        ("a\0b", "ab"),
        ("<b>", ""),
        # The order is fixed: what the tag's removal leaves together is caught by the next step.
        ("java<b>script:x", "x"),
        ("on<i>load=x", "x"),
    ],
)
def test_clean_text(raw: str, cleaned: str) -> None:
    """R1.19: trim, NFC, tags, javascript:, handlers, NUL, in this order."""
    assert clean_text(raw) == cleaned


def test_length_counts_after_cleaning() -> None:
    """R1.19: a name that is only a tag is too short."""
    assert issues_of(Text(1, 255), "<b>")[0]["code"] == "too_small"
    assert read(Text(1, 3), "<b>abc</b>") == "abc"
    assert issues_of(Text(1, 3), "abcd")[0]["code"] == "too_big"


def test_what_must_stay_is_not_cleaned() -> None:
    """A password to be checked keeps blanks and brackets."""
    assert read(Text(1, 255, clean=False), " <b> ") == " <b> "


def test_normal_email() -> None:
    """R1.20: trimmed and lower case."""
    assert normal_email("  Ann@X.Test ") == "ann@x.test"
    assert read(Email(), " Ann@X.Test ") == "ann@x.test"


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "a",
        "a@",
        "@x.test",
        "a@x",
        "a b@x.test",
        "a@x..test",
        ".a@x.test",
        "a@-x.test",
        "a@x.test\n.b",
    ],
)
def test_bad_emails(bad: str) -> None:
    """Not an address: invalid_string."""
    assert issues_of(Email(), bad)[0]["code"] == "invalid_string"


def test_email_length() -> None:
    """R1.20: at most 255 characters."""
    domain = ".".join(["d" * 60] * 4) + ".test"
    assert len(read(Email(), "a" * (254 - len(domain)) + "@" + domain)) == 255
    assert issues_of(Email(), "a" * (255 - len(domain)) + "@" + domain)[0]["code"] == "too_big"


@pytest.mark.parametrize(
    ("password", "codes"),
    [
        (PASSWORD, []),
        ("Aa1 aaaaaaaa", []),  # a blank counts as the other character
        ("Aa1£aaaaaaaa", []),
        ("A1!" + "a" * 252, []),
        ("A1!" + "a" * 253, ["too_big"]),
        ("TestPass12!", ["too_small"]),
        ("testpassword123!", ["invalid_string"]),
        ("TESTPASSWORD123!", ["invalid_string"]),
        ("TestPasswordXYZ!", ["invalid_string"]),
        ("TestPassword1234", ["invalid_string"]),
        ("aaa", ["too_small", "invalid_string", "invalid_string", "invalid_string"]),
    ],
)
def test_new_password(password: str, codes: list[str]) -> None:
    """R1.21: 12-255 characters with all four kinds; every fault is named."""
    if codes:
        assert [issue["code"] for issue in issues_of(NewPassword(), password)] == codes
    else:
        assert read(NewPassword(), password) == password


def test_a_short_password_tells_the_minimum() -> None:
    """R1.16: further keys of an issue."""
    assert issues_of(NewPassword(), "Aa1!")[0]["minimum"] == 12


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("100.50", "100.50"),
        ("100.5", "100.50"),
        ("100", "100.00"),
        (100, "100.00"),
        (100.5, "100.50"),
        (0.01, "0.01"),
        (19.99, "19.99"),
        ("10000000.00", "10000000.00"),
        (10000000, "10000000.00"),
        ("0.01", "0.01"),
    ],
)
def test_amounts(value: Any, expected: str) -> None:
    """R1.102: exact, two decimals."""
    assert str(read(Amount(), value)) == expected
    assert isinstance(read(Amount(), value), Decimal)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("100.505", "invalid_string"),
        (100.505, "custom"),
        ("1e3", "invalid_string"),
        ("1,000.00", "invalid_string"),
        ("-1", "invalid_string"),
        (" 1", "invalid_string"),
        ("", "invalid_string"),
        ("١٢", "invalid_string"),
        ("NaN", "invalid_string"),
        (0, "too_small"),
        ("0.00", "too_small"),
        (-5, "too_small"),
        ("10000000.01", "too_big"),
        (10**30, "too_big"),
        (1e300, "too_big"),
        (True, "invalid_type"),
        (None, "invalid_type"),
        ([], "invalid_type"),
    ],
)
def test_bad_amounts(value: Any, code: str) -> None:
    """R1.102: no rounding, no other notation, 0.01-10,000,000.00."""
    assert issues_of(Amount(), value)[0]["code"] == code


@pytest.mark.parametrize(
    ("value", "expected"), [(5, 5), ("5", 5), ("007", 7), ("100", 100), (1, 1)]
)
def test_integers(value: Any, expected: int) -> None:
    """Numbers, and digits of a query."""
    assert read(Integer(1, 100), value) == expected


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("0", "too_small"),
        ("101", "too_big"),
        ("-1", "too_small"),
        ("1.5", "invalid_type"),
        (1.5, "invalid_type"),
        ("", "invalid_type"),
        ("x", "invalid_type"),
        (True, "invalid_type"),
        ("٣", "invalid_type"),
        (["1", "2"], "invalid_type"),
        ("9" * 40, "invalid_type"),
    ],
)
def test_bad_integers(value: Any, code: str) -> None:
    """R1.110: outside the bounds is 400, never clipped."""
    assert issues_of(Integer(1, 100), value)[0]["code"] == code


def test_choices() -> None:
    """A closed set; upper-cased on demand."""
    assert read(Choice("asc", "desc"), "asc") == "asc"
    assert read(Choice("EUR", upper=True), "eur") == "EUR"
    assert issues_of(Choice("asc", "desc"), "ASC")[0]["code"] == "invalid_enum_value"
    assert issues_of(Choice("asc"), 1)[0]["code"] == "invalid_type"


def test_uuids() -> None:
    """R0.4: lower case in the system, either case at its door."""
    assert read(Uuid(), ID.upper()) == ID
    for bad in ("", "x", ID[:-1], ID + "0", ID.replace("-", ""), f"{{{ID}}}"):
        assert issues_of(Uuid(), bad)[0]["code"] == "invalid_string"


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        (Date(), "2026-01-17", datetime(2026, 1, 17, tzinfo=UTC)),
        (Date(end=True), "2026-01-17", datetime(2026, 1, 17, 23, 59, 59, 999000, tzinfo=UTC)),
        (Date(end=True), "2026-01-17T10:00:00Z", datetime(2026, 1, 17, 10, tzinfo=UTC)),
        (Date(), "2026-01-17T10:00", datetime(2026, 1, 17, 10, tzinfo=UTC)),
        (Date(), "2026-01-17T10:00:00+02:00", datetime(2026, 1, 17, 8, tzinfo=UTC)),
        (Date(), "2026-01-17T10:00:00.123Z", datetime(2026, 1, 17, 10, 0, 0, 123000, tzinfo=UTC)),
    ],
)
def test_dates(field: Date, value: str, expected: datetime) -> None:
    """R1.110: dates and date-times; a bare end date covers its whole UTC day."""
    assert read(field, value) == expected


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "today",
        "2026-02-30",
        "2026-1-1",
        "20260101",
        "2026-W01-1",
        "17.01.2026",
        "2026-01-17 10:00:00",
        "2026-01-17T25:00:00Z",
        "0000-01-01",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_bad_dates(bad: str) -> None:
    """What is no date or no such day is 400, never a 500."""
    assert issues_of(Date(), bad)[0]["code"] == "invalid_string"


def test_json_objects() -> None:
    """R1.111: an object of limited size that the database can keep."""
    assert read(JsonObject(), {"a": [1, None]}) == {"a": [1, None]}
    assert issues_of(JsonObject(), [])[0]["code"] == "invalid_type"
    assert issues_of(JsonObject(maximum_bytes=10), {"a": "0123456789"})[0]["code"] == "too_big"
    assert issues_of(JsonObject(), {"a": [{"b": "\0"}]})[0]["code"] == "custom"


def test_booleans() -> None:
    """true and false only."""
    assert read(Boolean(), False) is False
    for bad in ("true", 0, 1, None):
        assert issues_of(Boolean(), bad)[0]["code"] == "invalid_type"


def test_patterns_match_the_whole_text() -> None:
    """A pattern is not a search, and a line end is no end."""
    field = Matching(r"[a-z]+", maximum=5)

    assert read(field, "abc") == "abc"
    for bad in ("abc1", "abc\n", ""):
        assert issues_of(field, bad)[0]["code"] == "invalid_string"
    assert issues_of(field, "abcdef")[0]["code"] == "too_big"


def test_all_issues_at_once() -> None:
    """R1.16: one answer names everything; a missing field is invalid_type."""
    schema = Schema({"email": Email(), "password": NewPassword(), "name": Text(1, 255)})

    with pytest.raises(ApiError) as caught:
        schema.parse({"email": "x", "name": 5})

    assert [(issue["path"], issue["code"]) for issue in caught.value.details] == [
        (["email"], "invalid_string"),
        (["password"], "invalid_type"),
        (["name"], "invalid_type"),
    ]


def test_unknown_members_are_ignored() -> None:
    """R1.7: a role that nobody asked for has no effect and does no harm."""
    assert Schema({"name": Text()}).parse({"name": "x", "role": "ADMIN"}) == {"name": "x"}


def test_optional_default_and_null() -> None:
    """Left out, defaulted and cleared are three things."""
    schema = Schema(
        {
            "a": Text(optional=True),
            "b": Integer(default=10),
            "c": Text(optional=True, nullable=True),
        }
    )

    assert schema.parse({}) == {"b": 10}
    assert schema.parse({"c": None}) == {"b": 10, "c": None}
    with pytest.raises(ApiError):
        schema.parse({"a": None})


def test_rules_see_what_was_given() -> None:
    """Rules on several members run beside the members' own."""

    def ordered(values: Mapping[str, Any]) -> Iterable[Issue]:
        low, high = values.get("low"), values.get("high")
        if low is not None and high is not None and low > high:
            yield Issue(("high",), "custom", "Must not be below low")

    schema = Schema(
        {"low": Integer(optional=True), "high": Integer(optional=True)},
        rules=(ordered, at_least_one("low", "high")),
    )

    assert schema.parse({"low": 1}) == {"low": 1}
    for bad, paths in (
        ({"low": 2, "high": 1}, [["high"]]),
        ({}, [[]]),
        # A broken member was given all the same: it is not reported as absent.
        ({"low": "x"}, [["low"]]),
    ):
        with pytest.raises(ApiError) as caught:
            schema.parse(bad)
        assert [issue["path"] for issue in caught.value.details] == paths


def test_several_inputs_are_judged_together() -> None:
    """R1.16: path and body in one answer."""
    path, body = Schema({"id": Uuid()}), Schema({"status": Choice("pending")})

    assert parse_all((path, {"id": ID}), (body, {"status": "pending"})) == [
        {"id": ID},
        {"status": "pending"},
    ]
    with pytest.raises(ApiError) as caught:
        parse_all((path, {"id": "x"}), (body, {}))
    assert [issue["path"] for issue in caught.value.details] == [["id"], ["status"]]


def test_schemas_describe_themselves() -> None:
    """R1.154: the API description is drawn from the same declaration."""
    schema = Schema(
        {
            "name": Text(1, 255, example="Ann"),
            "page": Integer(1, default=1),
            "bio": Text(0, 10, optional=True, nullable=True),
            "type": Choice("a", "b", optional=True),
        }
    )

    assert schema.describe() == {
        "type": "object",
        "properties": {
            "name": {
                "type": "string",
                "minLength": 1,
                "maxLength": 255,
                "pattern": NOT_BLANK,
                "examples": ["Ann"],
            },
            "page": {"type": "integer", "minimum": 1, "maximum": LARGEST, "default": 1},
            "bio": {"type": ["string", "null"], "maxLength": 10},
            "type": {"type": "string", "enum": ["a", "b"]},
        },
        "required": ["name"],
    }
