"""R2.15-R2.20: the tables of admin_db and profile_db, and those that every database has."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from system.conftest import RunningStack
from system.tests.desks import SERVICES, Desk, new_key

pytestmark = pytest.mark.platform

TIME = "timestamp(3) with time zone"
# `?` is nullable, as in the contract; a default is shown where the contract names one.
ADMIN = {
    "users": {
        "id": "text",
        "email": "text",
        "name": "text",
        "role": '"UserRole"',
        "status": '"UserStatus"',
        "email_verified": "boolean",
        "version": "integer",
        "created_at": TIME,
        "updated_at": TIME,
    },
    "audit_logs": {
        "id": "text",
        "event_id": "text?",
        "user_id": "text?",
        "action": "text",
        "resource_type": "text?",
        "resource_id": "text?",
        "details": "jsonb?",
        "ip_address": "text?",
        "user_agent": "text?",
        "correlation_id": "text?",
        "created_at": TIME + " = now()",
    },
    "system_config": {
        "key": "text",
        "value": "jsonb",
        "description": "text?",
        "updated_at": TIME,
        "updated_by": "text?",
    },
}
PROFILE = {
    "user_profiles": {
        "id": "text",
        "user_id": "text",
        "avatar_url": "text?",
        "phone": "text?",
        "address": "text?",
        "bio": "text?",
        "preferences": "jsonb = '{}'",
        "created_at": TIME + " = now()",
        "updated_at": TIME,
    },
}
EVERY = {
    "outbox": {
        "seq": "bigint = identity",
        "event_id": "text",
        "event_type": "text",
        "routing_key": "text",
        "envelope": "jsonb",
        "created_at": TIME + " = now()",
        "published_at": TIME + "?",
    },
    "inbox": {"event_id": "text", "consumer": "text", "processed_at": TIME},
}
TABLES = [
    *(("admin", table, columns) for table, columns in ADMIN.items()),
    *(("profile", table, columns) for table, columns in PROFILE.items()),
    *((service, table, columns) for service in SERVICES for table, columns in EVERY.items()),
]
KEYS = {
    "users": {"p (id)", "u (email)"},
    "audit_logs": {"p (id)", "u (event_id)"},
    "system_config": {"p (key)"},
    "user_profiles": {"p (id)", "u (user_id)"},
    "outbox": {"p (seq)", "u (event_id)"},
    "inbox": {"p (event_id, consumer)"},
}
INDEXED = {
    "users": {"email", "role"},
    "audit_logs": {"user_id", "action", "created_at"},
    "user_profiles": {"user_id"},
    "outbox": {"published_at"},
}

_COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           CASE WHEN a.attidentity <> '' THEN 'identity'
                ELSE split_part(pg_get_expr(d.adbin, d.adrelid), '::', 1) END
    FROM pg_attribute a
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
"""
_KEYS = """
    SELECT c.contype::text || ' (' || (
        SELECT string_agg(a.attname, ', ' ORDER BY k.place)
        FROM unnest(c.conkey) WITH ORDINALITY AS k(number, place)
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number) || ')'
    FROM pg_constraint c WHERE c.conrelid = %s::regclass AND c.contype IN ('p', 'u', 'f')
"""
_LEADING = """
    SELECT a.attname FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = %s::regclass AND i.indpred IS NULL
"""


@pytest.mark.parametrize(("service", "table", "columns"), TABLES)
def test_r2_15_to_r2_20_tables_are_the_contracted_ones(
    stack: RunningStack, service: str, table: str, columns: dict[str, str]
) -> None:
    """Exactly these columns, types and nulls; keys; an index that begins with each `I`."""
    with psycopg.connect(stack.database(service)) as db:
        rows = db.execute(_COLUMNS, [table]).fetchall()
        keys = {key for (key,) in db.execute(_KEYS, [table])}
        leading = {column for (column,) in db.execute(_LEADING, [table])}

    seen = {}
    for name, kind, filled, default in rows:
        seen[name] = kind if filled else kind + "?"
        if " = " in columns.get(name, ""):
            seen[name] += f" = {default}"
    assert seen == columns
    assert keys == KEYS[table]
    assert leading >= INDEXED.get(table, set())


@pytest.mark.parametrize("service", SERVICES)
def test_r2_1_updated_at_changes_with_every_write(
    stack: RunningStack, desk: Desk, service: str
) -> None:
    """In each table that has it, whatever the statement says; of UTC, to the millisecond."""
    assert desk.write(service, new_key()).is_success
    with psycopg.connect(stack.database(service)) as db:
        tables = db.execute(
            "SELECT table_name, datetime_precision FROM information_schema.columns"
            " WHERE column_name = 'updated_at' AND table_schema = 'public'"
        ).fetchall()
        touched = {
            table: db.execute(
                sql.SQL(
                    "UPDATE {0} SET updated_at = '2020-01-01Z' WHERE ctid = (SELECT ctid FROM {0}"
                    " LIMIT 1) RETURNING updated_at > now() - interval '1 s'"
                ).format(sql.Identifier(table))
            ).fetchall()
            for table, _ in tables
            # A copy keeps its owner's times, as an administrator is shown them (R1.125).
            if (service, table) != ("admin", "users")
        }
        db.rollback()

    assert set(map(str, touched.values())) == {"[(True,)]"}
    assert {precision for _, precision in tables} == {3}


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_logs SET action = 'x'", "DELETE FROM audit_logs", "TRUNCATE audit_logs"],
)
@pytest.mark.parametrize("role", ["url", "service_url"])
def test_r2_16_the_database_takes_inserts_only(
    stack: RunningStack, role: str, statement: str
) -> None:
    """Of the service's role and of the superuser's alike; an insert of the service's goes in."""
    with psycopg.connect(stack.target["access"]["db"]["admin"][role]) as db:
        db.execute("INSERT INTO audit_logs (id, action) VALUES ('r2-16', 'PROBE')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute(statement.encode())
        db.rollback()
