"""Status: what has been backed up, exported, imported and validated, with counts (R9.14)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from system.migration.adapters import data_files, target_database
from system.migration.adapters.connections import Address, connected
from system.migration.adapters.data_files import Metadata
from system.migration.adapters.target_database import Run
from system.migration.domain.entities import SERVICES
from system.migration.domain.errors import DatabaseAway, FileRefused


@dataclass(frozen=True)
class Standing:
    """How far one service is.

    Attributes:
        service: its name.
        exported: what its data file says; None if there is none.
        imported: the last import; None if there was none, or it was rolled back.
        rows: rows that the import put in and a rollback would remove, by table.
        validated: the last validation since; None if there was none.
        problem: why something could not be found out; empty if all was.
    """

    service: str
    exported: Metadata | None
    imported: Run | None
    rows: dict[str, int]
    validated: Run | None
    problem: str


def standings(folder: Path, targets: Mapping[str, Address]) -> list[Standing]:
    """How far each service is; what cannot be found out is told as its problem."""
    return [_standing(folder, service, targets[service]) for service in SERVICES]


def _standing(folder: Path, service: str, target: Address) -> Standing:
    problems: list[str] = []
    exported: Metadata | None = None
    imported = validated = None
    rows: dict[str, int] = {}
    try:
        exported = data_files.describe(folder, service)
    except FileRefused as error:
        problems.append(str(error))
    try:
        with connected(target) as connection:
            imported = target_database.last_run(connection, "import")
            validated = target_database.last_run(connection, "validate")
            rows = target_database.book(connection)
    except DatabaseAway as error:
        problems.append(str(error))
    return Standing(service, exported, imported, rows, validated, "\n".join(problems))
