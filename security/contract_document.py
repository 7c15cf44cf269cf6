"""Reads an OpenAPI document: what it describes, and how that is made fit to be tried."""

from __future__ import annotations

import copy
import functools
import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

POLICY: Final = Path(__file__).parent / "profiles" / "api-contract.toml"
_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_NAME: Final = re.compile(r"\{[^{}]*\}")
# Unknown query parameters are ignored (R1.7), so one may always be sent.
_UNKNOWN: Final = {"name": "trial", "in": "query", "required": False, "schema": {"type": "string"}}
# A text that holds each of some classes, in any order: ^(?=[\s\S]*[A-Z])(?=[\s\S]*[0-9])[\s\S]*$.
# With a dot in place of [\s\S] it says something else where a class holds the end of a line.
_ANY: Final = r"[\s\S]*"
_LOOKAHEAD: Final = re.compile(rf"\(\?={re.escape(_ANY)}(\[[^\]]+\])\)")
_ALL_OF: Final = re.compile(rf"\^((?:\(\?=[^)]*\))+){re.escape(_ANY)}\$")
_MOST_CLASSES: Final = 4  # 24 orders


class Row(msgspec.Struct, frozen=True):
    """One operation of the contract's tables.

    Attributes:
        rule: its number.
        asker: ``user`` or ``admin``: who can reach what lies behind the role.
        part: of the target file's ``[parts]``; empty: every target has it.
    """

    rule: str
    asker: str = msgspec.field(name="as")
    part: str = ""


class Rule(msgspec.Struct, frozen=True):
    """A rule that a document cannot say; see the policy file for each field."""

    rule: str
    says: str
    calls: tuple[str, ...]
    code: str
    at: tuple[str, ...] = ()
    issues: tuple[str, ...] = ()
    check: str = "positive_data_acceptance"
    status: int = 400


class Policy(msgspec.Struct, frozen=True):
    """The contract's operations by call (``METHOD /path/{}``), and the rules beyond OpenAPI."""

    version: str
    operations: dict[str, Row]
    rules: tuple[Rule, ...]


class Operation(msgspec.Struct, frozen=True):
    """What a document says of one operation.

    Attributes:
        label: ``METHOD /path/{name}`` as the document writes it.
        has_input: it takes a parameter or a body.
        is_public: it asks for no credentials.
    """

    label: str
    has_input: bool
    is_public: bool


class NotADocument(ValueError):
    """The text is no OpenAPI 3 document with operations; says what was seen instead."""


@functools.cache
def policy() -> Policy:
    """The contract's table, with parameters of paths unnamed."""
    read = msgspec.convert(tomllib.loads(POLICY.read_text(encoding="utf-8")), Policy)
    return Policy(
        read.version,
        {unnamed(call): row for call, row in read.operations.items()},
        tuple(
            msgspec.structs.replace(rule, calls=tuple(unnamed(call) for call in rule.calls))
            for rule in read.rules
        ),
    )


def unnamed(label: str) -> str:
    """A label with its path parameters unnamed: names are the document's own business."""
    return _NAME.sub("{}", label)


def decode(text: bytes) -> dict[str, Any]:
    """Read a document.

    Raises:
        NotADocument: it is not JSON, not OpenAPI 3, or describes nothing.
    """
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise NotADocument(f"seen {text[:60]!r}, expected JSON ({error})") from error
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3."):
        raise NotADocument(f"seen {text[:60]!r}, expected an object with openapi 3")
    if not isinstance(document.get("paths"), dict) or not list(operations(document)):
        raise NotADocument("seen an OpenAPI document without operations, expected some")
    return document


def operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    """Every operation of a document, in its order."""
    for path, item in document["paths"].items():
        for method in _METHODS:
            operation = item.get(method) if isinstance(item, dict) else None
            if not isinstance(operation, dict):
                continue
            parameters = [*item.get("parameters", ()), *operation.get("parameters", ())]
            security = operation.get("security", document.get("security"))
            yield Operation(
                f"{method.upper()} {path}",
                has_input=bool(parameters) or "requestBody" in operation,
                is_public=not security or {} in security,
            )


def prepared(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document, fit to be tried: it says the same.

    Wherever an operation takes neither a query nor a body it gets a parameter to vary (its path has
    only so many values), and patterns that look ahead are written as alternatives.
    """
    fit: dict[str, Any] = _spelt_out(copy.deepcopy(dict(document)))
    for item in fit["paths"].values():
        for operation in (item.get(method) for method in _METHODS):
            if not isinstance(operation, dict) or "requestBody" in operation:
                continue
            own = operation.get("parameters", [])
            if not any(one.get("in") == "query" for one in [*item.get("parameters", ()), *own]):
                operation["parameters"] = [*own, dict(_UNKNOWN)]
    return fit


def _spelt_out(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: spelt_out(inner)
            if key == "pattern" and isinstance(inner, str)
            else _spelt_out(inner)
            for key, inner in value.items()
        }
    return [_spelt_out(inner) for inner in value] if isinstance(value, list) else value


def spelt_out(pattern: str) -> str:
    """A pattern of lookaheads as the alternatives it stands for; any other as it is.

    A generator finds strings for the former only by trying at random: half a minute of CPU time.
    """
    found = _ALL_OF.fullmatch(pattern)
    classes = _LOOKAHEAD.findall(found[1]) if found else []
    if found is None or len(classes) != found[1].count("(?=") or len(classes) > _MOST_CLASSES:
        return pattern
    orders = itertools.permutations(classes)
    return f"^(?:{'|'.join(_ANY + _ANY.join(order) + _ANY for order in orders)})$"
