"""Judges a GraphQL document before anything of it runs (R10.5, R10.6)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from graphql import (
    DocumentNode,
    ExecutableDefinitionNode,
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
# What validation does grows with the square of these, or faster: without limits a document of
# 10 kB keeps a process busy for a second.
DEFINITION_LIMIT: Final = 50
SPREAD_LIMIT: Final = 100
# Validation compares fields of one name in one place pair by pair.
_SAME_NAME_LIMIT: Final = 100
# Fields of all definitions, each fragment counted once in each place: far more than 10 kB hold.
_STEP_LIMIT: Final = 2 * COST_LIMIT
CREDENTIAL_FIELDS: Final = frozenset({"login", "register", "refreshToken"})
_INTROSPECTION: Final = frozenset({"__schema", "__type"})
_CONNECTION: Final = "Connection"

# A selection, and the fragments it lies in.
_Part = tuple[SelectionSetNode, frozenset[str]]


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
        self._definitions = document.definitions
        self._steps = 0

    def check(self) -> None:
        """Refuse what asks for too much.

        Raises:
            TooMuch: as named by its code.
        """
        self._check_size()
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

    def _check_size(self) -> None:
        if len(self._definitions) > DEFINITION_LIMIT:
            raise TooMuch(
                "QUERY_TOO_COMPLEX",
                f"The document has {len(self._definitions)} operations and fragments, "
                f"at most {DEFINITION_LIMIT} are allowed",
            )
        spreads = 0
        parts = [
            definition.selection_set
            for definition in self._definitions
            if isinstance(definition, ExecutableDefinitionNode)
        ]
        for definition in list(parts):
            self._check_places([(definition, frozenset())])
        while parts:
            for node in parts.pop().selections:
                if isinstance(node, FragmentSpreadNode):
                    spreads += 1
                elif isinstance(node, FieldNode | InlineFragmentNode) and node.selection_set:
                    parts.append(node.selection_set)
        if spreads > SPREAD_LIMIT:
            raise TooMuch(
                "QUERY_TOO_COMPLEX",
                f"The document has {spreads} uses of fragments, at most {SPREAD_LIMIT} are allowed",
            )

    def _check_places(self, place: Sequence[_Part]) -> None:
        """Refuse what answers under one name in one place too often, there and below.

        Args:
            place: the selections whose fields answer in it.
        """
        fields: defaultdict[str, list[_Part]] = defaultdict(list)
        sizes: Counter[str] = Counter()
        todo, met = list(place), set[str]()
        while todo:
            selection, inside = todo.pop()
            for node in selection.selections:
                self._steps += 1
                if isinstance(node, FieldNode):
                    name = (node.alias or node.name).value
                    sizes[name] += 1
                    if node.selection_set is not None:
                        fields[name].append((node.selection_set, inside))
                elif isinstance(node, InlineFragmentNode):
                    todo.append((node.selection_set, inside))
                elif isinstance(node, FragmentSpreadNode):
                    spread = node.name.value
                    fragment = self._fragments.get(spread)
                    if fragment is not None and spread not in met and spread not in inside:
                        met.add(spread)
                        todo.append((fragment.selection_set, inside | {spread}))
        if self._steps > _STEP_LIMIT or (sizes and max(sizes.values()) > _SAME_NAME_LIMIT):
            raise TooMuch(
                "QUERY_TOO_COMPLEX",
                f"More than {_SAME_NAME_LIMIT} fields of one name in one selection",
            )
        for below in fields.values():
            self._check_places(below)

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
