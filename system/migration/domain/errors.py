"""What can go wrong in a migration; every text says seen, expected and what to do next.

MigrationFailed
├── DatabaseAway       a database cannot be reached or does not let us in
├── FileRefused        a data file is missing, altered or of another form
├── RowsRefused        rows that the target would not take; all of them are listed
├── BackupMissing      no backup of today, or not a whole one
├── DumpFailed         pg_dump is missing or failed
├── Occupied           another migration command works on the database
└── LaterRowsDepend    a rollback would take rows away that came after the import
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_LISTED: Final = 50


class MigrationFailed(Exception):
    """The command could not do what it was asked; nothing was changed."""


class DatabaseAway(MigrationFailed):
    """A database cannot be reached or does not let us in."""


class FileRefused(MigrationFailed):
    """A data file is missing, altered or of another form."""


class BackupMissing(MigrationFailed):
    """There is no whole backup of today."""


class DumpFailed(MigrationFailed):
    """pg_dump is missing or failed."""


class Occupied(MigrationFailed):
    """Another migration command works on the database."""


class LaterRowsDepend(MigrationFailed):
    """A rollback would take rows away that came after the import."""


@dataclass(frozen=True, slots=True)
class RowFault:
    """One reason why a row cannot be imported.

    Attributes:
        entity: its kind, as in the data file.
        row_id: which row.
        problem: seen and expected.
    """

    entity: str
    row_id: str
    problem: str

    def __str__(self) -> str:
        return f"{self.entity} {self.row_id}: {self.problem}"


class RowsRefused(MigrationFailed):
    """Rows that break a rule of the target; `faults` has all that were found."""

    def __init__(self, faults: Sequence[RowFault], more: int = 0) -> None:
        self.faults = tuple(faults)
        shown = self.faults[:_LISTED]
        hidden = len(self.faults) - len(shown) + more
        super().__init__(
            f"{len(self.faults) + more} row(s) cannot be imported; nothing was changed:\n"
            + "\n".join(f"  {fault}" for fault in shown)
            + (f"\n  … and {hidden} more" if hidden else "")
            + "\nmend them in the legacy database, export again, then import"
        )
