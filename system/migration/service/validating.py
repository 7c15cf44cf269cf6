"""Validate: every row of the data files against what is in the four databases (R9.10)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from system.migration.adapters import data_files, target_database
from system.migration.adapters.connections import Address, Connection, connected, count, rows
from system.migration.adapters.ledger import Difference, Ledger
from system.migration.domain.canonical import canonical, checksum
from system.migration.domain.entities import (
    COMPARISONS,
    SERVICES,
    Column,
    Comparison,
    Entity,
    files_of,
)
from system.migration.domain.row_rules import Row
from system.migration.ports import Progress

_SHOWN: Final = 1000


@dataclass(frozen=True)
class Compared:
    """How the rows of one kind compare.

    Attributes:
        service: whose database.
        title: which kind.
        expected: rows in the data file.
        found: rows of these that are in the database.
        differences: rows that are missing or differ, the first 1,000 by id.
        differing: how many there are in all.
    """

    service: str
    title: str
    expected: int
    found: int
    differences: tuple[Difference, ...]
    differing: int

    @property
    def agrees(self) -> bool:
        """Whether count and every checksum are equal."""
        return self.differing == 0 and self.expected == self.found


def validate(
    services: tuple[str, ...], folder: Path, targets: Mapping[str, Address], progress: Progress
) -> list[Compared]:
    """Compare the databases of these services with the data files.

    Raises:
        FileRefused: a data file is missing or altered.
        MigrationFailed: a database did not serve us.
    """
    wanted = [one for one in COMPARISONS if one.rows.service in services]
    with Ledger() as ledger, ExitStack() as stack:
        connections = {
            service: stack.enter_context(connected(targets[service]))
            for service in SERVICES
            if service in services
        }
        for file in files_of(services):
            _expect_all(folder, file, wanted, ledger, progress)
        found = [_compare(connections[one.rows.service], one, ledger, progress) for one in wanted]
        for service, connection in connections.items():
            _note(connection, [one for one in found if one.service == service])
    return found


def _expect_all(
    folder: Path, file: str, wanted: Iterable[Comparison], ledger: Ledger, progress: Progress
) -> None:
    here = [one for one in wanted if one.rows.file == file]
    described = data_files.describe(folder, file)
    total = sum(described.counts.values()) if described else None
    with progress.task(f"read {data_files.path_of(folder, file).name}", total) as task:

        def take(entity: Entity, row: Row, found: str) -> None:
            for one in here:
                if one.rows.source is entity:
                    whole = one.columns == entity.columns
                    ledger.expect(
                        _word(one),
                        row[entity.column(entity.key).key],
                        found if whole else _checksum(row, one.columns),
                    )
            task.advance(1)

        data_files.read(folder, file, take)


def _compare(
    connection: Connection, one: Comparison, ledger: Ledger, progress: Progress
) -> Compared:
    word, source = _word(one), one.rows.source
    key = source.column(source.key).key
    with progress.task(f"compare {one.rows.title}", count(connection, one.rows.table)) as task:
        for row in rows(connection, one.rows.table, one.columns, (), legacy=False):
            ledger.find(word, row[key], checksum(canonical(row)))
            task.advance(1)
    # Rows that came later are nobody's loss.
    judged = ledger.judge(word, surplus=False, most=_SHOWN)
    return Compared(
        service=one.rows.service,
        title=one.rows.title,
        expected=judged.expected,
        found=judged.found,
        differences=tuple(judged.differences),
        differing=judged.differing,
    )


def _note(connection: Connection, found: list[Compared]) -> None:
    if target_database.has_book(connection):
        target_database.note(
            connection,
            "validate",
            good=all(one.agrees for one in found),
            counts={one.title: one.found for one in found},
        )
        connection.commit()


def _checksum(row: Row, columns: tuple[Column, ...]) -> str:
    return checksum(canonical({column.key: row.get(column.key) for column in columns}))


def _word(one: Comparison) -> str:
    return f"{one.rows.service}.{one.rows.table}"
