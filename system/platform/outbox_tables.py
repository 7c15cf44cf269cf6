"""The tables that every database has: outbox (R2.19) and inbox (R2.20), and what goes with them."""

from __future__ import annotations

from typing import Final

_TABLES: Final = """
CREATE TABLE outbox (
    seq          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id     text NOT NULL UNIQUE,
    event_type   text NOT NULL,
    routing_key  text NOT NULL,
    envelope     jsonb NOT NULL,
    created_at   timestamptz(3) NOT NULL DEFAULT now(),
    published_at timestamptz(3)
);
CREATE INDEX outbox_published_at_idx ON outbox (published_at);
-- What the relay looks for, in the order in which it publishes.
CREATE INDEX outbox_pending_idx ON outbox (seq) WHERE published_at IS NULL;
CREATE TABLE inbox (
    event_id     text NOT NULL,
    consumer     text NOT NULL,
    processed_at timestamptz(3) NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, consumer)
);
CREATE INDEX inbox_processed_at_idx ON inbox (processed_at);
"""

_TOUCH: Final = """
CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;
"""


def quoted(role: str) -> str:
    """Return a role's name as an SQL identifier."""
    return '"' + role.replace('"', '""') + '"'


def outbox_and_inbox(service_role: str) -> tuple[str, ...]:
    """Return the statements that make outbox and inbox and let the service use them.

    Args:
        service_role: role the service connects with (R0.19).
    """
    return (
        _TABLES,
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON outbox, inbox TO {quoted(service_role)}",
    )


def touch_function() -> str:
    """Return the statement that makes the function behind `touch_trigger`; once per database."""
    return _TOUCH


def touch_trigger(table: str) -> str:
    """Return the statement that makes `updated_at` change with every write to `table` (R2.1)."""
    return (
        f"CREATE TRIGGER {table}_touch BEFORE UPDATE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION touch_updated_at()"
    )
