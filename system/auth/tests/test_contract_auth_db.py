"""auth_db as the contract has it, its seed, and sign-in without the broker (2.1, 2.6, R1.74)."""

from __future__ import annotations

import uuid
from typing import Any

import asyncpg
import pytest

from system.auth.adapters.tidying import OVER
from system.auth.tests.platform_client import PASSWORD, Client
from system.platform.database import Database
from system.platform.tidying import Tidying

pytestmark = pytest.mark.platform

TIME = "timestamp(3) with time zone"
# `?` is nullable, as in the contract.
COLUMNS = {
    "users": {
        "id": "text",
        "email": "text",
        "password_hash": "text",
        "name": "text",
        "role": '"UserRole"',
        "status": '"UserStatus" = active',
        "email_verified": "boolean = false",
        "version": "integer = 1",
        "created_at": TIME,
        "updated_at": TIME,
    },
    "sessions": {
        "id": "text",
        "user_id": "text",
        "device_ref": "text?",
        "ip_address": "text?",
        "user_agent": "text?",
        "created_at": TIME,
        "last_used_at": TIME,
        "expires_at": TIME,
        "revoked_at": TIME + "?",
        "revoke_reason": "text?",
    },
    "refresh_tokens": {
        "id": "text",
        "user_id": "text",
        "token_hash": "text",
        "token_family": "text",
        "is_revoked": "boolean = false",
        "expires_at": TIME,
        "created_at": TIME,
        "last_used_at": TIME + "?",
    },
    "devices": {
        "id": "text",
        "user_id": "text",
        "device_id": "text",
        "device_name": "text?",
        "device_type": "text?",
        "user_agent": "text?",
        "last_active_at": TIME,
        "created_at": TIME,
    },
    "login_throttles": {
        "key": "text",
        "scope": "text",
        "failures": "integer",
        "first_failure_at": TIME,
        "last_failure_at": TIME,
        "locked_until": TIME + "?",
        "next_try_at": TIME + "?",
    },
    "known_clients": {"user_id": "text", "client": "text", "last_success_at": TIME},
    "signing_keys": {
        "kind": "text",
        "kid": "text",
        "secret_encrypted": "text",
        "created_at": TIME,
        "expires_at": TIME + "?",
        "is_active": "boolean",
        "can_verify": "boolean",
    },
    "key_rotations": {
        "id": "text",
        "kind": "text",
        "old_kid": "text?",
        "new_kid": "text",
        "triggered_by": "text",
        "reason": "text",
        "rotated_at": TIME,
    },
}
KEYS = {
    "users": {"p (id)", "u (email)"},
    "sessions": {"p (id)", "f (user_id) users c", "f (device_ref) devices n"},
    "refresh_tokens": {
        "p (id)",
        "u (token_hash)",
        "f (user_id) users c",
        "f (token_family) sessions c",
    },
    "devices": {"p (id)", "u (user_id, device_id)", "f (user_id) users c"},
    "login_throttles": {"p (key)"},
    "known_clients": {"p (user_id, client)", "f (user_id) users c"},
    "signing_keys": {"p (kind, kid)"},
    "key_rotations": {"p (id)"},
}
INDEXED = {
    "users": {"email", "role"},
    "sessions": {"user_id", "expires_at"},
    "refresh_tokens": {"user_id", "token_family"},
    "devices": {"user_id", "device_id"},
}
_DEFAULTS_TOLD = {"status", "email_verified", "version", "is_revoked"}


@pytest.mark.parametrize("table", COLUMNS)
async def test_r2_3_columns_are_the_contracted_ones(auth_db: Any, table: str) -> None:
    """Exactly the columns of 2.1, with their types, nulls and defaults (R2.3-R2.10)."""
    rows = await auth_db.fetch(
        """SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull,
                  pg_get_expr(d.adbin, d.adrelid) AS default
           FROM pg_attribute a LEFT JOIN pg_attrdef d
                ON d.adrelid = a.attrelid AND d.adnum = a.attnum
           WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped""",
        table,
    )
    seen = {}
    for row in rows:
        text = row["type"] + ("" if row["attnotnull"] else "?")
        if row["attname"] in _DEFAULTS_TOLD and row["default"] is not None:
            text += " = " + row["default"].partition("::")[0].strip("'")
        seen[row["attname"]] = text

    assert seen == COLUMNS[table]


