"""Holds payments_db to R2.1, R2.2, R2.11-R2.14 and R0.19: columns, keys, who may change it."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from system.payments.tests.callers import Stack
from system.platform.migrations import upgrade

pytestmark = pytest.mark.platform

_MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"
MOMENT = "timestamp(3) with time zone"

# Column: type and whether it must be filled; word for word from 2.2.
TABLES: dict[str, dict[str, tuple[str, bool]]] = {
    "users": {
        "id": ("text", True),
        "email": ("text", True),
        "name": ("text", True),
        "status": ("text", True),
        "version": ("integer", True),
        "deleted_at": (MOMENT, False),
    },
    "payments": {
        "id": ("text", True),
        "sender_id": ("text", True),
        "recipient_id": ("text", False),
        "amount": ("numeric(12,2)", True),
        "currency": ("character(3)", True),
        "status": ('"PaymentStatus"', True),
        "type": ('"PaymentType"', True),
        "description": ("text", False),
        "psp_transaction_id": ("text", False),
        "psp_status": ("text", False),
        "failure_reason": ("text", False),
        "metadata": ("jsonb", False),
        "completed_at": (MOMENT, False),
        "created_at": (MOMENT, True),
        "updated_at": (MOMENT, True),
    },
    "payment_transactions": {
        "id": ("text", True),
        "payment_id": ("text", True),
        "status": ('"PaymentStatus"', True),
        "status_message": ("text", False),
        "psp_transaction_id": ("text", False),
        "metadata": ("jsonb", False),
        "created_at": (MOMENT, True),
    },
    "idempotency_keys": {
        "user_id": ("text", True),
        "key": ("text", True),
        "request_hash": ("text", True),
        "response": ("jsonb", True),
        "created_at": (MOMENT, True),
    },
}
DEFAULTS = {
    ("payments", "currency"): "'INR'",
    ("payments", "status"): "'pending'",
    ("payments", "created_at"): "now()",
    ("payments", "updated_at"): "now()",
    ("payment_transactions", "created_at"): "now()",
    ("idempotency_keys", "created_at"): "now()",
}
CONSTRAINTS = {
    ("users", "PRIMARY KEY (id)"),
    ("users", "UNIQUE (email)"),
    ("payments", "PRIMARY KEY (id)"),
    ("payments", "FOREIGN KEY (sender_id) REFERENCES users(id) ON DELETE RESTRICT"),
    ("payments", "FOREIGN KEY (recipient_id) REFERENCES users(id) ON DELETE SET NULL"),
    ("payments", "CHECK ((amount > (0)::numeric))"),
    ("payment_transactions", "PRIMARY KEY (id)"),
    (
        "payment_transactions",
        "FOREIGN KEY (payment_id) REFERENCES payments(id) ON DELETE CASCADE",
    ),
    ("idempotency_keys", "PRIMARY KEY (user_id, key)"),
}
INDEXED = {
    ("users", "email"),
    *(("payments", column) for column in ("sender_id", "recipient_id", "status", "created_at")),
    ("payment_transactions", "payment_id"),
    ("payment_transactions", "created_at"),
    ("idempotency_keys", "created_at"),
}

_COLUMNS = """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           pg_get_expr(d.adbin, d.adrelid)
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY 1, a.attnum
"""


def test_r2_11_to_r2_14_columns(stack: Stack) -> None:
    """Names, types, what may be empty, and defaults."""
    with psycopg.connect(stack.database("payments")) as db:
        rows = db.execute(_COLUMNS).fetchall()

    seen: dict[str, dict[str, tuple[str, bool]]] = {}
    for table, column, kind, filled, _ in rows:
        seen.setdefault(table, {})[column] = (kind, filled)
    assert {table: seen[table] for table in TABLES} == TABLES
    defaults = {
        (table, column): default.partition("::")[0]
        for table, column, _, _, default in rows
        if table in TABLES and default is not None
    }
    assert defaults == DEFAULTS


def test_r2_11_to_r2_14_keys_and_indexes(stack: Stack) -> None:
    """Keys with their delete actions, the check, and an index that begins with each `I`."""
    with psycopg.connect(stack.database("payments")) as db:
        constraints = db.execute(
            "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE conrelid::regclass::text = ANY(%s)",
            [list(TABLES)],
        ).fetchall()
        leading = db.execute(
            "SELECT i.indrelid::regclass::text, a.attname FROM pg_index i JOIN pg_attribute a "
            "ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] WHERE i.indpred IS NULL"
        ).fetchall()

    assert set(constraints) == CONSTRAINTS
    assert set(leading) >= INDEXED


def test_r2_2_a_second_migration_changes_nothing(stack: Stack) -> None:
    """Whoever runs it."""
    with psycopg.connect(stack.database("payments"), autocommit=True) as db:
        before = db.execute(_COLUMNS).fetchall()
        (revision,) = db.execute("SELECT version_num FROM alembic_version").fetchone() or (None,)

        assert upgrade(stack.database("payments"), _MIGRATIONS, "payments_service") == revision
        assert db.execute(_COLUMNS).fetchall() == before


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE x (y text)",
        "ALTER TABLE payments ADD COLUMN x text",
        "DROP TABLE provider_notices",
        "DROP INDEX payments_amount_idx",
        "ALTER TABLE payments DISABLE TRIGGER payments_touch",
        "UPDATE alembic_version SET version_num = 'x'",
    ],
)
def test_r0_19_the_service_cannot_change_the_schema(stack: Stack, statement: str) -> None:
    """Its role owns nothing."""
    url = stack.target["access"]["db"]["payments"]["service_url"]
    with (
        psycopg.connect(url) as db,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        db.execute(statement.encode())


def test_r2_1_updated_at_changes_with_every_write(stack: Stack) -> None:
    """Whatever the statement says."""
    with psycopg.connect(stack.database("payments")) as db:
        db.execute(
            "INSERT INTO users VALUES ('r2-1', 'r2-1@x.test', 'N', 'active', 1, NULL);"
            "INSERT INTO payments (id, sender_id, amount, type, updated_at) "
            "VALUES ('r2-1', 'r2-1', 1, 'instant', '2020-01-01T00:00:00Z')"
        )
        row = db.execute(
            "UPDATE payments SET description = 'x', updated_at = '2020-01-02T00:00:00Z' "
            "WHERE id = 'r2-1' RETURNING updated_at > now() - interval '1 minute'"
        ).fetchone()
        db.rollback()

    assert row == (True,)
