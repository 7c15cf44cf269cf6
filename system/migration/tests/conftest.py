"""One PostgreSQL cluster for the session, with a legacy database and the four new ones in it."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from system.migration.domain.entities import SERVICES
from system.migration.entrypoints.command_line import main
from system.migration.legacy.generator import generate
from system.migration.ports import NullProgress
from system.platform.migrations import upgrade
from system.stack import accounts, postgres
from system.stack.ports import free
from system.stack.programs import postgres_folder
from system.stack.state import PROJECT

ROWS = 400
_PASSWORD = "owner-of-tests"
_CONFIGURATION = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = 40
shared_buffers = 32MB
max_wal_size = 256MB
dynamic_shared_memory_type = mmap
timezone = 'Asia/Kolkata'             # the command must not care
jit = off
fsync = off                           # what these tests keep is thrown away
full_page_writes = off
"""


@dataclass(frozen=True)
class Cluster:
    """A server, and the URLs of its databases."""

    port: int
    password: str

    def url(self, database: str, role: str = "postgres", password: str = "") -> str:
        """A database's URL for a role, the superuser if none is named."""
        return f"postgresql://{role}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def run(self, *statements: sql.Composed) -> None:
        """Execute statements outside any transaction."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


@dataclass(frozen=True)
class Finished:
    """What a command did: exit code and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Place:
    """A legacy database, four empty new ones, a folder, and the environment that names them."""

    cluster: Cluster
    folder: Path
    environ: dict[str, str]

    def migrate(self, *arguments: str, answer: str = "", **environ: str) -> Finished:
        """Run the command in this process, which is quicker; returns what it did."""
        before = signal.getsignal(signal.SIGTERM)
        said, complained, stdin = io.StringIO(), io.StringIO(), sys.stdin
        sys.stdin = io.StringIO(answer)
        try:
            with (
                contextlib.chdir(self.folder),
                contextlib.redirect_stdout(said),
                contextlib.redirect_stderr(complained),
            ):
                code = main(arguments, {**self.environ, **environ})
        finally:
            sys.stdin = stdin
            signal.signal(signal.SIGTERM, before)
        return Finished(code, said.getvalue(), complained.getvalue())

    def command(self, *arguments: str, answer: str = "", **environ: str) -> Any:
        """Run `bin/migrate` as a person would; returns the finished process."""
        return subprocess.run(
            [str(PROJECT / "bin" / "migrate"), *arguments],
            cwd=self.folder,
            env={**self.environ, **environ},
            input=answer,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def fetch(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Rows of a query by the superuser, times in UTC."""
        with psycopg.connect(self.cluster.url(database), options="-c timezone=UTC") as connection:
            return connection.execute(statement.encode()).fetchall()

    def change(self, database: str, statement: str) -> int:
        """Change a database as its superuser; returns how many rows were."""
        with psycopg.connect(self.cluster.url(database)) as connection:
            return connection.execute(statement.encode()).rowcount

    def picture(self, service: str) -> dict[str, list[tuple[Any, ...]]]:
        """All rows and schemas of a new database, to be compared."""
        with psycopg.connect(
            self.cluster.url(f"{service}_db"), options="-c timezone=UTC"
        ) as connection:
            return _picture(connection)


def _picture(connection: psycopg.Connection[Any]) -> dict[str, list[tuple[Any, ...]]]:
    tables = connection.execute(
        """SELECT table_schema, table_name FROM information_schema.tables
           WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"""
    ).fetchall()
    return {
        f"{schema}.{name}": connection.execute(
            sql.SQL("SELECT t::text FROM {} t ORDER BY 1").format(sql.Identifier(schema, name))
        ).fetchall()
        for schema, name in tables
    }


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running server, ended with the session."""
    folder = Path(tempfile.mkdtemp(prefix="seatrial-migration-", dir="/tmp"))
    folder.chmod(0o711)
    server: subprocess.Popen[bytes] | None = None
    try:
        template, password = postgres.template(PROJECT / ".seatrial" / "cache", folder, {})
        data = folder / "data"
        shutil.copytree(template, data)
        port = free(["server"])["server"]
        (data / "postgresql.conf").write_text(_CONFIGURATION.format(port=port))
        (data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        account = accounts.account_for("postgres")
        accounts.hand_over(account, [data])
        data.chmod(0o700)
        programs = postgres_folder()
        assert programs is not None
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [str(programs / "postgres"), "-D", str(data)],
                cwd=data,
                env={"PATH": os.defpath, "LANG": "C.UTF-8"},
                stdout=log,
                stderr=log,
                user=account,
                group=account,
                extra_groups=[] if account else None,
                start_new_session=True,
            )
        made = Cluster(port, password)
        _until_up(made, server, folder / "log")
        _make_templates(made)
        yield made
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)
            server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def place(cluster: Cluster, tmp_path: Path) -> Place:
    """Fresh databases; the legacy one has a few hundred rows."""
    return fresh(cluster, tmp_path)


def fresh(cluster: Cluster, folder: Path) -> Place:
    """Make the five databases anew from their templates."""
    for name in ("mfe_poc2", *(f"{service}_db" for service in SERVICES)):
        cluster.run(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)),
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
                sql.Identifier(name),
                sql.Identifier(f"{name}_template"),
                sql.Identifier(_owner_of(name)),
            ),
        )
    environ = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": cluster.url("mfe_poc2"),
        **{
            f"{service.upper()}_MIGRATION_DATABASE_URL": owner_url(cluster, service)
            for service in SERVICES
        },
        **{key: value for key, value in os.environ.items() if key.startswith("COVERAGE_")},
    }
    return Place(cluster, folder, environ)


def owner_url(cluster: Cluster, service: str) -> str:
    """A new database's URL with its owner role, which is no superuser."""
    return cluster.url(f"{service}_db", f"{service}_owner", _PASSWORD)


def _owner_of(database: str) -> str:
    return "postgres" if database == "mfe_poc2" else database.replace("_db", "_owner")


def _until_up(cluster: Cluster, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(cluster.url("postgres"), connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


def _make_templates(cluster: Cluster) -> None:
    """The new databases by the services' own migrations, as their owners, and a legacy one."""
    cluster.run(sql.SQL("CREATE DATABASE mfe_poc2_template").format())
    generate(cluster.url("mfe_poc2_template"), ROWS, NullProgress())
    for service in SERVICES:
        owner, name = sql.Identifier(f"{service}_owner"), f"{service}_db_template"
        cluster.run(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(owner, sql.Literal(_PASSWORD)),
            sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(f"{service}_service")),
            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), owner),
        )
        # As the stack does (R0.19): the owner may use the schema, nobody else makes anything.
        with psycopg.connect(cluster.url(name), autocommit=True) as connection:
            connection.execute(b"REVOKE ALL ON SCHEMA public FROM PUBLIC")
            connection.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}").format(owner))
        upgrade(
            cluster.url(name, f"{service}_owner", _PASSWORD),
            PROJECT / "system" / service / "migrations",
            f"{service}_service",
        )
