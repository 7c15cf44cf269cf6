"""Fields that are text: free, of a form, one of a set, an id, a moment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Final

from system.platform.http.cleaning import clean_text, normal_email
from system.platform.http.errors import Issue
from system.platform.http.field import MISSING, Field, Invalid, invalid, string_of, within

_EMAIL: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
)
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOMENT: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})?"
)
# A text that cleaning leaves something of, but for one that is nothing but tags: one character
# that is neither what `str.strip` takes away nor NUL.
NOT_BLANK: Final = (
    "[^\\u0000\\u0009-\\u000d\\u001c-\\u0020\\u0085\\u00a0\\u1680"
    "\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]"
)
EMAIL_LIMIT: Final = 255


@dataclass(frozen=True)
class Text(Field):
    """A text of `minimum` to `maximum` characters; free text is cleaned first (R1.19).

    Attributes:
        minimum: characters after cleaning.
        maximum: characters after cleaning; None for no limit.
        clean: free text of people; False for what must stay as it was sent (a password, a token).
    """

    minimum: int = 0
    maximum: int | None = None
    clean: bool = True

    def read(self, value: Any) -> str:
        text = string_of(value)
        if self.clean:
            text = clean_text(text)
        within(text, self.minimum, self.maximum)
        return text

    def json_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "string"}
        if self.minimum:
            schema["minLength"] = self.minimum
            if self.clean:
                schema["pattern"] = NOT_BLANK
        if self.maximum is not None:
            schema["maxLength"] = self.maximum
        return schema


@dataclass(frozen=True)
class Matching(Field):
    """A text of a given form, taken as it is.

    Attributes:
        pattern: the whole text must match it; without anchors.
        message: what is expected, for people.
        maximum: characters.
    """

    pattern: str
    message: str = "Invalid format"
    maximum: int | None = None

    def read(self, value: Any) -> str:
        text = string_of(value)
        within(text, 0, self.maximum)
        if re.fullmatch(self.pattern, text) is None:
            raise invalid("invalid_string", self.message, validation="regex")
        return text

    def json_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "string", "pattern": f"^(?:{self.pattern})$"}
        if self.maximum is not None:
            schema["maxLength"] = self.maximum
        return schema


@dataclass(frozen=True)
class Email(Field):
    """An e-mail address, read in its one spelling (R1.20)."""

    def read(self, value: Any) -> str:
        email = normal_email(string_of(value))
        within(email, 0, EMAIL_LIMIT)
        if _EMAIL.fullmatch(email) is None:
            raise invalid("invalid_string", "Invalid email", validation="email")
        return email

    def sample(self) -> Any:
        return "customer@example.com"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "email", "maxLength": EMAIL_LIMIT}


# R1.21: what a new password must hold, besides its length.
_PASSWORD_PARTS: Final = (
    (re.compile(r"[A-Z]"), "Must contain an upper-case letter"),
    (re.compile(r"[a-z]"), "Must contain a lower-case letter"),
    (re.compile(r"[0-9]"), "Must contain a digit"),
    (re.compile(r"[^A-Za-z0-9]"), "Must contain a character other than letters and digits"),
)
PASSWORD_MINIMUM: Final = 12
PASSWORD_MAXIMUM: Final = 255


@dataclass(frozen=True)
class NewPassword(Field):
    """A password to be set (R1.21); never trimmed or cleaned."""

    def read(self, value: Any) -> str:
        text = string_of(value)
        issues: list[Issue] = []
        try:
            within(text, PASSWORD_MINIMUM, PASSWORD_MAXIMUM)
        except Invalid as invalid:
            issues += invalid.issues
        issues += [
            Issue((), "invalid_string", message, {"validation": "regex"})
            for pattern, message in _PASSWORD_PARTS
            if pattern.search(text) is None
        ]
        if issues:
            raise Invalid(*issues)
        return text

    def sample(self) -> Any:
        return "Harbour-Light-42"

    def json_schema(self) -> dict[str, Any]:
        return {
            "type": "string",
            "format": "password",
            "minLength": PASSWORD_MINIMUM,
            "maxLength": PASSWORD_MAXIMUM,
            "pattern": r"^(?=[\s\S]*[A-Z])(?=[\s\S]*[a-z])(?=[\s\S]*[0-9])"
            r"(?=[\s\S]*[^A-Za-z0-9])[\s\S]*$",
        }


@dataclass(frozen=True, init=False)
class Choice(Field):
    """One of a closed set of texts.

    Attributes:
        values: the allowed texts.
        upper: upper-cased before it is compared.
    """

    values: tuple[str, ...] = ()
    upper: bool = False

    def __init__(
        self,
        *values: str,
        upper: bool = False,
        optional: bool = False,
        default: Any = MISSING,
        nullable: bool = False,
        description: str = "",
        example: Any = MISSING,
    ) -> None:
        # Written by hand because the values come as positional arguments.
        for name, value in (
            ("values", tuple(values)),
            ("upper", upper),
            ("optional", optional),
            ("default", default),
            ("nullable", nullable),
            ("description", description),
            ("example", example),
        ):
            object.__setattr__(self, name, value)

    def read(self, value: Any) -> str:
        text = string_of(value)
        if self.upper:
            text = text.upper()
        if text not in self.values:
            raise invalid(
                "invalid_enum_value",
                f"Expected one of {', '.join(self.values)}",
                options=list(self.values),
            )
        return text

    def sample(self) -> Any:
        return self.values[0]

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.values)}


@dataclass(frozen=True)
class Uuid(Field):
    """An id (R0.4); upper case is read as lower case."""

    def read(self, value: Any) -> str:
        text = string_of(value).lower()
        if _UUID.fullmatch(text) is None:
            raise invalid("invalid_string", "Invalid uuid", validation="uuid")
        return text

    def sample(self) -> Any:
        return "00000000-0000-4000-8000-000000000000"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "uuid"}


@dataclass(frozen=True)
class Date(Field):
    """An ISO date or date-time, read as a moment in UTC (R1.110).

    Attributes:
        end: an upper bound: a bare date means the last millisecond of its day.
    """

    end: bool = False

    def read(self, value: Any) -> datetime:
        text = string_of(value)
        try:
            if text.isascii() and _DAY.fullmatch(text):
                at = time(23, 59, 59, 999000) if self.end else time()
                return datetime.combine(date.fromisoformat(text), at, UTC)
            if text.isascii() and _MOMENT.fullmatch(text):
                moment = datetime.fromisoformat(text)
                if moment.tzinfo is None:
                    return moment.replace(tzinfo=UTC)
                return moment.astimezone(UTC)
        except (ValueError, OverflowError):
            pass  # the form is right but there is no such day or moment
        raise invalid("invalid_string", "Expected an ISO date or date-time", validation="datetime")

    def sample(self) -> Any:
        return "2026-01-17"

    def json_schema(self) -> dict[str, Any]:
        return {
            "anyOf": [
                {"type": "string", "format": "date"},
                {"type": "string", "format": "date-time"},
            ]
        }
