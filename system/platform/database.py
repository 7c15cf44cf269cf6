"""A service's own PostgreSQL database: pooled, timed, and gone without harm (R0.10, R1.14, R7.5).

Trouble with the connection becomes `ApiError` 503; a statement that the database refuses raises
asyncpg's own exception, for the adapter to judge.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, Literal

import asyncpg
import msgspec
from asyncpg.connection import Connection
from asyncpg.pool import PoolConnectionProxy
from prometheus_client import Counter, Histogram

from system.platform.http import errors
from system.platform.observability import tracing
from system.platform.observability.metrics import (
    DB_QUERY_DURATION_SECONDS,
    DB_QUERY_ERRORS_TOTAL,
    OTHER,
)

NO_TABLE: Final = "none"
_log = logging.getLogger(__name__)

# Together below the shortest upstream time-out in use (3 s, R0.16), so that a database that hangs
# is a 503 of the service and not a 504 of the gateway.
ACQUIRE_TIMEOUT_S: Final = 1.0
STATEMENT_TIMEOUT_S: Final = 1.75
# R1.54 allows a check two seconds.
PING_TIMEOUT_S: Final = 1.8
# A connection that nobody waits for may take its time: on a busy machine the way in takes longer
# than a request can wait.
_WARM_UP_TIMEOUT_S: Final = 10.0
_CLOSE_TIMEOUT_S: Final = 5.0
_WARM_UP_EVERY_S: Final = 1.0

Isolation = Literal["read_committed", "repeatable_read", "serializable"]

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode
# The binary form of jsonb is a version byte and then the text.
_JSONB_VERSION: Final = b"\x01"

_OPERATION: Final = re.compile(
    r"\s*(?:with\b.*?\)\s*)?(select|insert|update|delete)\b", re.I | re.S
)
_TABLE: Final = re.compile(r"\b(?:from|into|update)\s+(?:only\s+)?\"?([a-z_][a-z0-9_]*)", re.I)

# What asyncpg raises when the server or the way to it is in trouble, not the statement.
_UNREACHABLE: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    # A disk that fails, rather than one that is full; and a server that takes no writes, such as
    # a standby: this program never asks for a transaction that only reads.
    asyncpg.exceptions.PostgresSystemError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,
    asyncpg.exceptions.InternalClientError,
    asyncpg.exceptions.InvalidAuthorizationSpecificationError,
    asyncpg.exceptions.InvalidCatalogNameError,
)


def _is_unreachable(error: BaseException) -> bool:
    if isinstance(error, asyncpg.exceptions.QueryCanceledError):
        return True
    if isinstance(error, asyncpg.InterfaceError):
        # Wrong use of the library is an error of ours; a closed connection is the server's.
        return any(word in str(error) for word in ("clos", "terminat", "released"))
    return isinstance(error, _UNREACHABLE)


class _Connection(Connection):  # type: ignore[misc]  # asyncpg ships no types
    """A connection that is handed on without a reset.

    Nothing in the services changes session state on a pooled connection, and the reset would cost
    every request another round trip.
    """

    def get_reset_query(self) -> str:
        return ""


class _Series:
    """The two metrics of one (operation, table) and its span's name, looked up once."""

    __slots__ = ("attributes", "duration", "errors", "span")

    def __init__(self, operation: str, table: str) -> None:
        self.span = f"{operation} {table}"
        self.attributes: dict[str, tracing.Attribute] = {
            "db.system": "postgresql",
            "db.operation.name": operation,
            "db.collection.name": table,
        }
        self.duration: Histogram = DB_QUERY_DURATION_SECONDS.labels(operation, table)
        self.errors: Counter = DB_QUERY_ERRORS_TOTAL.labels(operation, table)


_series: dict[tuple[str, str], _Series] = {}
# Statements are constants of the program, so this is bounded by the program's text; the limit is
# for the day somebody builds statements at run time.
_by_statement: dict[str, _Series] = {}
_STATEMENTS_KEPT: Final = 2048


def _named_series(operation: str, table: str) -> _Series:
    found = _series.get((operation, table))
    if found is None:
        found = _series[operation, table] = _Series(operation, table)
    return found


def describe_statement(sql: str) -> tuple[str, str]:
    """Return the labels of a statement: its verb and its first table, `other` where unknown."""
    operation = _OPERATION.match(sql)
    table = _TABLE.search(sql)
    return (
        operation[1].lower() if operation else OTHER,
        table[1].lower() if table else OTHER,
    )


