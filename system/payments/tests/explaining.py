"""A migrated payments_db with 100,000 payments, and the plans its server makes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from system.platform.migrations import upgrade

_MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"
_ROLE = "payments_service"
PAYMENTS = 100_000
PEOPLE = 2_000

# Statuses and types are as uneven as in life: nearly all is over, nearly all was instant.
_FILL = (
    # Foreign keys are true by how the rows are made; checking 300,000 of them takes seconds.
    "SET session_replication_role = replica",
    f"""INSERT INTO users (id, email, name, status, version)
        SELECT 'user-' || n, 'u' || n || '@x.test', 'U' || n, 'active', 1
        FROM generate_series(0, {PEOPLE - 1}) n""",
    f"""INSERT INTO payments
            (id, sender_id, recipient_id, amount, currency, status, type, created_at)
        SELECT 'payment-' || n, 'user-' || n % {PEOPLE}, 'user-' || (n * 31 + 7) % {PEOPLE},
            (1 + n * 7919 % 1000000) / 100.0,
            (ARRAY['USD', 'EUR', 'INR'])[1 + n % 3],
            (CASE WHEN n % 100 < 90 THEN 'completed' WHEN n % 100 < 95 THEN 'pending'
                WHEN n % 100 < 98 THEN 'failed' WHEN n % 100 < 99 THEN 'processing'
                ELSE 'cancelled' END)::"PaymentStatus",
            (CASE WHEN n % 53 < 48 THEN 'instant' WHEN n % 53 < 52 THEN 'scheduled'
                ELSE 'recurring' END)::"PaymentType",
            timestamptz '2026-01-15T12:00:00Z' - n * interval '5 minutes'
        FROM generate_series(0, {PAYMENTS - 1}) n""",
    """INSERT INTO payment_transactions (id, payment_id, status, created_at)
        SELECT 'step-' || id, id, status, created_at FROM payments""",
    # As autovacuum keeps it.
    "VACUUM ANALYZE",
)


@dataclass(frozen=True)
class Loaded:
    """The database.

    Attributes:
        somebody: a user with some payments on either side.
        some_payment: a payment's id.
        newest: when the last payment was made.
    """

    db: psycopg.Connection[Any]
    somebody: str
    some_payment: str
    newest: datetime

    def plan(self, statement: str, arguments: Sequence[Any]) -> str:
        """What the server would do, for these values."""
        rows = psycopg.RawCursor(self.db).execute(f"EXPLAIN {statement}", arguments).fetchall()
        return "\n".join(line for (line,) in rows)


def cost(plan: str) -> float:
    """The server's estimate for a whole plan, in its own units."""
    found = re.search(r"cost=[0-9.]+\.\.([0-9.]+)", plan)
    assert found is not None, plan
    return float(found[1])


@contextmanager
def loaded(url: str) -> Iterator[Loaded]:
    """Migrate and fill an empty database.

    Args:
        url: with the superuser's role.
    """
    upgrade(url, _MIGRATIONS, _ROLE)
    with psycopg.connect(url, autocommit=True) as db:
        for statement in _FILL:
            db.execute(statement.encode())
        (count, newest) = (
            db.execute("SELECT count(*), max(created_at) FROM payments").fetchone() or ()
        )
        assert count == PAYMENTS
        yield Loaded(db, "user-5", "payment-5", newest)
