"""Declares what input must look like, and reads it: all broken rules are reported at once (R1.16).

A `Schema` is data: it is read by `parse`, and described for the API description by `describe`.

    Schema({"email": Email(), "password": NewPassword(), "page": Integer(1, default=1)})
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from system.platform.http.errors import ApiError, Issue, validation

__all__ = [
    "Amount",
    "Boolean",
    "Choice",
    "Date",
    "DescribedRule",
    "Email",
    "Field",
    "Integer",
    "Invalid",
    "Issue",
    "JsonObject",
    "JsonValue",
    "Matching",
    "NewPassword",
    "Rule",
    "Schema",
    "Text",
    "Uuid",
    "at_least_one",
    "broken",
    "clean_text",
    "normal_email",
    "parse_all",
]

_TAG: Final = re.compile(r"<[^>]*>")
_JAVASCRIPT: Final = re.compile(r"javascript:", re.IGNORECASE)
_HANDLER: Final = re.compile(r"on\w+\s*=", re.IGNORECASE)
_EMAIL: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
)
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOMENT: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})?"
)
_AMOUNT: Final = re.compile(r"\d{1,12}(?:\.\d{1,2})?")
_INTEGER: Final = re.compile(r"-?\d{1,15}")
# What has so many digits, and so fits every column and every reader.
LARGEST: Final = 999_999_999_999_999
# A text that cleaning leaves something of, but for one that is nothing but tags: one character
# that is neither what `str.strip` takes away nor NUL.
NOT_BLANK: Final = (
    "[^\\u0000\\u0009-\\u000d\\u001c-\\u0020\\u0085\\u00a0\\u1680"
    "\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]"
)
EMAIL_LIMIT: Final = 255
MINIMUM_AMOUNT: Final = Decimal("0.01")
MAXIMUM_AMOUNT: Final = Decimal("10000000.00")
_CENT: Final = Decimal("0.01")
# The texts between the two, for the API description.
_PAYABLE: Final = (
    r"^0{0,4}(?:0\.(?:0[1-9]|[1-9][0-9]?)|[1-9][0-9]{0,6}(?:\.[0-9]{1,2})?|10000000(?:\.00?)?)$"
)


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


class Invalid(Exception):
    """A value broke rules; raised inside `Field.read`, collected by `Schema.parse`.

    Attributes:
        issues: each with the path inside the value.
    """

    def __init__(self, *issues: Issue) -> None:
        super().__init__(*issues)
        self.issues = issues


def _invalid(code: str, message: str, **extra: Any) -> Invalid:
    return Invalid(Issue((), code, message, extra))


def clean_text(text: str) -> str:
    """Clean free text in the order of R1.19: trim, NFC, tags, javascript:, on…=, NUL."""
    text = unicodedata.normalize("NFC", text.strip())
    if "<" in text:
        text = _TAG.sub("", text)
    text = _JAVASCRIPT.sub("", text)
    if "=" in text:
        text = _HANDLER.sub("", text)
    return text.replace("\0", "")


def normal_email(text: str) -> str:
    """Return the one spelling of an e-mail address: trimmed, lower case (R1.20)."""
    return text.strip().lower()


def type_name(value: object) -> str:
    """Return the JSON name of a value's type, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float | Decimal):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list | tuple) else "object"


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise _invalid(
            "invalid_type",
            f"Expected string, received {type_name(value)}",
            expected="string",
            received=type_name(value),
        )
    return value


def _length(text: str, minimum: int, maximum: int | None) -> None:
    if len(text) < minimum:
        raise _invalid("too_small", f"Must be at least {minimum} characters", minimum=minimum)
    if maximum is not None and len(text) > maximum:
        raise _invalid("too_big", f"Must be at most {maximum} characters", maximum=maximum)


