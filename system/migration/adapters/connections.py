"""Connections to the legacy database and to the four targets, and how their rows are read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg import sql
from psycopg.types.json import set_json_loads

from system.migration.domain.canonical import Inexact, parse
from system.migration.domain.entities import Column, Form
from system.migration.domain.errors import DatabaseAway, MigrationFailed

_CONNECT_S: Final = 10
_LOCK_TIMEOUT: Final = "30s"
_FETCH: Final = 1000
_MOMENT: Final = """to_char(({})::timestamp(3), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Address:
    """Where a database is, without its password.

    Attributes:
        name: what people call it: auth_db, legacy.
        variable: the environment variable that holds the URL.
        url: with the password; never shown.
    """

    name: str
    variable: str
    url: str

    def __repr__(self) -> str:
        return f"Address({self.shown})"

    @property
    def shown(self) -> str:
        """Host, port and database."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or 5432}{unquote(parts.path)}"


@contextlib.contextmanager
def connected(address: Address) -> Iterator[Connection]:
    """A connection in the time zone UTC, closed with the block; nothing is committed by itself.

    Raises:
        DatabaseAway: the server does not answer or does not let us in.
        MigrationFailed: a statement failed inside the block; the transaction is undone.
    """
    try:
        connection = psycopg.connect(
            address.url,
            connect_timeout=_CONNECT_S,
            application_name="migrate",
            options=f"-c timezone=UTC -c lock_timeout={_LOCK_TIMEOUT} -c search_path=public",
        )
    except psycopg.OperationalError as error:
        raise DatabaseAway(
            f"{address.name} at {address.shown} does not let us in: {_first_line(error)}\n"
            f"is it up, and does {address.variable} name its address, role and password?"
        ) from error
    set_json_loads(parse, connection)
    try:
        yield connection
    except psycopg.Error as error:
        raise MigrationFailed(
            f"{address.name} at {address.shown} refused a statement: {_first_line(error)}\n"
            "nothing was changed there"
        ) from error
    finally:
        connection.close()  # what was not committed is undone


def rows(
    connection: Connection,
    table: str,
    columns: Iterable[Column],
    order: Iterable[str],
    *,
    legacy: bool,
) -> Iterator[dict[str, Any]]:
    """The rows of a table one after the other, as a data file shows them.

    Args:
        order: columns to sort by; nothing to take them as they come.
        legacy: whether the table is the legacy database's.

    Raises:
        MigrationFailed: a row holds a value that a data file cannot carry.
    """
    columns = tuple(columns)
    keys = [column.key for column in columns]
    fields = sql.SQL(", ").join(_field(column, legacy=legacy) for column in columns)
    statement = sql.SQL("SELECT {} FROM {}").format(fields, sql.Identifier(table))
    by = [
        sql.SQL("created_at::timestamp(3)")
        if name == "created_at"
        else sql.SQL('{}::text COLLATE "C"').format(sql.Identifier(name))
        for name in order
    ]
    if by:
        statement += sql.SQL(" ORDER BY ") + sql.SQL(", ").join(by)
    with connection.cursor(f"rows of {table}") as cursor:
        cursor.itersize = _FETCH
        try:
            cursor.execute(statement)
            for values in cursor:
                yield dict(zip(keys, values, strict=True))
        except Inexact as error:
            raise MigrationFailed(f"{table}: {error}") from error


def count(connection: Connection, table: str) -> int:
    """How many rows a table has."""
    row = connection.execute(
        sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
    ).fetchone()
    return int(row[0]) if row else 0


def _field(column: Column, *, legacy: bool) -> sql.Composable:
    source: sql.Composable = sql.Identifier(column.name)
    if legacy and column.legacy is not None:
        source = sql.SQL(column.legacy)
    if column.form is Form.TIME:
        return sql.SQL(_MOMENT).format(source)
    if column.form in (Form.BOOLEAN, Form.INTEGER):
        return source
    cast = "jsonb" if column.form in (Form.JSON, Form.OBJECT) else "text"
    return sql.SQL("({})::" + cast).format(source)


def _first_line(error: psycopg.Error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
