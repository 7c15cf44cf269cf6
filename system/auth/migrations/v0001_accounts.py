"""Makes auth_db: accounts, sessions, refresh tokens, devices, throttles and signing keys (2.1)."""

from __future__ import annotations

from system.platform import outbox_tables
from system.platform.migrations import run, service_role

revision = "0001"
down_revision = None

_TABLES = (
    """CREATE TYPE "UserRole" AS ENUM ('ADMIN', 'CUSTOMER', 'VENDOR')""",
    """CREATE TYPE "UserStatus" AS ENUM ('active', 'suspended')""",
    """CREATE TABLE users (
        id             text PRIMARY KEY,
        email          text NOT NULL UNIQUE CHECK (email = lower(email)),
        password_hash  text NOT NULL,
        name           text NOT NULL,
        role           "UserRole" NOT NULL,
        status         "UserStatus" NOT NULL DEFAULT 'active',
        email_verified boolean NOT NULL DEFAULT false,
        version        integer NOT NULL DEFAULT 1,
        created_at     timestamptz(3) NOT NULL DEFAULT now(),
        updated_at     timestamptz(3) NOT NULL DEFAULT now()
    )""",
    "CREATE INDEX users_role_idx ON users (role)",
    """CREATE TABLE devices (
        id             text PRIMARY KEY,
        user_id        text NOT NULL REFERENCES users ON DELETE CASCADE,
        device_id      text NOT NULL,
        device_name    text,
        device_type    text,
        user_agent     text,
        last_active_at timestamptz(3) NOT NULL DEFAULT now(),
        created_at     timestamptz(3) NOT NULL DEFAULT now(),
        UNIQUE (user_id, device_id)
    )""",
    "CREATE INDEX devices_user_id_idx ON devices (user_id)",
    "CREATE INDEX devices_device_id_idx ON devices (device_id)",
    """CREATE TABLE sessions (
        id            text PRIMARY KEY,
        user_id       text NOT NULL REFERENCES users ON DELETE CASCADE,
        device_ref    text REFERENCES devices ON DELETE SET NULL,
        ip_address    text,
        user_agent    text,
        created_at    timestamptz(3) NOT NULL DEFAULT now(),
        last_used_at  timestamptz(3) NOT NULL DEFAULT now(),
        expires_at    timestamptz(3) NOT NULL,
        revoked_at    timestamptz(3),
        revoke_reason text
    )""",
    "CREATE INDEX sessions_user_id_idx ON sessions (user_id)",
    # Removing a device looks for its sessions.
    "CREATE INDEX sessions_device_ref_idx ON sessions (device_ref)",
    "CREATE INDEX sessions_expires_at_idx ON sessions (expires_at)",
    """CREATE TABLE refresh_tokens (
        id           text PRIMARY KEY,
        user_id      text NOT NULL REFERENCES users ON DELETE CASCADE,
        token_hash   text NOT NULL UNIQUE CHECK (token_hash ~ '^[0-9a-f]{64}$'),
        token_family text NOT NULL REFERENCES sessions ON DELETE CASCADE,
        is_revoked   boolean NOT NULL DEFAULT false,
        expires_at   timestamptz(3) NOT NULL,
        created_at   timestamptz(3) NOT NULL DEFAULT now(),
        last_used_at timestamptz(3)
    )""",
    "CREATE INDEX refresh_tokens_user_id_idx ON refresh_tokens (user_id)",
    "CREATE INDEX refresh_tokens_token_family_idx ON refresh_tokens (token_family)",
    """CREATE TABLE login_throttles (
        key              text PRIMARY KEY CHECK (key ~ '^[0-9a-f]{64}$'),
        scope            text NOT NULL CHECK (scope IN ('pair', 'account', 'address')),
        failures         integer NOT NULL DEFAULT 0,
        first_failure_at timestamptz(3) NOT NULL,
        last_failure_at  timestamptz(3) NOT NULL,
        locked_until     timestamptz(3),
        next_try_at      timestamptz(3)
    )""",
    """CREATE TABLE known_clients (
        user_id         text NOT NULL REFERENCES users ON DELETE CASCADE,
        client          text NOT NULL,
        last_success_at timestamptz(3) NOT NULL,
        PRIMARY KEY (user_id, client)
    )""",
    """CREATE TABLE signing_keys (
        kind             text NOT NULL CHECK (kind IN ('jwt', 'refresh')),
        kid              text NOT NULL,
        secret_encrypted text NOT NULL,
        created_at       timestamptz(3) NOT NULL DEFAULT now(),
        expires_at       timestamptz(3),
        is_active        boolean NOT NULL DEFAULT false,
        can_verify       boolean NOT NULL DEFAULT true,
        PRIMARY KEY (kind, kid)
    )""",
    "CREATE UNIQUE INDEX signing_keys_active_idx ON signing_keys (kind) WHERE is_active",
    """CREATE TABLE key_rotations (
        id           text PRIMARY KEY,
        kind         text NOT NULL CHECK (kind IN ('jwt', 'refresh')),
        old_kid      text,
        new_kid      text NOT NULL,
        triggered_by text NOT NULL,
        reason       text NOT NULL,
        rotated_at   timestamptz(3) NOT NULL DEFAULT now()
    )""",
)

_GRANTED = (
    "users, devices, sessions, refresh_tokens, login_throttles, known_clients, signing_keys, "
    "key_rotations"
)


def upgrade() -> None:
    """Make everything."""
    role = service_role()
    run(
        (
            *_TABLES,
            outbox_tables.touch_function(),
            outbox_tables.touch_trigger("users"),
            *outbox_tables.outbox_and_inbox(role),
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {_GRANTED} TO {outbox_tables.quoted(role)}",
        )
    )


def downgrade() -> None:
    """Refuse: accounts are not thrown away by a migration."""
    raise NotImplementedError("auth_db has no older form; restore a backup instead")