@dataclass(frozen=True, kw_only=True)
class Field(ABC):
    """What one member of an input must look like.

    Attributes:
        optional: it may be left out; then `parse` has no such key, unless there is a default.
        default: in force when it is left out; makes the field optional.
        nullable: null is allowed and read as None.
        description: one sentence for the API description.
        example: a valid value for the API description.
    """

    optional: bool = False
    default: Any = MISSING
    nullable: bool = False
    description: str = ""
    example: Any = MISSING

    @abstractmethod
    def read(self, value: Any) -> Any:
        """Return the value in its normal form.

        Raises:
            Invalid: it breaks rules.
        """

    @abstractmethod
    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of an acceptable value."""

    def sample(self) -> Any:
        """Return a valid value of this kind; MISSING if only `example` can give one."""
        return MISSING

    @property
    def shown(self) -> Any:
        """The value examples show: `example`, else the default, else the kind's own."""
        if self.example is not MISSING:
            return self.example
        return self.sample() if self.default is MISSING else self.default

    @property
    def is_optional(self) -> bool:
        """Whether the member may be left out."""
        return self.optional or self.default is not MISSING

    def describe(self) -> dict[str, Any]:
        """Return the schema with what every kind of field has."""
        schema = self.json_schema()
        if self.nullable and isinstance(schema.get("type"), str):
            schema = {**schema, "type": [schema["type"], "null"]}
        if self.default is not MISSING and self.default is not None:
            schema = {**schema, "default": self.default}
        if self.description:
            schema = {**schema, "description": self.description}
        if self.example is not MISSING:
            schema = {**schema, "examples": [self.example]}
        return schema


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
        text = _string(value)
        if self.clean:
            text = clean_text(text)
        _length(text, self.minimum, self.maximum)
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
        text = _string(value)
        _length(text, 0, self.maximum)
        if re.fullmatch(self.pattern, text) is None:
            raise _invalid("invalid_string", self.message, validation="regex")
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
        email = normal_email(_string(value))
        _length(email, 0, EMAIL_LIMIT)
        if _EMAIL.fullmatch(email) is None:
            raise _invalid("invalid_string", "Invalid email", validation="email")
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
        text = _string(value)
        issues: list[Issue] = []
        try:
            _length(text, PASSWORD_MINIMUM, PASSWORD_MAXIMUM)
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


@dataclass(frozen=True)
class Integer(Field):
    """A whole number; as text too, since query parameters are text.

    Attributes:
        minimum: smallest allowed.
        maximum: largest allowed.
    """

    minimum: int = -LARGEST
    maximum: int = LARGEST

    def read(self, value: Any) -> int:
        number = self._number(value)
        if number < self.minimum:
            raise _invalid("too_small", f"Must be at least {self.minimum}", minimum=self.minimum)
        if number > self.maximum:
            raise _invalid("too_big", f"Must be at most {self.maximum}", maximum=self.maximum)
        return number

    @staticmethod
    def _number(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        # In JSON 5.0 is a whole number too (JSON Schema 2020-12, 6.1.1).
        if isinstance(value, float) and abs(value) <= LARGEST and value.is_integer():
            return int(value)
        if isinstance(value, str) and _INTEGER.fullmatch(value) and value.isascii():
            return int(value)
        raise _invalid("invalid_type", "Expected a whole number", expected="integer")

    def sample(self) -> Any:
        return min(max(self.minimum, 1), self.maximum)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True)
