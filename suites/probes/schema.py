"""A database's schema as it is, and the policy it is held to (contract section 2)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import psycopg

POLICY = Path(__file__).parents[1] / "profiles" / "schema.toml"
_ACTIONS = {"a": "no action", "r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}

_COLUMNS = """
SELECT c.relname, a.attname, t.typname, NOT a.attnotnull,
       a.atthasdef OR a.attidentity <> ''
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attnum > 0 AND NOT a.attisdropped
ORDER BY c.relname, a.attnum
"""
# Columns in the order of the index; a partial one does not index the whole table.
_INDEXES = """
SELECT c.relname, i.indisprimary, i.indisunique, i.indpred IS NOT NULL,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY k(num, place)
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num ORDER BY k.place)
FROM pg_index i
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
ORDER BY c.relname, i.indexrelid
"""
_FOREIGN = """
SELECT c.relname, a.attname, f.relname, k.confdeltype::text
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_class f ON f.oid = k.confrelid
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1]
WHERE k.contype = 'f'
ORDER BY c.relname, a.attname
"""
_ENUMS = """
SELECT t.typname, array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid GROUP BY t.typname ORDER BY t.typname
"""
# PostgreSQL's own names → the contract's.
_TYPES = {"int4": "integer", "int8": "bigint", "bool": "boolean"}


class Column(msgspec.Struct, frozen=True):
    """What the policy says of a column; ``kind`` is ``*`` where any type will do."""

    kind: str
    nullable: bool = False
    primary: bool = False
    unique: bool = False
    indexed: bool = False
    default: bool = False
    foreign: tuple[str, str] | None = None


class Table(msgspec.Struct, frozen=True):
    """What the policy says of a table."""

    columns: dict[str, Column]
    unique: tuple[tuple[str, ...], ...] = ()
    check: Mapping[str, str] = {}
    sample: Mapping[str, str] = {}
    insert_only: bool = False

    @property
    def primary_key(self) -> tuple[str, ...]:
        """Its columns."""
        return tuple(name for name, column in self.columns.items() if column.primary)

    @property
    def unique_sets(self) -> tuple[tuple[str, ...], ...]:
        """Every set of columns that identifies a row."""
        single = tuple((name,) for name, column in self.columns.items() if column.unique)
        return (self.primary_key, *single, *self.unique)


class Policy(msgspec.Struct, frozen=True):
    """What the policy says of a database."""

    tables: dict[str, Table]
    enums: dict[str, list[str]]


def policies(path: Path = POLICY) -> dict[str, Policy]:
    """Service → the policy of its database."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    every = document.pop("every")["tables"]
    return {
        service: Policy(
            {name: _table(given) for name, given in {**said["tables"], **every}.items()},
            said.get("enums", {}),
        )
        for service, said in document.items()
    }


def _table(given: Mapping[str, Any]) -> Table:
    return Table(
        columns={name: column(text) for name, text in given["columns"].items()},
        unique=tuple(tuple(names) for names in given.get("unique", ())),
        check=given.get("check", {}),
        sample=given.get("sample", {}),
        insert_only=given.get("insert_only", False),
    )


def column(text: str) -> Column:
    """Read a column in the policy's notation.

    Raises:
        ValueError: a flag that the notation does not have.
    """
    before, _, action = text.partition("FK=")
    kind, *flags = before.split()
    if unknown := set(flags) - {"PK", "U", "I", "D"}:
        raise ValueError(f"column {text!r}: unknown flags {sorted(unknown)}")
    table, _, does = action.partition(":")
    return Column(
        kind=kind.rstrip("?"),
        nullable=kind.endswith("?"),
        primary="PK" in flags,
        unique="U" in flags,
        indexed="I" in flags,
        default="D" in flags,
        foreign=(table, does) if action else None,
    )


def read(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """The schema as plain values: columns, indexes, foreign keys, enums."""
    columns: dict[str, dict[str, Any]] = {}
    for table, name, kind, nullable, default in connection.execute(_COLUMNS):
        columns.setdefault(table, {})[name] = {
            "kind": _TYPES.get(kind, kind),
            "nullable": nullable,
            "default": default,
        }
    return {
        "columns": columns,
        "indexes": [
            {"table": t, "primary": p, "unique": u, "partial": part, "columns": list(c)}
            for t, p, u, part, c in connection.execute(_INDEXES)
        ],
        "foreign": [
            {"table": t, "column": c, "references": f, "delete": _ACTIONS[a]}
            for t, c, f, a in connection.execute(_FOREIGN)
        ],
        "enums": {name: list(labels) for name, labels in connection.execute(_ENUMS)},
    }
