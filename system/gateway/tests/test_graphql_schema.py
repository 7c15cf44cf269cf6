"""The schema that runs is the schema of the contract (R10.1)."""

from __future__ import annotations

from pathlib import Path

from graphql import (
    DocumentNode,
    FieldDefinitionNode,
    ObjectTypeDefinitionNode,
    build_schema,
    parse,
    print_schema,
    validate,
)
from graphql.utilities import lexicographic_sort_schema

from system.gateway.entrypoints.graphql.endpoint import EXAMPLE
from system.gateway.entrypoints.graphql.schema import SCHEMA

AGREED = Path(__file__).parents[1] / "schema.graphql"


def directives(document: DocumentNode) -> dict[str, list[str]]:
    """The directives of each field that has any."""
    return {
        f"{definition.name.value}.{field.name.value}": [
            directive.name.value for directive in field.directives
        ]
        for definition in document.definitions
        if isinstance(definition, ObjectTypeDefinitionNode)
        for field in definition.fields or ()
        if isinstance(field, FieldDefinitionNode) and field.directives
    }


def test_r10_1_the_schema_is_the_agreed_one() -> None:
    """Types, fields, arguments, nullability, enums and scalars; order does not matter."""
    agreed = build_schema(AGREED.read_text(encoding="utf-8"))
    ours = build_schema(SCHEMA.as_str())
    assert print_schema(lexicographic_sort_schema(ours)) == print_schema(
        lexicographic_sort_schema(agreed)
    )


def test_r10_1_auth_and_admin_stand_where_agreed() -> None:
    """The directives of each field, in order."""
    agreed = directives(parse(AGREED.read_text(encoding="utf-8")))
    assert agreed["Query.users"] == ["auth", "admin"]
    assert directives(parse(SCHEMA.as_str())) == agreed


def test_r10_8_the_example_is_valid() -> None:
    """What GET shows can be sent."""
    assert validate(build_schema(SCHEMA.as_str()), parse(EXAMPLE)) == []
