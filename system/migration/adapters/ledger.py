"""Pairs of checksums, expected and found, on disk: comparing 400,000 rows takes no more memory."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

_BATCH: Final = 2000

# Rows are only appended, in whatever order, and paired by one sort at the end: keeping an index
# up to date meanwhile would jump about in the file for each of them.
_TABLE: Final = "CREATE TABLE {} (id TEXT NOT NULL, expected TEXT, found TEXT)"
_ADD: Final = "INSERT INTO {} VALUES (?, ?, ?)"
_PAIRS: Final = """
SELECT id, max(expected), max(found), count(found) FROM {} GROUP BY id ORDER BY id
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


@dataclass(slots=True)
class Judgement:
    """How what was found compares with what must be there.

    Attributes:
        expected: rows that must be there.
        found: rows of these that are there.
        differing: rows that do not agree.
        differences: the first of them, by id.
    """

    expected: int = 0
    found: int = 0
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)


class Ledger:
    """A file of checksums that is gone when the block ends, and readable by nobody else."""

    def __init__(self) -> None:
        # An empty name is a private file, unlinked at once.
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute("PRAGMA cache_size = -2048")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("PRAGMA temp_store = FILE")
        self._connection.execute("BEGIN")
        self._waiting: dict[str, list[tuple[str, str | None, str | None]]] = {}

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
        self._add(entity, (row_id, checksum, None))

    def find(self, entity: str, row_id: str, checksum: str) -> None:
        """A row is there with this checksum."""
        self._add(entity, (row_id, None, checksum))

    def judge(self, entity: str, *, surplus: bool, most: int) -> Judgement:
        """Pair what was expected with what was found.

        Args:
            surplus: whether a row that was not expected is a difference.
            most: how many differences are kept.
        """
        made = Judgement()
        if entity not in self._waiting:
            return made
        self._flush(entity)
        for pair in self._connection.execute(_PAIRS.format(_quoted(entity))):
            one = Difference(*pair)
            made.expected += one.expected is not None
            made.found += one.expected is not None and one.found is not None
            if (one.found != one.expected or one.times > 1) and (
                surplus or one.expected is not None
            ):
                made.differing += 1
                if len(made.differences) < most:
                    made.differences.append(one)
        return made

    def _add(self, entity: str, row: tuple[str, str | None, str | None]) -> None:
        waiting = self._waiting.get(entity)
        if waiting is None:
            self._connection.execute(_TABLE.format(_quoted(entity)))
            waiting = self._waiting[entity] = []
        waiting.append(row)
        if len(waiting) >= _BATCH:
            self._flush(entity)

    def _flush(self, entity: str) -> None:
        self._connection.executemany(_ADD.format(_quoted(entity)), self._waiting[entity])
        self._waiting[entity].clear()


def _quoted(entity: str) -> str:
    return '"' + entity.replace('"', '""') + '"'