def _series_of(sql: str, operation: str | None, table: str | None) -> _Series:
    if operation is not None and table is not None:
        return _named_series(operation, table)
    found = _by_statement.get(sql)
    if found is None:
        verb, first_table = describe_statement(sql)
        found = _named_series(operation or verb, table or first_table)
        if len(_by_statement) < _STATEMENTS_KEPT and operation is None and table is None:
            _by_statement[sql] = found
    return found


async def _prepare(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: _JSONB_VERSION + _encode(value),
        decoder=lambda data: _decode(data[1:]),
        format="binary",
    )


class _Statements:
    """The four ways to run a statement, timed; shared by `Database` and `Transaction`."""

    async def _run(
        self,
        method: str,
        sql: str,
        args: tuple[Any, ...],
        operation: str | None,
        table: str | None,
    ) -> Any:
        raise NotImplementedError

    async def fetch(
        self, sql: str, *args: Any, operation: str | None = None, table: str | None = None
    ) -> list[Any]:
        """Return all rows.  `operation` and `table` name the metric; else the statement does."""
        rows: list[Any] = await self._run("fetch", sql, args, operation, table)
        return rows

    async def fetchrow(
        self, sql: str, *args: Any, operation: str | None = None, table: str | None = None
    ) -> Any:
        """Return the first row, or None."""
        return await self._run("fetchrow", sql, args, operation, table)

    async def fetchval(
        self, sql: str, *args: Any, operation: str | None = None, table: str | None = None
    ) -> Any:
        """Return the first column of the first row, or None."""
        return await self._run("fetchval", sql, args, operation, table)

    async def execute(
        self, sql: str, *args: Any, operation: str | None = None, table: str | None = None
    ) -> str:
        """Run a statement; return the command tag, such as `UPDATE 1`."""
        tag: str = await self._run("execute", sql, args, operation, table)
        return tag


class Transaction(_Statements):
    """Statements that take effect together; made by `Database.transaction`."""

    def __init__(self, connection: PoolConnectionProxy) -> None:
        self.connection = connection

    async def _run(
        self,
        method: str,
        sql: str,
        args: tuple[Any, ...],
        operation: str | None,
        table: str | None,
    ) -> Any:
        series = _series_of(sql, operation, table)
        return await _timed(self.connection, method, sql, args, series)

    @contextlib.asynccontextmanager
    async def savepoint(self) -> AsyncIterator[Transaction]:
        """Undo only the statements inside when they raise."""
        async with self.connection.transaction():
            yield self


async def _timed(
    connection: PoolConnectionProxy, method: str, sql: str, args: tuple[Any, ...], series: _Series
) -> Any:
    span = tracing.child(series.span, tracing.Kind.CLIENT)
    fault: BaseException | None = None
    started = time.perf_counter()
    try:
        return await getattr(connection, method)(sql, *args)
    except (TimeoutError, asyncio.CancelledError) as interrupted:
        fault = interrupted
        series.errors.inc()
        # The server does not answer, or nobody waits for the answer.  Cancelling the statement
        # politely would wait for the server once more.
        connection.terminate()
        if isinstance(interrupted, TimeoutError):
            raise _translated(interrupted) from interrupted
        raise
    except Exception as error:
        fault = error
        series.errors.inc()
        raise _translated(error) from error
    finally:
        series.duration.observe(time.perf_counter() - started)
        if span is not None:
            span.attributes = series.attributes
            span.end(fault)


