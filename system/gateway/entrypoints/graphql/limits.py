"""Judges a GraphQL document before anything of it runs (R10.5, R10.6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    get_named_type,
    value_from_ast_untyped,
)

from system.gateway.domain.paging import DEFAULT_SIZE

DOCUMENT_LIMIT: Final = 10_240  # bytes
DEPTH_LIMIT: Final = 8
COST_LIMIT: Final = 5_000
ALIAS_LIMIT: Final = 10
ROOT_FIELD_LIMIT: Final = 10
# Validation compares fields of one name in one place pair by pair; beyond this it takes seconds.
_SAME_NAME_LIMIT: Final = 100
CREDENTIAL_FIELDS: Final = frozenset({"login", "register", "refreshToken"})
_INTROSPECTION: Final = frozenset({"__schema", "__type"})
_CONNECTION: Final = "Connection"


class TooMuch(Exception):
    """A document asks for too much.

    Attributes:
        code: of R10.5.
        message: seen and allowed.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Measure:
    """How much a selection asks for, fragments counted where they are used.

    Attributes:
        depth: of fields inside each other.
        cost: R10.5.
        aliases: fields that are renamed.
    """

    depth: int = 0
    cost: int = 0
    aliases: int = 0

    def beside(self, other: Measure) -> Measure:
        """Both in one selection."""
        return Measure(
            max(self.depth, other.depth), self.cost + other.cost, self.aliases + other.aliases
        )


