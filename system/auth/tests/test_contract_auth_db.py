"""auth_db as the contract has it, its seed, and sign-in without the broker (2.1, 2.6, R1.74)."""

from __future__ import annotations

import hashlib
import re
import secrets
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from system.auth.adapters.seed import ACCOUNTS, seed
from system.auth.adapters.seed import PASSWORD as SEEDED
from system.auth.adapters.tidying import OVER
from system.auth.tests.platform_client import PASSWORD, Client
from system.platform.config.loading import load
from system.platform.database import Database
from system.platform.tidying import Tidying

pytestmark = pytest.mark.platform

_PROJECT = Path(__file__).resolve().parents[3]
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
async def test_r2_3_to_r2_10_columns_are_the_contracted_ones(auth_db: Any, table: str) -> None:
    """Exactly the columns of 2.1, with their types, nulls and defaults."""
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
async def test_r2_3_to_r2_10_keys_and_what_deletion_does(auth_db: Any, table: str) -> None:
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
async def test_r2_3_r2_5_r2_7_r2_9_constraints_refuse(
    client: Client, auth_db: Any, statement: str
) -> None:
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


async def test_r2_5_r2_6_what_a_session_leaves(client: Client, auth_db: Any) -> None:
    """Hashes of its tokens, the spent one with the moment it was spent; its device."""
    email, device = f"{uuid.uuid4()}@x.test", "laptop.1"
    account = await client.auth(
        "/auth/register", {"email": email, "password": PASSWORD, "name": "C"}
    )
    answer = await client.send(
        "auth",
        "POST",
        "/auth/login",
        json={"email": email, "password": PASSWORD},
        headers={"X-Device-ID": device, "User-Agent": "agent/1"},
    )
    first = answer.json()["data"]["refreshToken"]
    second = (await client.refresh(first))["refreshToken"]

    rows = await auth_db.fetch(
        """SELECT t.token_hash, t.last_used_at IS NOT NULL AS spent, t.is_revoked,
                  t.expires_at - t.created_at AS life, t.token_family = s.id AS family
           FROM refresh_tokens t JOIN sessions s ON s.id = t.token_family
           JOIN devices d ON d.id = s.device_ref
           WHERE t.user_id = $1 AND d.device_id = $2 AND d.user_agent = 'agent/1'""",
        account["user"]["id"],
        device,
    )
    assert {row["token_hash"]: (row["spent"], row["is_revoked"]) for row in rows} == {
        hashlib.sha256(first.encode()).hexdigest(): (True, False),
        hashlib.sha256(second.encode()).hexdigest(): (False, False),
    }
    assert {(row["life"].days, row["family"]) for row in rows} == {(7, True)}


async def test_r2_7_r2_8_what_logins_leave(client: Client, auth_db: Any) -> None:
    """A counter of each scope under a hash; a known client for the address and for the device."""
    account = await client.register()
    email, address = account["user"]["email"], f"127.0.29.{secrets.randbelow(250) + 1}"
    transport = httpx.AsyncHTTPTransport(local_address=address)
    began = datetime.now(UTC)
    async with httpx.AsyncClient(transport=transport, timeout=10) as stranger:
        for _ in range(2):
            await stranger.post(
                client.stack.services["auth"] + "/auth/login",
                json={"email": email, "password": "wrong"},
            )
    await client.send(
        "auth",
        "POST",
        "/auth/login",
        json={"email": email, "password": PASSWORD},
        headers={"X-Device-ID": "laptop.1"},
    )

    rows = await auth_db.fetch(
        "SELECT * FROM login_throttles WHERE first_failure_at >= $1",
        began - timedelta(milliseconds=1),
    )
    assert {(row["scope"], row["failures"]) for row in rows} == {
        ("pair", 2),
        ("account", 2),
        ("address", 2),
    }
    assert all(re.fullmatch("[0-9a-f]{64}", row["key"]) for row in rows)
    assert [row["next_try_at"] is not None for row in rows if row["scope"] == "pair"] == [True]
    clients = await auth_db.fetch(
        "SELECT client, last_success_at >= $2 AS new FROM known_clients WHERE user_id = $1",
        account["user"]["id"],
        began - timedelta(milliseconds=1),
    )
    assert {tuple(row) for row in clients} == {(client.stack.exempt, True), ("laptop.1", True)}


async def test_r2_10_what_a_rotation_leaves(client: Client, auth_db: Any) -> None:
    """Which key followed which, who wanted it and why."""
    account = client.stack.account("admin")
    admin = await client.login(account["email"], account["password"])
    old = await auth_db.fetchval("SELECT kid FROM signing_keys WHERE kind = 'jwt' AND is_active")

    answer = await client.send(
        "gateway",
        "POST",
        "/api/auth/admin/secrets/rotate",
        admin["accessToken"],
        json={"type": "jwt", "reason": "a leak"},
    )

    new = answer.json()["data"]["rotated"]["jwt"]["kid"]
    rows = await auth_db.fetch(
        """SELECT kind, old_kid, triggered_by, reason, rotated_at > now() - interval '1 minute'
           FROM key_rotations WHERE new_kid = $1""",
        new,
    )
    assert [tuple(row) for row in rows] == [("jwt", old, admin["user"]["id"], "a leak", True)]


@pytest.mark.parametrize("allowed", [False, True])
async def test_r2_24_no_seed_in_production_unless_allowed(
    client: Client, auth_db: Any, allowed: bool
) -> None:
    """Without ALLOW_DEMO_CREDENTIALS nothing is written, not even a password reset."""
    settings = load("auth", {"AUTH_DATABASE_URL": client.stack.database("auth")})
    settings = msgspec.structs.replace(settings, production=True, allow_demo_credentials=allowed)
    ask = "SELECT id, password_hash FROM users WHERE email LIKE '%@example.com' ORDER BY email"
    before = [tuple(row) for row in await auth_db.fetch(ask)]
    transaction = auth_db.transaction()
    await transaction.start()
    try:
        assert await seed(auth_db, settings) is allowed
        after = [tuple(row) for row in await auth_db.fetch(ask)]
    finally:
        await transaction.rollback()

    assert len(before) == 3
    assert [row[0] for row in after] == [row[0] for row in before]
    assert [old[1] != new[1] for old, new in zip(before, after, strict=True)] == [allowed] * 3


def test_r2_24_documents_name_no_other_demo_credentials() -> None:
    """Every address of example.com in a document is one of the seed's, and so is its password."""
    documents = [_PROJECT / "README.md", *(_PROJECT / "docs").rglob("*.md")]
    said = [document.read_text(encoding="utf-8") for document in documents]
    addresses = {found for text in said for found in re.findall(r"[\w.+-]+@example\.com", text)}
    passwords = {
        found for text in said for found in re.findall(r"password\W+\"([^\"\n]+)\"", text, re.I)
    }

    assert addresses <= {email for email, _, _ in ACCOUNTS}
    assert addresses, "no document names one: this test reads the wrong files"
    assert passwords <= {SEEDED, "…"}


async def test_r2_23_r3_23_seed_is_there_with_its_events(auth_db: Any) -> None:
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
