"""The services' databases: db migrate, seed, reset, shell, backup."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from system.stack.commands.words import DONE, Commands, agreed, command, group, running
from system.stack.errors import StackError
from system.stack.parts import SERVICES, database_of

if TYPE_CHECKING:
    from system.stack.credentials import Credentials

_LONG = """\
  python -m system db migrate               every schema to its newest version
  python -m system db seed                  the demonstration accounts
  python -m system db reset payments        an empty database in place of this one
  python -m system db shell admin           psql, as the database's owner
  python -m system db backup --dir D        dumps of all four
"""


def add(commands: Commands) -> None:
    """Add these commands to the command line."""
    actions = group(commands, "db", "migrate, seed, reset, open or dump the databases", _LONG)
    migrate = command(
        actions,
        "migrate",
        _migrate,
        "bring schemas to their newest version",
        "Runs the migrations below system/<service>/migrations that have not run yet, with the\n"
        "owner's role. A second run changes nothing. `up` does this by itself.",
    )
    _services(migrate)
    command(
        actions,
        "seed",
        _seed,
        "put in the demonstration accounts",
        "admin@, customer@ and vendor@example.com into auth_db; a repeat resets only their\n"
        "password. The copies of the other services follow by event.",
    )
    reset = command(
        actions,
        "reset",
        _reset,
        "throw a database's content away and make it anew",
        "Ends the service, makes its database from nothing by the migrations, seeds it (auth),\n"
        "empties the cache, and starts the service again. Users are copied between databases:\n"
        "after a reset of one alone, the others still know what it has forgotten.",
    )
    _services(reset)
    reset.add_argument("--yes", action="store_true", help="do not ask")
    shell = command(
        actions,
        "shell",
        _shell,
        "open psql",
        "As the database's owner: may change everything, the audit log excepted. Also reads\n"
        "from a pipe:\n\n"
        "  echo 'SELECT count(*) FROM payments' | python -m system db shell payments",
    )
    shell.add_argument("service", choices=SERVICES, metavar="SERVICE", help=", ".join(SERVICES))
    backup = command(
        actions,
        "backup",
        _backup,
        "dump the databases",
        "One dump of each service's database, for pg_restore, readable by the owner only:\n\n"
        "  pg_restore --clean --if-exists --no-owner -d URL D/backup-<time>/payments_db.dump",
    )
    backup.add_argument("--dir", type=Path, default=Path("backups"), metavar="D", help="(backups)")


def _services(added: argparse.ArgumentParser) -> None:
    added.add_argument(
        "services",
        nargs="*",
        type=_service,
        metavar="SERVICE",
        help=f"{', '.join(SERVICES)} (all)",
    )


def _service(text: str) -> str:
    if text not in SERVICES:
        raise argparse.ArgumentTypeError(f"seen {text!r}, expected one of {', '.join(SERVICES)}")
    return text


def _chosen(options: argparse.Namespace) -> tuple[str, ...]:
    return tuple(dict.fromkeys(options.services)) or SERVICES


def _migrate(options: argparse.Namespace) -> int:
    from system.stack import environment, services

    state, ports, credentials = running(options)
    with state.held(alone=False):
        for service in _chosen(options):
            version = services.migrate(service, environment.owner_url(service, ports, credentials))
            print(f"{service}_db is at version {version}")
    return DONE


def _seed(options: argparse.Namespace) -> int:
    from system.stack.credentials import ACCOUNTS

    state, ports, credentials = running(options)
    with state.held(alone=False):
        _seed_accounts(ports, credentials)
    print("there are: " + ", ".join(account["email"] for account in ACCOUNTS.values()))
    return DONE


def _reset(options: argparse.Namespace) -> int:
    from system.stack import acts, environment, postgres, services
    from system.stack.commands.cache import clear

    state, ports, credentials = running(options)
    chosen = _chosen(options)
    names = ", ".join(f"{service}_db" for service in chosen)
    if not options.yes and not agreed(f"This throws away everything in {names}."):
        return DONE
    with state.held(alone=True) as lock:
        members = [member for service in chosen for member in state.members_of(service)]
        acts.together(members, lambda member: acts.end(state, member, quick=False))
        try:
            for service in chosen:
                part = database_of(service)
                postgres.make_database(service, ports[part], credentials.superusers[service])
                services.migrate(service, environment.owner_url(service, ports, credentials))
                if service == "auth":
                    _seed_accounts(ports, credentials)
            clear(environment.redis_url(ports, credentials))
        finally:  # whatever happened, no service is left stopped
            for member in members:
                acts.start(state, member, lock)
    print(f"made anew: {names}")
    return DONE


def _seed_accounts(ports: Mapping[str, int], credentials: Credentials) -> None:
    from system.stack import environment, services

    services.seed_accounts(
        environment.owner_url("auth", ports, credentials),
        environment.process_environment("auth", ports, credentials),
    )


def _shell(options: argparse.Namespace) -> int:
    from system.stack.programs import postgres_folder, which

    _state, ports, credentials = running(options)
    folder = postgres_folder()
    program = folder / "psql" if folder and (folder / "psql").exists() else which("psql")
    if program is None:
        raise StackError("psql is not on this machine; install the package postgresql-client")
    sys.stdout.flush()
    # The password goes by the environment: anybody may read a command line.
    os.execve(
        program,
        [
            str(program),
            "--no-psqlrc",
            "--set=ON_ERROR_STOP=1",
            "--host=127.0.0.1",
            f"--port={ports[database_of(options.service)]}",
            f"--username={options.service}_owner",
            f"{options.service}_db",
        ],
        {**os.environ, "PGPASSWORD": credentials.owners[options.service]},
    )


def _backup(options: argparse.Namespace) -> int:
    from system.migration.adapters import dumps
    from system.migration.adapters.connections import Address
    from system.migration.adapters.progress import shown_on
    from system.migration.domain.errors import MigrationFailed
    from system.stack import environment

    state, ports, credentials = running(options)
    addresses = [
        Address(
            f"{service}_db",
            f"`python -m system status` (part {database_of(service)})",
            environment.owner_url(service, ports, credentials),
        )
        for service in SERVICES
    ]
    try:
        with state.held(alone=False):
            made = dumps.make(options.dir, addresses, shown_on())
    except MigrationFailed as error:
        raise StackError(str(error)) from error
    for name in made.databases:
        print(made.folder / f"{name}.dump")
    return DONE
