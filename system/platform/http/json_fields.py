"""Fields that are what JSON has: booleans, objects, any value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from system.platform.http.field import Field, invalid, type_name

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
class Boolean(Field):
    """true or false."""

    def read(self, value: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise invalid(
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
class JsonValue(Field):
    """Any JSON value of at most `maximum_bytes` when written compactly.

    Attributes:
        maximum_bytes: of its UTF-8 text.
    """

    maximum_bytes: int = 10240

    def read(self, value: Any) -> Any:
        if len(msgspec.json.encode(value)) > self.maximum_bytes:
            raise invalid(
                "too_big", f"Must be at most {self.maximum_bytes} bytes", maximum=self.maximum_bytes
            )
        if _has_nul(value):
            # PostgreSQL cannot keep it in jsonb.
            raise invalid("custom", "Must not contain the character NUL")
        return value

    def json_schema(self) -> dict[str, Any]:
        return {"$ref": JSON_COMPONENT}


@dataclass(frozen=True)
class JsonObject(JsonValue):
    """A JSON object of at most `maximum_bytes` when written compactly."""

    def read(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise invalid(
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
