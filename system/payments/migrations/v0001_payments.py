"""Makes payments_db: copy of users, payments, history, idempotency keys, outbox and inbox (2.2)."""

from __future__ import annotations

from system.platform import outbox_tables
from system.platform.migrations import run, service_role

revision = "0001"
down_revision = None

_TABLES = (
    """CREATE TYPE "PaymentStatus" AS ENUM
        ('pending', 'processing', 'completed', 'failed', 'cancelled')""",
    """CREATE TYPE "PaymentType" AS ENUM ('instant', 'scheduled', 'recurring')""",
    """CREATE TABLE users (
        id         text PRIMARY KEY,
        email      text NOT NULL UNIQUE,
        name       text NOT NULL,
        status     text NOT NULL,
        version    integer NOT NULL,
        deleted_at timestamptz(3)
    )""",
    # Whom one can pay, by name (R1.105).
    """CREATE INDEX users_payable_idx ON users (name, id)
        WHERE status = 'active' AND deleted_at IS NULL""",
    """CREATE TABLE payments (
        id                 text PRIMARY KEY,
        sender_id          text NOT NULL REFERENCES users ON DELETE RESTRICT,
        recipient_id       text REFERENCES users ON DELETE SET NULL,
        amount             numeric(12,2) NOT NULL CHECK (amount > 0),
        currency           char(3) NOT NULL DEFAULT 'INR',
        status             "PaymentStatus" NOT NULL DEFAULT 'pending',
        type               "PaymentType" NOT NULL,
        description        text,
        psp_transaction_id text,
        psp_status         text,
        failure_reason     text,
        metadata           jsonb,
        completed_at       timestamptz(3),
        created_at         timestamptz(3) NOT NULL DEFAULT now(),
        updated_at         timestamptz(3) NOT NULL DEFAULT now()
    )""",
    # Each list query begins with one of these: whose payments, or all of them; then the order.
    "CREATE INDEX payments_sender_idx ON payments (sender_id, created_at, id)",
    "CREATE INDEX payments_recipient_idx ON payments (recipient_id, created_at, id)",
    "CREATE INDEX payments_created_at_idx ON payments (created_at, id)",
    "CREATE INDEX payments_amount_idx ON payments (amount, id)",
    "CREATE INDEX payments_status_idx ON payments (status, id)",
    "CREATE INDEX payments_status_created_at_idx ON payments (status, created_at, id)",
    """CREATE TABLE payment_transactions (
        id                 text PRIMARY KEY,
        payment_id         text NOT NULL REFERENCES payments ON DELETE CASCADE,
        status             "PaymentStatus" NOT NULL,
        status_message     text,
        psp_transaction_id text,
        metadata           jsonb,
        created_at         timestamptz(3) NOT NULL DEFAULT now()
    )""",
    """CREATE INDEX payment_transactions_payment_idx
        ON payment_transactions (payment_id, created_at)""",
    "CREATE INDEX payment_transactions_created_at_idx ON payment_transactions (created_at)",
    """CREATE TABLE idempotency_keys (
        user_id      text NOT NULL,
        key          text NOT NULL,
        request_hash text NOT NULL,
        response     jsonb NOT NULL,
        created_at   timestamptz(3) NOT NULL DEFAULT now(),
        PRIMARY KEY (user_id, key)
    )""",
    "CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at)",
    # Not the transaction's time: who waited for another's change began before it, and the
    # history would be out of order.
    """CREATE FUNCTION touch_payment() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.updated_at := clock_timestamp();
        RETURN NEW;
    END $$""",
    """CREATE TRIGGER payments_touch BEFORE UPDATE ON payments
        FOR EACH ROW EXECUTE FUNCTION touch_payment()""",
)

_GRANTED = "users, payments, payment_transactions, idempotency_keys"


def upgrade() -> None:
    """Make everything."""
    role = service_role()
    run(
        (
            *_TABLES,
            *outbox_tables.outbox_and_inbox(role),
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {_GRANTED} TO {outbox_tables.quoted(role)}",
        )
    )


def downgrade() -> None:
    """Refuse: payments are not thrown away by a migration."""
    raise NotImplementedError("payments_db has no older form; restore a backup instead")