class Boolean(Field):
    """true or false."""

    def read(self, value: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise _invalid(
            "invalid_type",
            f"Expected boolean, received {type_name(value)}",
            expected="boolean",
            received=type_name(value),
        )

    def sample(self) -> Any:
        return True

    def json_schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Amount(Field):
    """Money with at most two decimals, exact, never rounded (R1.102); read as a Decimal.

    Attributes:
        minimum: smallest allowed.
        maximum: largest allowed.
    """

    minimum: Decimal = MINIMUM_AMOUNT
    maximum: Decimal = MAXIMUM_AMOUNT

    def read(self, value: Any) -> Decimal:
        amount = self._exact(value)
        if amount < self.minimum:
            raise _invalid(
                "too_small", f"Must be at least {self.minimum}", minimum=float(self.minimum)
            )
        if amount > self.maximum:
            raise _invalid(
                "too_big", f"Must be at most {self.maximum}", maximum=float(self.maximum)
            )
        return amount.quantize(_CENT)

    @staticmethod
    def _exact(value: Any) -> Decimal:
        if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
            raise _invalid(
                "invalid_type",
                f"Expected amount, received {type_name(value)}",
                expected="string",
                received=type_name(value),
            )
        if isinstance(value, str):
            if not value.isascii() or _AMOUNT.fullmatch(value) is None:
                raise _invalid(
                    "invalid_string", "Must be a decimal number with at most two decimals"
                )
            return Decimal(value)
        try:
            # repr gives the shortest text that means this number, which is what was written.
            amount = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
            exact = amount.is_finite() and amount == amount.quantize(_CENT)
        except InvalidOperation:
            # More digits than can be money; the bounds say which way.
            return amount
        if not exact:
            raise _invalid("custom", "Must have at most two decimals")
        return amount

    def sample(self) -> Any:
        return "100.50"

    def json_schema(self) -> dict[str, Any]:
        return {
            "oneOf": [
                {"type": "string", "pattern": self._form()},
                {
                    "type": "number",
                    "minimum": float(self.minimum),
                    "maximum": float(self.maximum),
                    "multipleOf": 0.01,
                },
            ]
        }

    def _form(self) -> str:
        if (self.minimum, self.maximum) == (MINIMUM_AMOUNT, MAXIMUM_AMOUNT):
            return _PAYABLE
        return "^[0-9]{1,12}(?:\\.[0-9]{1,2})?$"


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
        text = _string(value)
        if self.upper:
            text = text.upper()
        if text not in self.values:
            raise _invalid(
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
        text = _string(value).lower()
        if _UUID.fullmatch(text) is None:
            raise _invalid("invalid_string", "Invalid uuid", validation="uuid")
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
        text = _string(value)
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
        raise _invalid("invalid_string", "Expected an ISO date or date-time", validation="datetime")

    def sample(self) -> Any:
        return "2026-01-17"

    def json_schema(self) -> dict[str, Any]:
        return {
            "anyOf": [
                {"type": "string", "format": "date"},
                {"type": "string", "format": "date-time"},
            ]
        }


# Any JSON value that PostgreSQL can keep, and where the API description has it.
JSON_COMPONENT: Final = "#/components/schemas/JsonValue"
_NO_NUL: Final = r"^[^\u0000]*$"
_JSON_OBJECT: Final[dict[str, Any]] = {
    "type": "object",
    "propertyNames": {"pattern": _NO_NUL},
    "additionalProperties": {"$ref": JSON_COMPONENT},
}
JSON_VALUE: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": ["null", "boolean", "number"]},
        {"type": "string", "pattern": _NO_NUL},
        {"type": "array", "items": {"$ref": JSON_COMPONENT}},
        _JSON_OBJECT,
    ]
}


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_nul(item) for item in value)


@dataclass(frozen=True)
class JsonValue(Field):
    """Any JSON value of at most `maximum_bytes` when written compactly.

    Attributes:
        maximum_bytes: of its UTF-8 text.
    """

    maximum_bytes: int = 10240

    def read(self, value: Any) -> Any:
        if len(msgspec.json.encode(value)) > self.maximum_bytes:
            raise _invalid(
                "too_big", f"Must be at most {self.maximum_bytes} bytes", maximum=self.maximum_bytes
            )
        if _has_nul(value):
            # PostgreSQL cannot keep it in jsonb.
            raise _invalid("custom", "Must not contain the character NUL")
        return value

    def json_schema(self) -> dict[str, Any]:
        return {"$ref": JSON_COMPONENT}


