"""Notes which pair counters belong to an account, so that they can be found and cleared (R1.84).

A counter's key is a hash (R2.7), from which the account cannot be read.
"""

from __future__ import annotations

from system.platform import outbox_tables
from system.platform.migrations import run, service_role

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    role = outbox_tables.quoted(service_role())
    run(
        (
            """CREATE TABLE login_throttle_pairs (
                pair_key    text PRIMARY KEY REFERENCES login_throttles ON DELETE CASCADE,
                account_key text NOT NULL
            )""",
            """CREATE INDEX login_throttle_pairs_account_key_idx
               ON login_throttle_pairs (account_key)""",
            # Old counters are looked for when they are thrown away.
            """CREATE INDEX login_throttles_last_failure_at_idx
               ON login_throttles (last_failure_at)""",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON login_throttle_pairs TO {role}",
        )
    )


def downgrade() -> None:
    """Remove the table; counters of pairs then end by themselves."""
    run(("DROP INDEX login_throttles_last_failure_at_idx", "DROP TABLE login_throttle_pairs"))
