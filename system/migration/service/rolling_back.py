"""Rollback: takes out of one database what the import put in, and nothing else (R9.11)."""

from __future__ import annotations

from system.migration.adapters import taking_out, target_database
from system.migration.adapters.connections import Address, connected
from system.migration.ports import Progress


def imported(target: Address) -> dict[str, int]:
    """The rows that a rollback would remove, by table; empty when nothing was imported."""
    with connected(target) as connection:
        return target_database.book(connection)


def roll_back(service: str, target: Address, progress: Progress) -> dict[str, int]:
    """Remove the imported rows of a service's database in one transaction.

    Returns:
        removed rows by table.

    Raises:
        LaterRowsDepend: rows that came after the import hang on imported ones; nothing was done.
        MigrationFailed: the database did not serve us.
    """
    with connected(target) as connection, progress.task(f"roll back {target.name}") as task:
        target_database.begin(connection)
        if not target_database.has_book(connection):
            return {}
        removed = taking_out.take_out(connection, service)
        connection.commit()
        task.advance(sum(removed.values()))
    return removed
