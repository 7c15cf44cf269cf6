"""The one-shot job `schema` of compose.yaml: roles, schemas and demonstration accounts.

`python -m system.stack.schema` may run as often as one likes: what is there stays.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import psycopg

from system.stack import postgres, services
from system.stack.parts import SERVICES

_PORT = 5432
_PATIENCE = 60.0  # seconds for a cluster that is being made


def bring_up_to_date(service: str, environ: Mapping[str, str]) -> str | None:
    """Give one service's cluster its roles and database (R0.19) and its newest schema (R2.2).

    Args:
        environ: R0.13's database URLs, which hold the roles' passwords, and
            ``<SERVICE>_SUPERUSER_PASSWORD``.

    Returns:
        the version of the schema.

    Raises:
        KeyError: a variable is missing.
        psycopg.Error: the cluster does not answer or refuses.
    """
    name = service.upper()
    superuser = environ[f"{name}_SUPERUSER_PASSWORD"]
    owner_url = environ[f"{name}_MIGRATION_DATABASE_URL"]
    owner, runtime = urlsplit(owner_url), urlsplit(environ[f"{name}_DATABASE_URL"])
    host, port = owner.hostname or "", owner.port or _PORT
    _wait_for(host, port, superuser)
    if not postgres.is_made(service, port, superuser, host):
        postgres.make_roles(
            service,
            port,
            initial=superuser,
            superuser=superuser,
            owner=owner.password or "",
            runtime=runtime.password or "",
            host=host,
        )
    version = services.migrate(service, owner_url)
    if service == "auth":
        services.seed_accounts(owner_url, environ)
    return version


def _wait_for(host: str, port: int, password: str) -> None:
    """Wait until a cluster takes connections.

    Raises:
        psycopg.OperationalError: it does not within a minute.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            psycopg.connect(
                host=host, port=port, user="postgres", password=password, connect_timeout=5
            ).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def main() -> int:
    """Do it for all services at once; 0 done, 1 failed."""
    with ThreadPoolExecutor(len(SERVICES)) as pool:
        jobs = {name: pool.submit(bring_up_to_date, name, os.environ) for name in SERVICES}
    failed = False
    for service, job in jobs.items():
        error = job.exception()
        if error is None:
            print(f"{service}_db is at {job.result()}")
        else:
            failed = True
            print(f"{service}_db: {error or type(error).__name__}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