class Gauge:
    """Measures the operations of one document.

    Args:
        schema: says which fields are connections.
        document: parsed, perhaps not valid.
        variables: as sent.
    """

    def __init__(
        self, schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, Any]
    ) -> None:
        self._schema = schema
        self._fragments = {
            definition.name.value: definition
            for definition in document.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }
        self._operations = [
            definition
            for definition in document.definitions
            if isinstance(definition, OperationDefinitionNode)
        ]
        self._variables = variables
        self._known: dict[str, Measure] = {}
        self._open: set[str] = set()
        self._defaults: Mapping[str, Any] = {}

    def check(self) -> None:
        """Refuse what asks for too much.

        Raises:
            TooMuch: as named by its code.
        """
        credentials = 0
        for operation in self._operations:
            self._known.clear()
            self._defaults = {
                definition.variable.name.value: value_from_ast_untyped(definition.default_value)
                for definition in operation.variable_definitions or ()
                if definition.default_value is not None
            }
            roots = self.roots(operation)
            credentials += sum(count for name, count in roots.items() if name in CREDENTIAL_FIELDS)
            self._judge(operation, sum(roots.values()))
        if credentials > 1:
            raise TooMuch(
                "TOO_MANY_ROOT_FIELDS",
                "At most one of login, register and refreshToken is allowed in a document",
            )

    def roots(self, operation: OperationDefinitionNode) -> Counter[str]:
        """The root fields of an operation and how often each is asked for."""
        return self._roots(operation.selection_set, frozenset(), [0])

    def _roots(
        self, selection: SelectionSetNode, inside: frozenset[str], visited: list[int]
    ) -> Counter[str]:
        found: Counter[str] = Counter()
        for node in selection.selections:
            visited[0] += 1
            if visited[0] > COST_LIMIT:
                raise TooMuch("TOO_MANY_ROOT_FIELDS", f"More than {ROOT_FIELD_LIMIT} root fields")
            if isinstance(node, FieldNode):
                found[node.name.value] += 1
            elif isinstance(node, InlineFragmentNode):
                found += self._roots(node.selection_set, inside, visited)
            elif isinstance(node, FragmentSpreadNode):
                name = node.name.value
                fragment = self._fragments.get(name)
                if fragment is not None and name not in inside:
                    found += self._roots(fragment.selection_set, inside | {name}, visited)
        return found

    def _judge(self, operation: OperationDefinitionNode, roots: int) -> None:
        root = self._schema.get_root_type(operation.operation)
        measured = self._selection(operation.selection_set, root)
        for code, seen, allowed, what in (
            ("TOO_MANY_ROOT_FIELDS", roots, ROOT_FIELD_LIMIT, "root fields"),
            ("TOO_MANY_ALIASES", measured.aliases, ALIAS_LIMIT, "aliases"),
            ("QUERY_TOO_DEEP", measured.depth, DEPTH_LIMIT, "levels of fields"),
            ("QUERY_TOO_COMPLEX", measured.cost, COST_LIMIT, "points of cost"),
        ):
            if seen > allowed:
                raise TooMuch(code, f"The query has {seen} {what}, at most {allowed} are allowed")

    def _selection(self, selection: SelectionSetNode, parent: Any) -> Measure:
        names = Counter(islice(self._names(selection, frozenset()), COST_LIMIT))
        del names[None]
        if names and max(names.values()) > _SAME_NAME_LIMIT:
            raise TooMuch(
                "QUERY_TOO_COMPLEX",
                f"More than {_SAME_NAME_LIMIT} fields of one name in one selection",
            )
        whole = Measure()
        for node in selection.selections:
            if isinstance(node, FieldNode):
                whole = whole.beside(self._field(node, parent))
            elif isinstance(node, InlineFragmentNode):
                condition = node.type_condition
                inner = self._type(condition.name.value) if condition else parent
                whole = whole.beside(self._selection(node.selection_set, inner))
            elif isinstance(node, FragmentSpreadNode):
                whole = whole.beside(self._fragment(node.name.value))
        return whole

    def _names(self, selection: SelectionSetNode, inside: frozenset[str]) -> Iterator[str | None]:
        """The names under which fields of one selection answer, its fragments' fields too.

        None stands for a step to a fragment, so that steps can be limited as well as names.
        """
        for node in selection.selections:
            if isinstance(node, FieldNode):
                yield (node.alias or node.name).value
            elif isinstance(node, InlineFragmentNode):
                yield from self._names(node.selection_set, inside)
            elif isinstance(node, FragmentSpreadNode):
                yield None
                name = node.name.value
                fragment = self._fragments.get(name)
                if fragment is not None and name not in inside:
                    yield from self._names(fragment.selection_set, inside | {name})

    def _field(self, node: FieldNode, parent: Any) -> Measure:
        alias = int(node.alias is not None)
        name = node.name.value
        if name in _INTROSPECTION:
            # Free of the limits where it is allowed (R10.7).
            return Measure(aliases=alias)
        child: Any = None
        if isinstance(parent, GraphQLObjectType) and name in parent.fields:
            child = get_named_type(parent.fields[name].type)
        if node.selection_set is None:
            return Measure(1, 1, alias)
        inner = self._selection(node.selection_set, child)
        times = 1
        if isinstance(child, GraphQLObjectType) and child.name.endswith(_CONNECTION):
            times = self._times(node)
        return Measure(inner.depth + 1, 1 + times * inner.cost, inner.aliases + alias)

    def _fragment(self, name: str) -> Measure:
        known = self._known.get(name)
        if known is not None:
            return known
        fragment = self._fragments.get(name)
        if fragment is None or name in self._open:
            return Measure()  # unknown, or inside itself: not valid anyway
        self._open.add(name)
        try:
            condition = self._type(fragment.type_condition.name.value)
            measured = self._selection(fragment.selection_set, condition)
        finally:
            self._open.discard(name)
        self._known[name] = measured
        return measured

    def _type(self, name: str) -> Any:
        return self._schema.type_map.get(name)

    def _times(self, node: FieldNode) -> int:
        """How often the selection below a connection counts."""
        for argument in node.arguments or ():
            if argument.name.value == "input":
                given = value_from_ast_untyped(
                    argument.value, {**self._defaults, **self._variables}
                )
                if isinstance(given, dict):
                    for size in (given.get("first"), given.get("last")):
                        if isinstance(size, int):
                            return max(size, 1)
        return DEFAULT_SIZE
