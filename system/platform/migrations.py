"""Brings a database's schema to its newest version; a second run changes nothing (R2.2).

A service's migrations are files `system/<service>/migrations/v0001_….py` with `revision`,
`down_revision`, `upgrade()` and `downgrade()`, in plain SQL through `alembic.op.execute`.  Grants
belong there too; `service_role()` names the role to grant to.

    python -m system.platform.migrations auth      # reads AUTH_MIGRATION_DATABASE_URL
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import sqlalchemy
from alembic import op
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from system.platform.config.loading import load_or_exit
from system.platform.config.settings import SERVICES

# Any number will do as long as nobody else takes it: two upgrades at once must queue up.
_LOCK: Final = 0x5EA7_41A1
_SYSTEM: Final = Path(__file__).resolve().parent.parent


def service_role() -> str:
    """Return the role that the service connects with; to be asked inside a migration."""
    role = op.get_context().opts["service_role"]
    return str(role)


def run(statements: Iterable[str]) -> None:
    """Execute plain SQL inside a migration; `%` and `:` mean themselves."""
    connection = op.get_bind()
    for statement in statements:
        connection.exec_driver_sql(statement.replace("%", "%%"))


def upgrade(owner_url: str, versions: Path, service_role: str) -> str | None:
    """Run all migrations that have not run yet, in one transaction.

    Args:
        owner_url: database with its owner role, postgresql://…
        versions: folder of the migrations.
        service_role: the role that the service connects with.

    Returns:
        The revision the schema is at now; None if there is no migration at all.

    Raises:
        sqlalchemy.exc.OperationalError: the server is not reachable.
    """
    location = Config()
    location.set_main_option("script_location", str(versions).replace("%", "%%"))
    location.set_main_option("version_locations", str(versions).replace("%", "%%"))
    location.set_main_option("path_separator", "newline")
    script = ScriptDirectory.from_config(location)

    def to_newest(revision: Any, _: MigrationContext) -> Any:
        return script._upgrade_revs("head", revision)

    engine = sqlalchemy.create_engine(_driver_url(owner_url), poolclass=sqlalchemy.NullPool)
    try:
        with (
            EnvironmentContext(location, script, fn=to_newest) as environment,
            engine.connect() as connection,
        ):
            environment.configure(
                connection=connection, target_metadata=None, service_role=service_role
            )
            with environment.begin_transaction():
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
                environment.run_migrations()
                revision = environment.get_context().get_current_revision()
            connection.commit()
    finally:
        engine.dispose()
    return revision


def _driver_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgresql", "postgres") or not rest:
        raise ValueError("the database URL has to begin with postgresql://")
    return f"postgresql+psycopg://{rest}"


def main(arguments: list[str]) -> int:
    """Upgrade the databases of the services named; exit codes as R0.17."""
    if not arguments or not set(arguments) <= set(SERVICES):
        sys.stderr.write(
            f"usage: python -m system.platform.migrations {{{'|'.join(SERVICES)}}} …\n"
        )
        return 2
    for service in arguments:
        settings = load_or_exit(service)
        owner_url = settings.owner_url(service)
        if not owner_url:
            sys.stderr.write(
                f"{service.upper()}_MIGRATION_DATABASE_URL is not set; "
                "expected the database's URL with its owner role\n"
            )
            return 1
        role = urlsplit(settings.database_url).username or f"{service}_service"
        revision = upgrade(owner_url, _SYSTEM / service / "migrations", role)
        sys.stdout.write(f"{service}_db is at {revision}\n")
    return 0


if __name__ == "__main__":
    # A migration asks this very module for the role, not a second copy named __main__.
    from system.platform.migrations import main as _main

    raise SystemExit(_main(sys.argv[1:]))
