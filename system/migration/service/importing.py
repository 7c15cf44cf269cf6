"""Import: data files into the four databases, one transaction each (R9.9, R9.12).

The rows wait in temporary tables until all files have proved whole and no constraint is broken;
only then anything is put in, and all databases are committed at the end. No event is published:
nothing is written to an outbox, and the copies of users are filled directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psycopg
from psycopg import Copy

from system.migration.adapters import data_files, target_database
from system.migration.adapters.connections import Address, Connection, connected
from system.migration.adapters.target_database import Outcome
from system.migration.domain.entities import FILES, IMPORTS, SERVICES, Entity, Import, files_of
from system.migration.domain.errors import MigrationFailed, RowFault, RowsRefused
from system.migration.domain.row_rules import Row, faults
from system.migration.ports import Progress, Task

_KEPT_FAULTS: Final = 1000


def import_rows(
    services: tuple[str, ...],
    folder: Path,
    targets: Mapping[str, Address],
    progress: Progress,
    *,
    dry_run: bool,
) -> list[Outcome]:
    """Fill the databases of these services.

    Args:
        dry_run: do everything but the commit.

    Returns:
        what became of the rows of each kind, in the order of the import.

    Raises:
        FileRefused: a data file is missing or altered; nothing was changed.
        RowsRefused: rows break a constraint; nothing was changed.
        MigrationFailed: a database did not serve us.
    """
    with ExitStack() as stack:
        connections = {
            service: stack.enter_context(connected(targets[service]))
            for service in SERVICES
            if service in services
        }
        for connection in connections.values():
            target_database.begin(connection)
        found = _stage_all(folder, connections, progress)
        wanted = [rows for rows in IMPORTS if rows.service in connections]
        # A row that was not staged for a fault of its own would be missed by others.
        all_staged = not found.faults
        for rows in wanted:
            found.add_all(
                target_database.conflicts(
                    connections[rows.service], rows, with_references=all_staged
                )
            )
        found.raise_if_any()
        outcomes: dict[Import, Outcome] = {}
        for rows in wanted:
            with progress.task(f"import {rows.title}") as task:
                outcomes[rows] = target_database.put_in(connections[rows.service], rows)
                task.advance(outcomes[rows].imported)
        if not dry_run:
            _commit(connections, outcomes)
    return list(outcomes.values())


def _commit(connections: Mapping[str, Connection], outcomes: Mapping[Import, Outcome]) -> None:
    committed: list[str] = []
    for service, connection in connections.items():
        own = [outcome for rows, outcome in outcomes.items() if rows.service == service]
        # A repeated import that finds everything in place changes nothing at all.
        if any(outcome.imported for outcome in own) or not target_database.last_run(
            connection, "import"
        ):
            target_database.note(
                connection,
                "import",
                good=not any(outcome.different or outcome.gone for outcome in own),
                counts={outcome.title: outcome.imported for outcome in own},
            )
        try:
            connection.commit()
        except psycopg.Error as error:
            done = ", ".join(f"{name}_db" for name in committed) or "none"
            raise MigrationFailed(
                f"{service}_db did not commit: {error}\ncommitted before: {done}; the others are "
                "as they were. Once it is mended, run the import again: it goes on from there"
            ) from error
        committed.append(service)


class _Faults:
    """Faults without repetition, and how many there are beyond those kept."""

    def __init__(self) -> None:
        self.faults: dict[RowFault, None] = {}
        self.more = 0

    def add_all(self, found: Any) -> None:
        for fault in found:
            if len(self.faults) < _KEPT_FAULTS:
                self.faults[fault] = None
            elif fault not in self.faults:
                self.more += 1

    def raise_if_any(self) -> None:
        if self.faults:
            raise RowsRefused(tuple(self.faults), self.more)


def _stage_all(folder: Path, connections: Mapping[str, Connection], progress: Progress) -> _Faults:
    found = _Faults()
    for file in files_of(tuple(connections)):
        described = data_files.describe(folder, file)
        total = sum(described.counts.values()) if described else None
        with (
            progress.task(f"read {data_files.path_of(folder, file).name}", total) as task,
            _Stager(file, connections, found, task) as stager,
        ):
            data_files.read(folder, file, stager.take)
            stager.finish()
    return found


class _Stager:
    """Hands the rows of a data file to every database that wants them."""

    def __init__(
        self, file: str, connections: Mapping[str, Connection], found: _Faults, task: Task
    ) -> None:
        self._connections = connections
        self._found = found
        self._task = task
        self._waiting = {
            entity.name: [
                rows
                for rows in IMPORTS
                if rows.file == file and rows.source is entity and rows.service in connections
            ]
            for entity in FILES[file]
        }
        self._current = ""
        self._open: list[tuple[Import, Copy]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def take(self, entity: Entity, row: Row, _checksum: str) -> None:
        """Stage a row, or note why it cannot be."""
        if entity.name != self._current:
            self._turn_to(entity.name)
        problems = list(faults(entity, row))
        if problems:
            self._found.add_all(problems)
        else:
            for rows, copy in self._open:
                target_database.stage(copy, rows.columns, row)
        self._task.advance(1)

    def finish(self) -> None:
        """End the last kind of row; what the file had none of is staged empty."""
        for name in list(self._waiting):
            self._turn_to(name)
        self._stack.close()

    def _turn_to(self, name: str) -> None:
        self._stack.close()
        self._current = name
        self._open = [
            (
                rows,
                self._stack.enter_context(
                    target_database.staging(self._connections[rows.service], rows)
                ),
            )
            for rows in self._waiting.pop(name, ())
        ]