@pytest.mark.parametrize("table", KEYS)
async def test_r2_4_keys_and_what_deletion_does(auth_db: Any, table: str) -> None:
    """Primary, unique and foreign keys with their delete actions, and the indexes asked for."""
    rows = await auth_db.fetch(
        """SELECT c.contype::text AS kind, c.confdeltype::text AS act,
                  c.confrelid::regclass::text AS target,
                  (SELECT string_agg(a.attname, ', ' ORDER BY k.place)
                   FROM unnest(c.conkey) WITH ORDINALITY AS k(number, place)
                   JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number)
                  AS columns
           FROM pg_constraint c
           WHERE c.conrelid = $1::text::regclass AND c.contype IN ('p', 'u', 'f')""",
        table,
    )
    seen = {
        f"{row['kind']} ({row['columns']})"
        + (f" {row['target']} {row['act']}" if row["kind"] == "f" else "")
        for row in rows
    }
    assert seen == KEYS[table]
    first_columns = await auth_db.fetch(
        """SELECT DISTINCT a.attname FROM pg_index i
           JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
           WHERE i.indrelid = $1::text::regclass AND i.indpred IS NULL""",
        table,
    )
    assert INDEXED.get(table, set()) <= {row["attname"] for row in first_columns}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE users SET email = 'ADMIN@example.com' WHERE email = 'admin@example.com'",
        "UPDATE refresh_tokens SET token_hash = 'token'",
        "UPDATE signing_keys SET is_active = true",
        "UPDATE signing_keys SET kind = 'other'",
        "UPDATE login_throttles SET scope = 'other'",
    ],
)
async def test_r2_9_constraints_refuse(client: Client, auth_db: Any, statement: str) -> None:
    """Upper case, tokens in clear, two active keys and unknown words cannot be stored."""
    await client.register()  # so that there is a token
    await client.login(f"{uuid.uuid4()}@x.test")  # and a counter
    transaction = auth_db.transaction()
    await transaction.start()
    try:
        await auth_db.execute(
            """INSERT INTO signing_keys (kind, kid, secret_encrypted, is_active)
               VALUES ('jwt', 'one too many', '', false)"""
        )
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await auth_db.execute(statement)
    finally:
        await transaction.rollback()


async def test_r2_23_seed_is_there_with_its_events(auth_db: Any) -> None:
    """Three accounts, verified, with `user.created` of origin seed and nobody as actor."""
    rows = await auth_db.fetch(
        """SELECT u.email, u.name, u.role::text, u.status::text, u.email_verified,
                  o.envelope->'data'->>'origin' AS origin,
                  o.envelope->'metadata'->>'actorId' AS actor
           FROM users u JOIN outbox o ON o.envelope->'data'->>'userId' = u.id
                AND o.event_type = 'user.created'
           WHERE u.email LIKE '%@example.com' ORDER BY u.email"""
    )

    assert [tuple(row) for row in rows] == [
        (f"{role.lower()}@example.com", f"{role.title()} User", role, "active", True, "seed", None)
        for role in ("ADMIN", "CUSTOMER", "VENDOR")
    ]


async def test_r1_66_migrated_hash_is_replaced_at_login(client: Client, auth_db: Any) -> None:
    """An account with a bcrypt hash signs in by its old password, and has Argon2id after that."""
    account = await client.register()
    await auth_db.execute(
        "UPDATE users SET password_hash = $2 WHERE id = $1",
        account["user"]["id"],
        "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
    )

    assert isinstance(await client.login(account["user"]["email"], "U*U"), dict)

    stored = await auth_db.fetchval(
        "SELECT password_hash FROM users WHERE id = $1", account["user"]["id"]
    )
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert isinstance(await client.login(account["user"]["email"], "U*U"), dict)
    assert await client.login(account["user"]["email"], PASSWORD) == "INVALID_CREDENTIALS"


async def test_r1_74_sign_in_works_without_the_broker(client: Client, auth_db: Any) -> None:
    """Registration, login and logout succeed; their events lie in the outbox until it is back."""
    client.stack.control("rabbitmq", "kill")
    try:
        account = await client.register()
        session = await client.login(account["user"]["email"])
        done = await client.auth("/auth/logout", {}, session["accessToken"])
        assert done == {"message": "Logged out successfully"}
        waiting = await auth_db.fetchval(
            """SELECT count(*) FROM outbox WHERE published_at IS NULL
               AND envelope->'data'->>'userId' = $1""",
            account["user"]["id"],
        )
        assert waiting == 4
    finally:
        client.stack.control("rabbitmq", "start")
    client.stack.until_ready(60)


async def test_old_counters_and_clients_are_thrown_away(client: Client, auth_db: Any) -> None:
    """What no rule looks at any more goes; a running lock and a known client stay."""
    account = await client.register()
    await client.login(account["user"]["email"])
    rows = [("0" * 64, 25), ("1" * 64, 1)]
    for key, hours in rows:
        await auth_db.execute(
            """INSERT INTO login_throttles (key, scope, failures, first_failure_at,
                                            last_failure_at)
               VALUES ($1, 'pair', 5, now(), now() - make_interval(hours => $2))""",
            key,
            hours,
        )
        await auth_db.execute("INSERT INTO login_throttle_pairs VALUES ($1, $1)", key)
    await auth_db.execute(
        "INSERT INTO known_clients VALUES ($1, 'old', now() - interval '32 days')",
        account["user"]["id"],
    )
    database = Database(client.stack.database("auth"))
    await database.start()
    try:
        await Tidying(database, OVER).tidy()
    finally:
        await database.close()

    keys = [key for key, _ in rows]
    for table, column in (("login_throttles", "key"), ("login_throttle_pairs", "pair_key")):
        left = await auth_db.fetch(
            f"SELECT {column} AS key FROM {table} WHERE {column} = ANY($1::text[])", keys
        )
        assert [row["key"] for row in left] == ["1" * 64]
    clients = await auth_db.fetch(
        "SELECT client FROM known_clients WHERE user_id = $1", account["user"]["id"]
    )
    assert [row["client"] for row in clients] == [client.stack.exempt]
    await auth_db.execute("DELETE FROM login_throttles WHERE key = $1", "1" * 64)
