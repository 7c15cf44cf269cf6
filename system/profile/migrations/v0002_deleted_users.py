"""Remembers deleted users: a first read that was late must not make them a profile (R1.152)."""

from __future__ import annotations

from alembic import op

from system.platform import outbox_tables
from system.platform.migrations import run, service_role

revision = "0002"
down_revision = "0001"

_TABLE = """
CREATE TABLE deleted_users (
    id         text PRIMARY KEY,
    deleted_at timestamptz(3) NOT NULL DEFAULT now()
);
"""


def upgrade() -> None:
    """Make the table."""
    role = outbox_tables.quoted(service_role())
    run((_TABLE, f"GRANT SELECT, INSERT ON deleted_users TO {role}"))


def downgrade() -> None:
    """Remove it."""
    op.execute("DROP TABLE deleted_users")