class Database(_Statements):
    """The pool of one service's database.

    Args:
        url: postgresql://role:password@host:port/name.
        min_size: connections opened at start, if the server is there.
        max_size: connections at most; callers beyond wait `acquire_timeout_s`.
        acquire_timeout_s: seconds to wait for a connection before the answer is 503.
        statement_timeout_s: seconds a statement may take before the answer is 503.
    """

    def __init__(
        self,
        url: str,
        *,
        min_size: int = 1,
        max_size: int = 10,
        acquire_timeout_s: float = ACQUIRE_TIMEOUT_S,
        statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    ) -> None:
        self._url = url
        self._min_size = min_size
        self._max_size = max_size
        self._acquire_timeout_s = acquire_timeout_s
        self._statement_timeout_s = statement_timeout_s
        self._pool: asyncpg.Pool | None = None
        self._warming: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the pool; never fails for want of a server (R0.10).

        Connections are made when they are needed, so recovery needs nobody to notice it.
        """
        # The pool's own minimum would make its creation fail while the server is down.
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._max_size,
            connection_class=_Connection,
            init=_prepare,
            timeout=_WARM_UP_TIMEOUT_S,
            command_timeout=self._statement_timeout_s,
        )
        if self._min_size and not await self._warm_up(self._acquire_timeout_s):
            _log.warning("database not reachable yet; trying again")
        self._warming = asyncio.create_task(self._keep_warm(), name="database warm-up")

    async def _keep_warm(self) -> None:
        """See to it that after an outage a connection stands ready before somebody needs it."""
        while True:
            await asyncio.sleep(_WARM_UP_EVERY_S)
            if self._opened().get_size() < self._min_size:
                await self._warm_up(_WARM_UP_TIMEOUT_S)

    async def _warm_up(self, seconds: float) -> bool:
        """Open the connections of `min_size`; False if the server did not let us in time."""
        pool = self._opened()
        connections = []
        try:
            async with asyncio.timeout(seconds):
                for _ in range(self._min_size):
                    connections.append(await pool.acquire())
        except Exception as error:
            if not _is_unreachable(error):
                raise
            return False
        finally:
            for connection in connections:
                await pool.release(connection)
        return True

    async def close(self) -> None:
        """Close all connections, waiting a little for those in use."""
        warming, self._warming = self._warming, None
        if warming is not None:
            warming.cancel()
            await asyncio.gather(warming, return_exceptions=True)
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    async def ping(self) -> None:
        """Ask the server for a sign of life; for readiness (R1.55).

        Raises:
            ApiError, TimeoutError: there was none.
        """
        series = _named_series("ping", NO_TABLE)
        async with (
            asyncio.timeout(PING_TIMEOUT_S),
            self._acquired(PING_TIMEOUT_S) as connection,
        ):
            await _timed(connection, "fetchval", "SELECT 1", (), series)

    async def connect(self) -> Any:
        """Open a connection of its own, outside the pool, with the same types.

        For what belongs to a session: LISTEN, advisory locks.  It is asyncpg's `Connection`; the
        caller closes it.

        Raises:
            ApiError: 503, the server is not reachable.
        """
        try:
            connection = await asyncpg.connect(self._url, timeout=self._acquire_timeout_s)
            await _prepare(connection)
        except Exception as error:
            raise _translated(error) from error
        return connection

    @contextlib.asynccontextmanager
    async def transaction(self, isolation: Isolation | None = None) -> AsyncIterator[Transaction]:
        """Run statements together: all take effect, or none (when the block raises).

        Args:
            isolation: asyncpg's name of the level; the server's default (read committed) if None.

        Raises:
            ApiError: 503, the server is not reachable or did not answer in time.
        """
        async with self._acquired() as connection:
            block = connection.transaction(isolation=isolation)
            await _controlled(connection, block.start)
            try:
                yield Transaction(connection)
            except BaseException:
                if not _is_gone(connection):
                    await _controlled(connection, block.rollback)
                raise
            await _controlled(connection, block.commit)

    async def _run(
        self,
        method: str,
        sql: str,
        args: tuple[Any, ...],
        operation: str | None,
        table: str | None,
    ) -> Any:
        series = _series_of(sql, operation, table)
        async with self._acquired() as connection:
            return await _timed(connection, method, sql, args, series)

    def _opened(self) -> asyncpg.Pool:
        if self._pool is None:
            raise errors.service_unavailable()
        return self._pool

    @contextlib.asynccontextmanager
    async def _acquired(self, seconds: float | None = None) -> AsyncIterator[PoolConnectionProxy]:
        pool = self._opened()
        try:
            async with asyncio.timeout(seconds or self._acquire_timeout_s):
                connection = await pool.acquire()
        except Exception as error:
            raise _translated(error) from error
        try:
            yield connection
        finally:
            with contextlib.suppress(*_UNREACHABLE, asyncpg.InterfaceError):
                await pool.release(connection)


def _is_gone(connection: PoolConnectionProxy) -> bool:
    """Say whether the connection was lost or terminated, which also takes it out of the pool."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


async def _controlled(connection: PoolConnectionProxy, act: Callable[[], Awaitable[None]]) -> None:
    """Begin, commit or roll back, with trouble translated as for any statement."""
    try:
        await act()
    except (TimeoutError, asyncio.CancelledError) as interrupted:
        connection.terminate()
        if isinstance(interrupted, TimeoutError):
            raise _translated(interrupted) from interrupted
        raise
    except Exception as error:
        raise _translated(error) from error


def _translated(error: Exception) -> Exception:
    """Return what the caller is to see: 503 for trouble with the server, else the error itself."""
    if isinstance(error, errors.ApiError) or not _is_unreachable(error):
        return error
    _log.warning("database not reachable: %s", type(error).__name__)
    return errors.service_unavailable()
