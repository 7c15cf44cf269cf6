"""Makes profile_db: profiles (R2.18), outbox and inbox (2.5)."""

from __future__ import annotations

from alembic import op

from system.platform import outbox_tables
from system.platform.migrations import run, service_role

revision = "0001"
down_revision = None

_PROFILES = """
CREATE TABLE user_profiles (
    id          text PRIMARY KEY,
    user_id     text NOT NULL UNIQUE,
    avatar_url  text,
    phone       text,
    address     text,
    bio         text,
    preferences jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz(3) NOT NULL DEFAULT now(),
    updated_at  timestamptz(3) NOT NULL DEFAULT now()
);
CREATE INDEX user_profiles_user_id_idx ON user_profiles (user_id);
"""


def upgrade() -> None:
    """Make everything, and let the service read and write its rows."""
    role = service_role()
    run(
        (
            *outbox_tables.outbox_and_inbox(role),
            outbox_tables.touch_function(),
            _PROFILES,
            outbox_tables.touch_trigger("user_profiles"),
            "GRANT SELECT, INSERT, UPDATE, DELETE ON user_profiles "
            f"TO {outbox_tables.quoted(role)}",
        )
    )


def downgrade() -> None:
    """Remove everything."""
    op.execute("DROP TABLE user_profiles, outbox, inbox")
    op.execute("DROP FUNCTION touch_updated_at()")
