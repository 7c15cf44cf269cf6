"""What one member of an input must look like: the promise that every kind of field keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from system.platform.http.errors import Issue


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


def invalid(code: str, message: str, **extra: Any) -> Invalid:
    """Make the error of one broken rule."""
    return Invalid(Issue((), code, message, extra))


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


def string_of(value: object) -> str:
    """Return a text as it is; anything else is invalid."""
    if not isinstance(value, str):
        raise invalid(
            "invalid_type",
            f"Expected string, received {type_name(value)}",
            expected="string",
            received=type_name(value),
        )
    return value


def within(text: str, minimum: int, maximum: int | None) -> None:
    """Refuse a text of fewer or more characters."""
    if len(text) < minimum:
        raise invalid("too_small", f"Must be at least {minimum} characters", minimum=minimum)
    if maximum is not None and len(text) > maximum:
        raise invalid("too_big", f"Must be at most {maximum} characters", maximum=maximum)


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
