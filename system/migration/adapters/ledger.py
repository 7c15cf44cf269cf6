"""Pairs of checksums, expected and found, on disk: comparing 400,000 rows takes no more memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

_BATCH: Final = 2000

_TABLE: Final = """
CREATE TABLE ledger (
    entity   TEXT NOT NULL,
    id       TEXT NOT NULL,
    expected TEXT,
    found    TEXT,
    times    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (entity, id)
) WITHOUT ROWID
"""
_EXPECT: Final = """
INSERT INTO ledger (entity, id, expected) VALUES (?, ?, ?)
ON CONFLICT (entity, id) DO UPDATE SET expected = excluded.expected
"""
_FIND: Final = """
INSERT INTO ledger (entity, id, found, times) VALUES (?, ?, ?, 1)
ON CONFLICT (entity, id) DO UPDATE SET found = excluded.found, times = times + 1
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """A row whose checksums do not agree.

    Attributes:
        row_id: which.
        expected, found: its checksums; None where there is no such row.
        times: how often it was found.
    """

    row_id: str
    expected: str | None
    found: str | None
    times: int

    @property
    def problem(self) -> str:
        """In words."""
        if self.expected is None:
            return "not expected"
        if self.found is None:
            return "missing"
        return "differs" if self.times == 1 else f"there {self.times} times"


class Ledger:
    """A file of checksums that is gone when the block ends, and readable by nobody else."""

    def __init__(self) -> None:
        # An empty name is a private file, unlinked at once.
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute("PRAGMA cache_size = -4096")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute(_TABLE)
        self._connection.execute("BEGIN")
        self._waiting: dict[str, list[tuple[str, str, str]]] = {_EXPECT: [], _FIND: []}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def expect(self, entity: str, row_id: str, checksum: str) -> None:
        """A row must be there with this checksum."""
        self._add(_EXPECT, (entity, row_id, checksum))

    def find(self, entity: str, row_id: str, checksum: str) -> None:
        """A row is there with this checksum."""
        self._add(_FIND, (entity, row_id, checksum))

    def expected(self, entity: str) -> int:
        """How many rows must be there."""
        return self._count("SELECT count(expected) FROM ledger WHERE entity = ?", entity)

    def found(self, entity: str) -> int:
        """How many rows of those that must be there are."""
        return self._count(
            "SELECT count(found) FROM ledger WHERE entity = ? AND expected IS NOT NULL", entity
        )

    def differences(self, entity: str, *, surplus: bool) -> Iterator[Difference]:
        """The rows that do not agree, by id.

        Args:
            surplus: whether a row that was not expected is a difference.
        """
        self._flush()
        rows = self._connection.execute(
            """SELECT id, expected, found, times FROM ledger WHERE entity = ?
               AND (found IS NULL OR found IS NOT expected OR times > 1)
               AND (expected IS NOT NULL OR ?) ORDER BY id""",
            (entity, surplus),
        )
        for row in rows:
            yield Difference(*row)

    def _add(self, statement: str, row: tuple[str, str, str]) -> None:
        waiting = self._waiting[statement]
        waiting.append(row)
        if len(waiting) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        for statement, rows in self._waiting.items():
            self._connection.executemany(statement, rows)
            rows.clear()

    def _count(self, statement: str, entity: str) -> int:
        self._flush()
        found: int = self._connection.execute(statement, (entity,)).fetchone()[0]
        return found
