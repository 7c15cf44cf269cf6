"""Lets a search for a letter or two, and every total, read an index and not the table (R1.126)."""

from __future__ import annotations

from system.platform.migrations import run

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Put what lists filter and search by into the index that has every user in order."""
    run(
        (
            "DROP INDEX users_created_at_idx",
            """CREATE INDEX users_created_at_idx ON users (created_at, id)
               INCLUDE (email, name, role, status)""",
            # A twentieth of the table's size: what a total counts.
            "CREATE INDEX users_count_idx ON users (status, role)",
            # How often letters occur in names decides the order in which to look.
            "CREATE STATISTICS users_lower_name ON lower(name) FROM users",
        )
    )


def downgrade() -> None:
    """Go back to the bare index."""
    run(
        (
            "DROP STATISTICS users_lower_name",
            "DROP INDEX users_count_idx, users_created_at_idx",
            "CREATE INDEX users_created_at_idx ON users (created_at, id)",
        )
    )
