"""What the provider said before (R1.122), and an index for each filter of a list (R1.110)."""

from __future__ import annotations

from system.platform import outbox_tables
from system.platform.migrations import run, service_role

revision = "0002"
down_revision = "0001"

_STATEMENTS = (
    # A call without the provider's id can be repeated as well, so two absent ids are equal.
    """CREATE TABLE provider_notices (
        payment_id         text NOT NULL REFERENCES payments ON DELETE CASCADE,
        status             "PaymentStatus" NOT NULL,
        psp_transaction_id text,
        received_at        timestamptz(3) NOT NULL DEFAULT now(),
        UNIQUE NULLS NOT DISTINCT (payment_id, status, psp_transaction_id)
    )""",
    "CREATE INDEX payments_type_created_at_idx ON payments (type, created_at, id)",
    # With all that lists filter by and reports add up, so that administrators' totals and
    # reports read this index and not the table.
    "DROP INDEX payments_created_at_idx",
    """CREATE INDEX payments_created_at_idx ON payments (created_at, id)
        INCLUDE (amount, currency, status, type)""",
    # A twentieth of the table's size: what a total over everything counts.
    "CREATE INDEX payments_count_idx ON payments (status)",
)


def upgrade() -> None:
    """Make the table and the indexes."""
    role = outbox_tables.quoted(service_role())
    run((*_STATEMENTS, f"GRANT SELECT, INSERT, UPDATE, DELETE ON provider_notices TO {role}"))


def downgrade() -> None:
    """Refuse: what the provider said is not thrown away by a migration."""
    raise NotImplementedError("payments_db has no older form; restore a backup instead")