@dataclass(frozen=True)
class JsonObject(JsonValue):
    """A JSON object of at most `maximum_bytes` when written compactly."""

    def read(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _invalid(
                "invalid_type",
                f"Expected object, received {type_name(value)}",
                expected="object",
                received=type_name(value),
            )
        read: dict[str, Any] = super().read(value)
        return read

    def sample(self) -> Any:
        return {}

    def json_schema(self) -> dict[str, Any]:
        return _JSON_OBJECT


# Looks at what could be read and names what does not fit together.
Rule = Callable[[Mapping[str, Any]], Iterable[Issue]]


@dataclass(frozen=True)
class DescribedRule:
    """A rule that JSON Schema can say too.

    Attributes:
        rule: the rule.
        keywords: the same for the schema of the whole input.
    """

    rule: Rule
    keywords: Mapping[str, Any]

    def __call__(self, values: Mapping[str, Any]) -> Iterable[Issue]:
        return self.rule(values)


def at_least_one(*names: str) -> Rule:
    """Make a rule: one of these members must be given."""

    def rule(values: Mapping[str, Any]) -> Iterable[Issue]:
        if not any(name in values for name in names):
            yield Issue((), "custom", f"At least one of {', '.join(names)} is required")

    return DescribedRule(rule, {"anyOf": [{"required": [name]} for name in names]})


class Schema:
    """What an input must look like: a body, a query or path parameters.

    Unknown members are ignored (R1.7).

    Args:
        fields: by member name.
        rules: on several members together; they see the members that are there, a broken one as
            None.
    """

    def __init__(self, fields: Mapping[str, Field], rules: Sequence[Rule] = ()) -> None:
        self.fields = dict(fields)
        self.rules = tuple(rules)

    def collect(self, source: Mapping[str, Any]) -> tuple[dict[str, Any], list[Issue]]:
        """Read `source`; return what was readable and every broken rule."""
        values: dict[str, Any] = {}
        issues: list[Issue] = []
        unreadable: set[str] = set()
        for name, field in self.fields.items():
            value = source.get(name, MISSING)
            if value is MISSING:
                if field.default is not MISSING:
                    values[name] = field.default
                elif not field.optional:
                    unreadable.add(name)
                    issues.append(Issue((name,), "invalid_type", "Required"))
            elif value is None and field.nullable:
                values[name] = None
            else:
                try:
                    values[name] = field.read(value)
                except Invalid as invalid:
                    unreadable.add(name)
                    issues += [issue.below(name) for issue in invalid.issues]
        for rule in self.rules:
            # A member that was given but broken must not be called absent as well.
            issues += rule({**dict.fromkeys(unreadable & source.keys()), **values})
        return values, issues

    def parse(self, source: Mapping[str, Any]) -> dict[str, Any]:
        """Return the members in their normal form.

        Raises:
            ApiError: 400 VALIDATION_ERROR with all issues (R1.16).
        """
        values, issues = self.collect(source)
        if issues:
            raise validation(issues)
        return values

    def describe(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of the input."""
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {name: field.describe() for name, field in self.fields.items()},
        }
        required = [name for name, field in self.fields.items() if not field.is_optional]
        if required:
            schema["required"] = required
        said = [rule.keywords for rule in self.rules if isinstance(rule, DescribedRule)]
        if len(said) == 1:
            schema.update(said[0])
        elif said:
            schema["allOf"] = said
        return schema

    def example(self) -> dict[str, Any]:
        """Return a valid input: the required members, and the optional ones with an `example`.

        Raises:
            ValueError: a required member has no example, or the example breaks a rule.
        """
        example = {
            name: field.shown
            for name, field in self.fields.items()
            if not field.is_optional or field.example is not MISSING
        }
        if missing := [name for name, value in example.items() if value is MISSING]:
            raise ValueError(f"seen no example of {', '.join(missing)}, expected `example=`")
        if issues := self.collect(example)[1]:
            raise ValueError(f"seen the example {example}, expected one without {issues}")
        return example

    def accepts(self, source: Mapping[str, Any]) -> bool:
        """Say whether `source` breaks no rule."""
        return not self.collect(source)[1]


def parse_all(*pairs: tuple[Schema, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Parse several inputs of one request (path and body), with the issues of all at once.

    Raises:
        ApiError: 400 VALIDATION_ERROR.
    """
    collected = [schema.collect(source) for schema, source in pairs]
    issues = [issue for _, found in collected for issue in found]
    if issues:
        raise validation(issues)
    return [values for values, _ in collected]


def broken(path: str, code: str, message: str) -> ApiError:
    """Make a VALIDATION_ERROR of one issue, for a rule that is known only later."""
    return validation([Issue((path,), code, message)])
