"""One of the four new databases: staging, putting in, and the book of what was put in.

The import keeps its book in a schema of its own, `legacy_migration`, which the service's role
cannot see: `imported` has a row for each row that was put in, `runs` what was done and when. It is
written in the transaction of the import, so that it is never wrong, and goes with the rollback.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from psycopg import Copy, sql

from system.migration.adapters.connections import Connection
from system.migration.domain.canonical import canonical
from system.migration.domain.entities import REFRESH_TOKENS, Column, Form, Import
from system.migration.domain.errors import Occupied, RowFault

_LOCK: Final = 0x5EA7_41A2  # any number nobody else takes

_BOOK: Final = """
CREATE SCHEMA IF NOT EXISTS legacy_migration;
CREATE TABLE IF NOT EXISTS legacy_migration.imported (
    table_name text NOT NULL,
    row_id     text NOT NULL,
    PRIMARY KEY (table_name, row_id)
);
CREATE TABLE IF NOT EXISTS legacy_migration.runs (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    what   text NOT NULL CHECK (what IN ('import', 'validate')),
    at     timestamptz(3) NOT NULL DEFAULT now(),
    good   boolean NOT NULL,
    counts jsonb NOT NULL
);
"""


@dataclass(frozen=True)
class Outcome:
    """What an import did with the rows of one kind.

    Attributes:
        title: which kind.
        imported: rows that were put in.
        unchanged: rows that were there already.
        different: ids of rows that are there with other content.
        gone: ids of rows that an earlier import put in and somebody deleted since.
    """

    title: str
    imported: int
    unchanged: int
    different: tuple[str, ...]
    gone: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """The last import or validation: when (R0.4), whether all was well, counts by title."""

    at: str
    good: bool
    counts: dict[str, int]


def begin(connection: Connection) -> None:
    """Keep other migration commands out until the transaction ends.

    Raises:
        Occupied: one is at work.
    """
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,)).fetchone()
    if not row or not row[0]:
        raise Occupied(
            f"another migration command works on {connection.info.dbname}; "
            "wait until it has ended, then try again"
        )


# --- Import ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def staging(connection: Connection, rows: Import) -> Iterator[Copy]:
    """Where incoming rows wait; take each with `stage`."""
    names = _names(rows.columns)
    staged = _staged(rows)
    connection.execute(
        sql.SQL(
            "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA"
        ).format(staged, names, sql.Identifier(rows.table))
    )
    with (
        connection.cursor() as cursor,
        cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(staged, names)) as copy,
    ):
        yield copy
    connection.execute(sql.SQL("ANALYZE {}").format(staged))


def stage(copy: Copy, columns: Iterable[Column], row: dict[str, Any]) -> None:
    """Hand over one row that fits its columns."""
    copy.write_row([_sent(column, row[column.key]) for column in columns])


def conflicts(connection: Connection, rows: Import, *, with_references: bool) -> list[RowFault]:
    """Staged rows that break a constraint with each other or with rows that are there.

    Args:
        with_references: whether foreign keys are looked at, too.
    """
    found: list[RowFault] = []
    key = rows.source.key
    for name in (key, *rows.unique):
        found += _faults(
            connection,
            rows,
            f"{name} is there more than once among the legacy rows",
            sql.SQL(
                """SELECT {key} FROM {staged} WHERE {name} IN (
                       SELECT {name} FROM {staged} GROUP BY {name} HAVING count(*) > 1
                   ) ORDER BY {name}, {key}"""
            ),
            name=name,
        )
    for name in rows.unique:
        found += _faults(
            connection,
            rows,
            f"{name} belongs to another row of {rows.title} already",
            sql.SQL(
                """SELECT s.{key} FROM {staged} s JOIN {table} t USING ({name})
                   WHERE t.{key} <> s.{key} ORDER BY 1"""
            ),
            name=name,
        )
    for reference in rows.source.references if with_references else ():
        found += _faults(
            connection,
            rows,
            f"{reference.column} names none of the {reference.table}",
            sql.SQL(
                """SELECT s.{key} FROM {staged} s WHERE s.{name} IS NOT NULL
                   AND NOT EXISTS (SELECT FROM {other} o WHERE o.id = s.{name})
                   AND NOT EXISTS (SELECT FROM {other_staged} o WHERE o.id = s.{name})
                   ORDER BY 1"""
            ),
            name=reference.column,
            other=reference.table,
        )
    if any(column.name == "email" for column in rows.columns):
        found += _faults(
            connection,
            rows,
            "email has letters that the database lower-cases in another way",
            sql.SQL("SELECT {key} FROM {staged} WHERE {name} <> lower({name}) ORDER BY 1"),
            name="email",
        )
    return found


def put_in(connection: Connection, rows: Import) -> Outcome:
    """Put the staged rows in that are not there, and write them into the book."""
    connection.execute(_BOOK)
    places = _places(rows)
    different = ids_of(
        connection,
        sql.SQL(
            """SELECT s.{key} FROM {staged} s JOIN {table} t USING ({key})
               WHERE ROW({mine}) IS DISTINCT FROM ROW({theirs}) ORDER BY 1"""
        ).format(
            **places,
            mine=_names(rows.columns, "s"),
            theirs=_names(rows.columns, "t"),
        ),
    )
    gone = ids_of(
        connection,
        sql.SQL(
            """SELECT s.{key} FROM {staged} s
               JOIN legacy_migration.imported i ON i.table_name = {word} AND i.row_id = s.{key}
               WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.{key} = s.{key}) ORDER BY 1"""
        ).format(**places),
    )
    if rows.source is REFRESH_TOKENS:
        _put_sessions_in(connection, places)
    imported = connection.execute(
        sql.SQL(
            """WITH put AS (
                   INSERT INTO {table} ({names})
                   SELECT {names} FROM {staged} s
                   WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.{key} = s.{key})
                     AND NOT EXISTS (SELECT FROM legacy_migration.imported i
                                     WHERE i.table_name = {word} AND i.row_id = s.{key})
                   RETURNING {key}
               )
               INSERT INTO legacy_migration.imported SELECT {word}, {key} FROM put"""
        ).format(**places, names=_names(rows.columns))
    ).rowcount
    row = connection.execute(sql.SQL("SELECT count(*) FROM {staged}").format(**places)).fetchone()
    staged = int(row[0]) if row else 0
    return Outcome(
        rows.title, imported, staged - imported - len(different) - len(gone), different, gone
    )


def _put_sessions_in(connection: Connection, places: dict[str, sql.Composable]) -> None:
    """R9.7: each token arrives with a session of its own that is revoked."""
    connection.execute(
        sql.SQL(
            """WITH put AS (
                   INSERT INTO sessions
                       (id, user_id, created_at, last_used_at, expires_at, revoked_at,
                        revoke_reason)
                   SELECT token_family, user_id, created_at, created_at, expires_at, now(),
                          'session_revoked'
                   FROM {staged} s
                   WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.{key} = s.{key})
                     AND NOT EXISTS (SELECT FROM sessions t WHERE t.id = s.token_family)
                     AND NOT EXISTS (SELECT FROM legacy_migration.imported i
                                     WHERE i.table_name = {word} AND i.row_id = s.{key})
                   RETURNING id
               )
               INSERT INTO legacy_migration.imported SELECT 'sessions', id FROM put"""
        ).format(**places)
    )


# --- The book -------------------------------------------------------------------------------------


def has_book(connection: Connection) -> bool:
    """Whether something was imported and not rolled back."""
    row = connection.execute("SELECT to_regclass('legacy_migration.imported')").fetchone()
    return bool(row and row[0])


def note(connection: Connection, what: str, *, good: bool, counts: dict[str, int]) -> None:
    """Write down that an import or a validation was done."""
    connection.execute(
        "INSERT INTO legacy_migration.runs (what, good, counts) VALUES (%s, %s, %s::jsonb)",
        (what, good, json.dumps(counts)),
    )


def last_run(connection: Connection, what: str) -> Run | None:
    """The last import or validation; None if there was none."""
    if not has_book(connection):
        return None
    row = connection.execute(
        """SELECT to_char(at::timestamp(3), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), good, counts
           FROM legacy_migration.runs WHERE what = %s ORDER BY number DESC LIMIT 1""",
        (what,),
    ).fetchone()
    return Run(*row) if row else None


def book(connection: Connection) -> dict[str, int]:
    """How many rows were put into each table."""
    if not has_book(connection):
        return {}
    return {
        name: int(number)
        for name, number in connection.execute(
            "SELECT table_name, count(*) FROM legacy_migration.imported GROUP BY 1 ORDER BY 1"
        )
    }


# --- Parts of statements --------------------------------------------------------------------------


def _names(columns: Iterable[Column], prefix: str = "") -> sql.Composable:
    parts = [
        sql.Identifier(prefix, column.name) if prefix else sql.Identifier(column.name)
        for column in columns
    ]
    return sql.SQL(", ").join(parts)


def _staged(rows: Import) -> sql.Identifier:
    return sql.Identifier(f"incoming_{rows.table}")


def _places(rows: Import) -> dict[str, sql.Composable]:
    return {
        "staged": _staged(rows),
        "table": sql.Identifier(rows.table),
        "key": sql.Identifier(rows.source.key),
        "word": sql.Literal(rows.table),
    }


def _sent(column: Column, value: Any) -> Any:
    if column.form is Form.OBJECT or (column.form is Form.JSON and value is not None):
        return canonical(value)
    if column.form is Form.JSON and not column.optional:
        return "null"  # a JSON null where the column takes no SQL null
    return value


def ids_of(connection: Connection, statement: sql.Composed) -> tuple[str, ...]:
    """The first column of a query's rows."""
    return tuple(str(row[0]) for row in connection.execute(statement))


def _faults(
    connection: Connection,
    rows: Import,
    problem: str,
    statement: sql.SQL,
    *,
    name: str,
    other: str = "",
) -> Sequence[RowFault]:
    places = _places(rows) | {"name": sql.Identifier(name)}
    if other:
        places |= {
            "other": sql.Identifier(other),
            "other_staged": sql.Identifier(f"incoming_{other}"),
        }
    return [
        RowFault(rows.source.name, row_id, problem)
        for row_id in ids_of(connection, statement.format(**places))
    ]
