"""Lets every list find its rows by an index (R1.126, R1.138); a copy keeps its owner's times."""

from __future__ import annotations

from alembic import op

from system.platform import outbox_tables
from system.platform.migrations import run

revision = "0002"
down_revision = "0001"

_USERS = """
-- updated_at is auth-service's, like the rest of the copy.
DROP TRIGGER users_touch ON users;
-- A part of an e-mail or a name is found by its groups of three letters; the extension is trusted,
-- so the owner of the database may install it.
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE INDEX users_search_idx ON users USING gin (email gin_trgm_ops, name gin_trgm_ops);
CREATE INDEX users_created_at_idx ON users (created_at, id);
CREATE INDEX users_name_idx ON users (name, id);
DROP INDEX users_role_idx;
CREATE INDEX users_role_idx ON users (role, id);
CREATE INDEX users_role_created_at_idx ON users (role, created_at, id);
CREATE INDEX users_status_created_at_idx ON users (status, created_at, id);
"""
_AUDIT = """
DROP INDEX audit_logs_user_id_idx, audit_logs_action_idx;
CREATE INDEX audit_logs_user_id_idx ON audit_logs (user_id, created_at, id);
CREATE INDEX audit_logs_action_idx ON audit_logs (action, created_at, id);
CREATE INDEX audit_logs_resource_type_idx ON audit_logs (resource_type, created_at, id);
"""


def upgrade() -> None:
    """Make the indexes."""
    run((_USERS, _AUDIT))


def downgrade() -> None:
    """Go back to the indexes of the first version."""
    op.execute(
        "DROP INDEX users_search_idx, users_created_at_idx, users_name_idx, users_role_idx, "
        "users_role_created_at_idx, users_status_created_at_idx, audit_logs_user_id_idx, "
        "audit_logs_action_idx, audit_logs_resource_type_idx"
    )
    op.execute("CREATE INDEX users_role_idx ON users (role)")
    op.execute("CREATE INDEX audit_logs_user_id_idx ON audit_logs (user_id)")
    op.execute("CREATE INDEX audit_logs_action_idx ON audit_logs (action)")
    op.execute("DROP EXTENSION pg_trgm")
    op.execute(outbox_tables.touch_trigger("users"))
