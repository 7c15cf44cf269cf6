"""Lets the list of rotations read its rows in their order (R1.97)."""

from __future__ import annotations

from system.platform.migrations import run

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the index."""
    run(("CREATE INDEX key_rotations_rotated_at_idx ON key_rotations (rotated_at DESC, id)",))


def downgrade() -> None:
    """Remove it."""
    run(("DROP INDEX key_rotations_rotated_at_idx",))
