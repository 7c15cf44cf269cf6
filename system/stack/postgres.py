"""PostgreSQL: one cluster per service, copied from a template, with three roles (R0.6, R0.19)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
from psycopg import sql

from system.stack import accounts
from system.stack.errors import NotInstalled, StackError
from system.stack.launch import Launch, Readiness
from system.stack.programs import path_of, postgres_folder

# C.UTF-8 exists everywhere and sorts by code point; the contract sorts by times and ids only.
_INITDB = ("--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256")

_HERE = "127.0.0.1"

_CONFIGURATION = """\
# Written by system/stack/postgres.py. As durable as in production: fsync stays on.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''          # a socket in /tmp would outlive a crash
max_connections = 60
shared_buffers = 32MB
work_mem = 4MB
maintenance_work_mem = 32MB
max_wal_size = 256MB
min_wal_size = 64MB
max_wal_senders = 0
wal_level = minimal
dynamic_shared_memory_type = mmap     # in the data folder, so that a crash leaves nothing elsewhere
password_encryption = scram-sha-256
timezone = 'UTC'
log_timezone = 'UTC'
jit = off                             # costs more than it gives for short queries
log_line_prefix = '%m [%p] %u@%d '
log_min_messages = warning
log_checkpoints = off
"""

_ACCESS = """\
# A service's roles may enter its own database only, with their passwords (R0.19).
host  {service}_db  {service}_owner    127.0.0.1/32  scram-sha-256
host  {service}_db  {service}_service  127.0.0.1/32  scram-sha-256
host  all           postgres           127.0.0.1/32  scram-sha-256
"""


def template(cache: Path, scratch: Path, marker: Mapping[str, str]) -> tuple[Path, str]:
    """An empty cluster to copy, made once for each version of PostgreSQL.

    Args:
        cache: folder that keeps it; when it cannot be written, the template lies in ``scratch``.
        scratch: folder below /tmp that PostgreSQL's own user can enter.
        marker: put into the environment of what is run, so that it is found after a crash.

    Returns:
        its data folder, and the superuser's password in it.

    Raises:
        StackError: initdb failed; shows what it said.
    """
    environment = {"LANG": "C.UTF-8", "PATH": os.defpath, **marker}
    folder = postgres_folder()
    if folder is None:
        path_of("postgres")
        raise NotInstalled("PostgreSQL has no initdb; `bin/install` installs it")
    version = subprocess.run(
        [folder / "postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout
    digest = hashlib.sha256("\n".join((version, *_INITDB)).encode()).hexdigest()[:12]
    kept = cache / f"postgres-{digest}-{os.getuid()}"  # readable by nobody but its maker
    if not (kept / "password").exists():
        made = _initialise(folder, scratch, environment)
        # Another stack may have been first; a project folder that cannot be written keeps nothing.
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=kept.parent, prefix="new-") as place:
                moved = Path(place) / "template"
                _copy(made, moved, environment)
                moved.rename(kept)
        if not (kept / "password").exists():
            kept = made
    return kept / "data", (kept / "password").read_text(encoding="utf-8")


def prepare(
    service: str, port: int, folder: Path, template_data: Path, marker: Mapping[str, str]
) -> Launch:
    """Copy the template for a service and say how its server is started.

    Args:
        folder: the part's folder in the state folder; made here.
        marker: as for `template`.
    """
    part = f"postgres-{service}"
    account = accounts.account_for(part)
    data = folder / "data"
    folder.mkdir(mode=0o700)
    _copy(template_data, data, {"PATH": os.defpath, **marker})
    (data / "postgresql.conf").write_text(_CONFIGURATION.format(port=port), encoding="utf-8")
    (data / "pg_hba.conf").write_text(_ACCESS.format(service=service), encoding="utf-8")
    accounts.hand_over(account, [folder])
    return Launch(
        part=part,
        command=(str(path_of("postgres")), "-D", str(data)),
        environment={"LANG": "C.UTF-8", "PATH": os.defpath},
        folder=str(data.relative_to(folder.parent)),
        readiness=Readiness("postgres", port),
        account=account,
        stop_signal="SIGINT",  # fast: ends sessions, writes a checkpoint
        quick_signal="SIGQUIT",  # immediate, but frees its shared memory
        grace=20.0,
    )


def make_roles(
    service: str,
    port: int,
    *,
    initial: str,
    superuser: str,
    owner: str,
    runtime: str,
    host: str = _HERE,
) -> None:
    """Give a new cluster its database, its roles and its own superuser password (R0.19).

    Args:
        initial: the superuser's password in the template.
        superuser, owner, runtime: the passwords it has from now on.
        host: where the cluster is.
    """
    owner_role, service_role = _roles(service)
    with _session(port, initial, "postgres", host) as session:
        for role, password in ((owner_role, owner), (service_role, runtime)):
            session.execute(
                sql.SQL(
                    "CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {}"
                ).format(role, sql.Literal(password))
            )
        for other in ("postgres", "template1"):
            session.execute(
                sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(other))
            )
        session.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(superuser)))
    make_database(service, port, superuser, host)


def make_database(service: str, port: int, superuser: str, host: str = _HERE) -> None:
    """Give a service's cluster an empty database in place of the one it may have.

    Args:
        superuser: the superuser's password.
        host: where the cluster is.
    """
    database = sql.Identifier(f"{service}_db")
    owner_role, service_role = _roles(service)
    with _session(port, superuser, "postgres", host) as session:
        session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))
        session.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, owner_role))
        session.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
        session.execute(
            sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, service_role)
        )
    with _session(port, superuser, f"{service}_db", host) as session:
        session.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        session.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}").format(owner_role))
        session.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(service_role))


def is_made(service: str, port: int, superuser: str, host: str) -> bool:
    """True when a cluster has its roles and its database."""
    with _session(port, superuser, "postgres", host) as session:
        row = session.execute(
            "SELECT count(*) FROM pg_database WHERE datname = %s", (f"{service}_db",)
        ).fetchone()
    return row == (1,)


def make_legacy(port: int, initial: str, superuser: str) -> None:
    """Give the legacy cluster its empty database and its own superuser password.

    Args:
        initial: the superuser's password in the template.
        superuser: the password it has from now on.
    """
    with _session(port, initial, "postgres") as session:
        session.execute("CREATE DATABASE mfe_poc2")
        session.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(superuser)))


def _roles(service: str) -> tuple[sql.Identifier, sql.Identifier]:
    return sql.Identifier(f"{service}_owner"), sql.Identifier(f"{service}_service")


def free_shared_memory(data: Path) -> None:
    """Remove the segment that a server killed outright leaves behind (56 bytes of System V)."""
    try:
        line = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[6]
        segment = int(line.split()[1])
    except (OSError, IndexError, ValueError):
        return
    subprocess.run(["ipcrm", "-m", str(segment)], capture_output=True, check=False)


@contextlib.contextmanager
def _session(
    port: int, password: str, database: str, host: str = _HERE
) -> Iterator[psycopg.Connection]:
    connection = psycopg.connect(
        host=host,
        port=port,
        user="postgres",
        password=password,
        dbname=database,
        autocommit=True,
        connect_timeout=5,
    )
    try:
        yield connection
    finally:
        connection.close()


def _initialise(programs: Path, scratch: Path, environment: Mapping[str, str]) -> Path:
    """Run initdb in a fresh folder; returns it, with ``data`` and ``password`` inside."""
    account = accounts.account_for("postgres")
    if account is None and os.getuid() == 0:
        raise NotInstalled(
            "PostgreSQL refuses to run as root and there is no user `postgres`; "
            "install the package postgresql (`bin/install`), which makes it"
        )
    folder = scratch / "template"
    folder.mkdir(mode=0o700)
    password = secrets.token_urlsafe(32)
    (folder / "password").write_text(password, encoding="utf-8")
    (folder / "password").chmod(0o600)
    accounts.hand_over(account, [folder])
    answer = subprocess.run(
        [
            str(programs / "initdb"),
            *_INITDB,
            "--no-sync",
            f"--pgdata={folder / 'data'}",
            f"--pwfile={folder / 'password'}",
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        user=account,
        group=account,
        extra_groups=[] if account else None,
        env=dict(environment),
    )
    if answer.returncode != 0:
        raise StackError(f"initdb ended with {answer.returncode}:\n{answer.stdout}{answer.stderr}")
    return folder


def _copy(source: Path, target: Path, environment: Mapping[str, str]) -> None:
    """Copy a folder; cp shares blocks where the file system can, and is faster than Python."""
    command = ["cp", "-R", "--reflink=auto", str(source), str(target)]
    subprocess.run(command, check=True, env=dict(environment))
