"""Says what answers look like, in JSON Schema (2020-12), for the API description.

A part is a plain schema or a `Shape`, which has a name and becomes a component of the document.

    USER = shape("User", {"id": ID, "email": EMAIL, "role": one_of("ADMIN", "CUSTOMER", "VENDOR")})
    LIST = shape("Users", {"users": array(USER), "pagination": PAGINATION})
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Shape:
    """A named object of an answer.

    Attributes:
        name: of the component; one name means one shape in the whole system.
        members: exactly these.
        optional: those which may be absent.
    """

    name: str
    members: Mapping[str, Part]
    optional: frozenset[str] = frozenset()


Part = Shape | Mapping[str, Any]

ID: Final[Part] = {"type": "string", "format": "uuid"}
# R0.4
MOMENT: Final[Part] = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
}
TEXT: Final[Part] = {"type": "string"}
EMAIL: Final[Part] = {"type": "string", "maxLength": 255}
# R1.102
AMOUNT: Final[Part] = {"type": "string", "pattern": r"^[0-9]+\.[0-9]{2}$"}
COUNT: Final[Part] = {"type": "integer", "minimum": 0}
NUMBER: Final[Part] = {"type": "number"}
BOOLEAN: Final[Part] = {"type": "boolean"}
ANY: Final[Part] = {}
ANY_OBJECT: Final[Part] = {"type": "object"}


def shape(name: str, members: Mapping[str, Part], *, optional: Collection[str] = ()) -> Shape:
    """Name an object with exactly these members; all but the optional ones are always there."""
    if unknown := set(optional) - members.keys():
        raise ValueError(f"seen {sorted(unknown)} as optional, expected members of {name}")
    return Shape(name, dict(members), frozenset(optional))


def one_of(*values: str) -> Part:
    """A text out of a closed set."""
    return {"type": "string", "enum": list(values)}


def constant(value: Any) -> Part:
    """Always this value."""
    return {"const": value}


def array(part: Part) -> Part:
    """A list of such parts."""
    return {"type": "array", "items": part}


def map_of(part: Part) -> Part:
    """An object with any member names and such values."""
    return {"type": "object", "additionalProperties": part}


def nullable(part: Part) -> Part:
    """The part, or null."""
    if isinstance(part, Shape) or not isinstance(part.get("type"), str):
        return {"anyOf": [part, {"type": "null"}]}
    plain = {**part, "type": [part["type"], "null"]}
    if "enum" in part:
        plain["enum"] = [*part["enum"], None]
    return plain


def message(*texts: str) -> Part:
    """An answer that only says something (R1.63); without texts, anything."""
    text: Part = one_of(*texts) if texts else TEXT
    return {
        "type": "object",
        "properties": {"message": text},
        "required": ["message"],
        "additionalProperties": False,
    }


PAGINATION: Final = shape(
    "Pagination", {"page": COUNT, "limit": COUNT, "total": COUNT, "totalPages": COUNT}
)


def render(part: Any, components: dict[str, Any]) -> Any:
    """Write a part as JSON Schema, with references to named shapes.

    Args:
        part: a part, or any JSON value within one.
        components: filled with the schema of each shape by its name.

    Raises:
        ValueError: two different shapes have one name.
    """
    if isinstance(part, Shape):
        written = {
            "type": "object",
            "properties": {
                name: render(member, components) for name, member in part.members.items()
            },
            "required": [name for name in part.members if name not in part.optional],
            "additionalProperties": False,
        }
        if components.setdefault(part.name, written) != written:
            raise ValueError(f"seen two different shapes named {part.name}, expected one")
        return {"$ref": f"#/components/schemas/{part.name}"}
    if isinstance(part, Mapping):
        return {name: render(value, components) for name, value in part.items()}
    if isinstance(part, list | tuple):
        return [render(value, components) for value in part]
    return part
