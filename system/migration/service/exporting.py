"""Export: the legacy database's rows into data files, from one consistent snapshot (R9.6)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg

from system.migration.adapters import data_files
from system.migration.adapters.connections import Address, Connection, connected, count, rows
from system.migration.domain.entities import FILES, Entity
from system.migration.domain.errors import MigrationFailed
from system.migration.domain.row_rules import Row, transformed
from system.migration.ports import Progress, Task


def export(
    services: tuple[str, ...], folder: Path, legacy: Address, progress: Progress
) -> dict[str, dict[str, int]]:
    """Write the data files of these services; all of them appear, or none.

    Returns:
        rows by title, by service.

    Raises:
        MigrationFailed: the database or the folder did not serve us.
    """
    exported_at = data_files.now()
    counts: dict[str, dict[str, int]] = {}
    try:
        with connected(legacy) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            for service in services:
                with data_files.written(folder, service, exported_at) as write:
                    counts[service] = {
                        entity.title: write(entity, _exported(connection, entity, progress))
                        for entity in FILES[service]
                    }
        data_files.publish(folder, services)
    except OSError as error:
        raise MigrationFailed(
            f"the data files cannot be written to {folder}: {error.strerror}; older ones are as "
            "they were. Make room or name another folder with --dir"
        ) from error
    finally:
        data_files.discard(folder, services)
    return counts


def _exported(connection: Connection, entity: Entity, progress: Progress) -> Iterator[Row]:
    total = count(connection, entity.table)
    with progress.task(f"export {entity.title}", total) as task:
        yield from _changed(
            entity, rows(connection, entity.table, entity.columns, entity.order, legacy=True), task
        )


def _changed(entity: Entity, source: Iterator[Row], task: Task) -> Iterator[Row]:
    for row in source:
        yield transformed(entity, row)
        task.advance(1)
