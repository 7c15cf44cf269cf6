"""Our own Python processes: their migrations, and how they are started."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from system.stack import environment
from system.stack.credentials import Credentials
from system.stack.launch import Launch, Readiness
from system.stack.parts import part_of, port_name
from system.stack.state import PROJECT

# Alembic keeps the migration in progress in module globals.
_migrating = threading.Lock()


def migrate(service: str, owner_url: str) -> str | None:
    """Bring a service's schema to its newest version (R2.2); admin's seed is part of it (R2.25).

    Returns:
        the version it is at now.
    """
    from system.platform.migrations import upgrade  # half a second, which `control` must not pay

    with _migrating:
        return upgrade(owner_url, PROJECT / "system" / service / "migrations", f"{service}_service")


def seed_accounts(owner_url: str, variables: Mapping[str, str]) -> None:
    """Put the demonstration accounts into auth_db (R2.23).

    Args:
        owner_url: auth_db with its owner role.
        variables: of auth-service (R0.13), which say whether such accounts are allowed (R2.24).
    """
    import asyncpg

    from system.auth.adapters.seed import seed
    from system.platform.config.loading import load

    async def write() -> None:
        connection = await asyncpg.connect(owner_url)
        try:
            await seed(connection, load("auth", variables))
        finally:
            await connection.close()

    asyncio.run(write())


def prepare(
    member: str,
    folder: Path,
    ports: Mapping[str, int],
    credentials: Credentials,
    *,
    project: Path,
    upstream_timeout_ms: int,
) -> Launch:
    """Say how a member of a service or of the gateway is started."""
    folder.mkdir(mode=0o700, exist_ok=True)
    return Launch(
        part=member,
        command=(sys.executable, "-m", f"system.{part_of(member)}"),
        environment={
            **environment.interpreter_environment(project),
            **environment.process_environment(
                member, ports, credentials, upstream_timeout_ms=upstream_timeout_ms
            ),
        },
        folder=folder.name,
        readiness=Readiness("http", ports[port_name(member)]),
    )
