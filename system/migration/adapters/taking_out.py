"""Takes out of a new database what the import put in, and stops where later rows hang on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from system.migration.adapters.connections import Connection
from system.migration.adapters.target_database import ids_of
from system.migration.domain.errors import LaterRowsDepend

_LISTED: Final = 20


@dataclass(frozen=True)
class Dependence:
    """Rows of `table` whose `column` names a row of `on`; `key` names them to people."""

    table: str
    column: str
    on: str
    key: str


# Asked of the database itself, so that a table that is added later is not forgotten.
_FOREIGN_KEYS: Final = """
SELECT child.relname, own.attname, parent.relname, coalesce(first.attname, own.attname)
FROM pg_constraint rule
JOIN pg_class child ON child.oid = rule.conrelid
JOIN pg_class parent ON parent.oid = rule.confrelid
JOIN pg_attribute own ON own.attrelid = child.oid AND own.attnum = rule.conkey[1]
LEFT JOIN pg_index key ON key.indrelid = child.oid AND key.indisprimary
LEFT JOIN pg_attribute first ON first.attrelid = child.oid AND first.attnum = key.indkey[0]
WHERE rule.contype = 'f' AND parent.relname = ANY(%s)
  AND parent.relnamespace = 'public'::regnamespace
ORDER BY 1, 2
"""

# Children first, each with the column that names its rows.
_TABLES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "auth": (("refresh_tokens", "id"), ("sessions", "id"), ("users", "id")),
    "payments": (("payment_transactions", "id"), ("payments", "id"), ("users", "id")),
    "admin": (("audit_logs", "id"), ("system_config", "key"), ("users", "id")),
    "profile": (("user_profiles", "id"),),
}
_INSERT_ONLY: Final = ("audit_logs", "audit_logs_insert_only")  # R2.16


def take_out(connection: Connection, service: str) -> dict[str, int]:
    """Remove what the import put in, children first, and the book (R9.11).

    Returns:
        removed rows by table.

    Raises:
        LaterRowsDepend: rows that came after the import hang on imported ones.
    """
    tables = _TABLES[service]
    names = {name for name, _ in tables}
    rules = [
        Dependence(*row) for row in connection.execute(_FOREIGN_KEYS, (sorted(names),)).fetchall()
    ]
    names |= {rule.table for rule in rules}
    connection.execute(
        sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(
            sql.SQL(", ").join(sql.Identifier(name) for name in sorted(names))
        )
    )
    connection.execute("ANALYZE legacy_migration.imported")
    _refuse_dependents(connection, service, rules)
    removed: dict[str, int] = {}
    for table, key in tables:
        with _rewritable(connection, table):
            removed[table] = connection.execute(
                sql.SQL(
                    """DELETE FROM {table} t USING legacy_migration.imported i
                       WHERE i.table_name = {word} AND i.row_id = t.{key}"""
                ).format(
                    table=sql.Identifier(table), word=sql.Literal(table), key=sql.Identifier(key)
                )
            ).rowcount
    connection.execute("DROP SCHEMA legacy_migration CASCADE")
    return removed


@contextlib.contextmanager
def _rewritable(connection: Connection, table: str) -> Iterator[None]:
    """The audit log takes inserts only; its owner lifts that inside this transaction alone."""
    if table != _INSERT_ONLY[0]:
        yield
        return
    place = {"table": sql.Identifier(table), "trigger": sql.Identifier(_INSERT_ONLY[1])}
    connection.execute(sql.SQL("ALTER TABLE {table} DISABLE TRIGGER {trigger}").format(**place))
    yield
    connection.execute(sql.SQL("ALTER TABLE {table} ENABLE TRIGGER {trigger}").format(**place))


def _refuse_dependents(connection: Connection, service: str, rules: Sequence[Dependence]) -> None:
    lines: list[str] = []
    for rule in rules:
        found = ids_of(
            connection,
            sql.SQL(
                """SELECT t.{key} FROM {table} t
                   JOIN legacy_migration.imported i ON i.table_name = {on} AND i.row_id = t.{column}
                   WHERE NOT EXISTS (SELECT FROM legacy_migration.imported own
                                     WHERE own.table_name = {word} AND own.row_id = t.{key})
                   ORDER BY 1"""
            ).format(
                key=sql.Identifier(rule.key),
                table=sql.Identifier(rule.table),
                on=sql.Literal(rule.on),
                column=sql.Identifier(rule.column),
                word=sql.Literal(rule.table),
            ),
        )
        if found:
            shown = ", ".join(found[:_LISTED]) + (" …" if len(found) > _LISTED else "")
            lines.append(f"  {len(found)} of {rule.table} by {rule.column}: {shown}")
    if lines:
        raise LaterRowsDepend(
            f"rows that came after the import hang on imported rows of {service}; "
            "nothing was removed:\n"
            + "\n".join(lines)
            + "\nremove these first, or restore the backup from before the import"
        )
