"""Makes admin_db: copy of users, audit log, configuration (2.3), outbox and inbox (2.5), seed."""

from __future__ import annotations

from alembic import op

from system.platform import outbox_tables
from system.platform.migrations import run, service_role

revision = "0001"
down_revision = None

_TABLES = """
CREATE TYPE "UserRole" AS ENUM ('ADMIN', 'CUSTOMER', 'VENDOR');
CREATE TYPE "UserStatus" AS ENUM ('active', 'suspended');
CREATE TABLE users (
    id             text PRIMARY KEY,
    email          text NOT NULL UNIQUE CHECK (email = lower(email)),
    name           text NOT NULL,
    role           "UserRole" NOT NULL,
    status         "UserStatus" NOT NULL DEFAULT 'active',
    email_verified boolean NOT NULL DEFAULT false,
    version        integer NOT NULL DEFAULT 1,
    created_at     timestamptz(3) NOT NULL DEFAULT now(),
    updated_at     timestamptz(3) NOT NULL DEFAULT now()
);
CREATE INDEX users_email_idx ON users (email);
CREATE INDEX users_role_idx ON users (role);
-- A deleted user must not come back with an event that was late (R2.21, R2.22).
CREATE TABLE deleted_users (
    id         text PRIMARY KEY,
    version    integer NOT NULL,
    deleted_at timestamptz(3) NOT NULL DEFAULT now()
);
CREATE TABLE audit_logs (
    id             text PRIMARY KEY,
    event_id       text UNIQUE,
    user_id        text,
    action         text NOT NULL,
    resource_type  text,
    resource_id    text,
    details        jsonb,
    ip_address     text,
    user_agent     text,
    correlation_id text,
    created_at     timestamptz(3) NOT NULL DEFAULT now()
);
CREATE INDEX audit_logs_user_id_idx ON audit_logs (user_id);
CREATE INDEX audit_logs_action_idx ON audit_logs (action);
CREATE INDEX audit_logs_created_at_idx ON audit_logs (created_at, id);
CREATE TABLE system_config (
    key         text PRIMARY KEY,
    value       jsonb NOT NULL,
    description text,
    updated_at  timestamptz(3) NOT NULL DEFAULT now(),
    updated_by  text
);
"""

# R1.142, R2.16: rows cannot be changed or removed, not even by a role that may.
_INSERT_ONLY = """
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_logs takes inserts only, % refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_logs_insert_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
"""

# R2.25
_SEED = """
INSERT INTO system_config (key, value) VALUES
    ('app.version', '"1.0.0"'), ('payment.min_amount', '"0.01"')
ON CONFLICT (key) DO NOTHING;
"""


def upgrade() -> None:
    """Make everything, and let the service do what it needs and no more (R0.19)."""
    role = outbox_tables.quoted(service_role())
    run(
        (
            *outbox_tables.outbox_and_inbox(service_role()),
            outbox_tables.touch_function(),
            _TABLES,
            outbox_tables.touch_trigger("users"),
            outbox_tables.touch_trigger("system_config"),
            _INSERT_ONLY,
            f"GRANT SELECT, INSERT ON audit_logs TO {role}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON users, deleted_users TO {role}",
            f"GRANT SELECT, INSERT, UPDATE ON system_config TO {role}",
            _SEED,
        )
    )


def downgrade() -> None:
    """Remove everything."""
    op.execute("DROP TABLE users, deleted_users, audit_logs, system_config, outbox, inbox")
    op.execute('DROP TYPE "UserRole", "UserStatus"')
    op.execute("DROP FUNCTION touch_updated_at(), refuse_audit_change()")
