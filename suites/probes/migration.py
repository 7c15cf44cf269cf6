"""The target's migration command, and a legacy database to try it on."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from harness.probe import CouldNotObserve
from harness.target import Target

# Legacy table → the service that takes it over, and the table there.
TABLES = {
    "users": ("auth", "users"),
    "refresh_tokens": ("auth", "refresh_tokens"),
    "payments": ("payments", "payments"),
    "payment_transactions": ("payments", "payment_transactions"),
    "audit_logs": ("admin", "audit_logs"),
    "system_config": ("admin", "system_config"),
    "user_profiles": ("profile", "user_profiles"),
}


class Tool:
    """``bin/migrate`` with the environment it reads, and a folder for its files.

    Args:
        target: names the commands ``migrate`` and ``legacy``.
        folder: where export and backup go.

    Raises:
        CouldNotObserve: the target names no such commands.
    """

    def __init__(self, target: Target, folder: Path) -> None:
        self.folder = folder
        self._commands = {}
        for name in ("migrate", "legacy"):
            command = target.commands.get(name)
            if not command:
                raise CouldNotObserve(f"the target file names no [commands] {name}")
            self._commands[name] = shlex.split(command)
        self._legacy_url = ""

    @property
    def legacy_url(self) -> str:
        """Where the legacy database is, once it is up."""
        return self._legacy_url

    def legacy(self, *arguments: str) -> str:
        """Act on the legacy database; the last line of what was printed.

        Raises:
            CouldNotObserve: it failed.
        """
        done = self._run(self._commands["legacy"], arguments, {})
        if done["code"] != 0:
            raise CouldNotObserve(f"legacy {' '.join(arguments)}: {done['tail']}")
        lines = str(done["output"]).strip().splitlines()
        return lines[-1] if lines else ""

    def generate(self, rows: int) -> None:
        """Bring the legacy database up and fill it."""
        self._legacy_url = self.legacy("up")
        self._legacy_url = self.legacy("generate", "--rows", str(rows)) or self._legacy_url

    def migrate(self, *arguments: str) -> dict[str, Any]:
        """Run one command; exit code, seconds, the end of what it said."""
        done = self._run(self._commands["migrate"], arguments, {"DATABASE_URL": self._legacy_url})
        return {key: done[key] for key in ("command", "code", "seconds", "tail")}

    def _run(
        self, command: list[str], arguments: tuple[str, ...], environment: Mapping[str, str]
    ) -> dict[str, Any]:
        started = time.monotonic()
        done = subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            timeout=240,
            cwd=self.folder,
            env={**os.environ, **environment},
        )
        return {
            "command": " ".join(arguments),
            "code": done.returncode,
            "seconds": round(time.monotonic() - started, 1),
            "output": done.stdout,
            "tail": (done.stderr or done.stdout).strip()[-400:],
        }


def counts(urls: Mapping[str, str]) -> dict[str, int]:
    """Rows of every table that a migration fills, as ``service.table``."""
    found: dict[str, int] = {}
    for service, url in urls.items():
        with psycopg.connect(url, connect_timeout=5) as connection:
            for owner, table in {*TABLES.values(), ("payments", "users"), ("admin", "users")}:
                if owner == service:
                    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
                    row = connection.execute(query).fetchone()
                    found[f"{service}.{table}"] = int(row[0]) if row else -1
    return dict(sorted(found.items()))


def legacy_counts(url: str) -> dict[str, int]:
    """Rows of each legacy table."""
    with psycopg.connect(url, connect_timeout=5) as connection:
        found = {}
        for table in TABLES:
            query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
            row = connection.execute(query).fetchone()
            found[table] = int(row[0]) if row else -1
    return found


# What both sides must have in common, asked in words of our own and not by the tool's checksums.
_SUMS = {
    "payments: ids and amounts": (
        "payments",
        "SELECT md5(string_agg(id || amount::numeric(12,2)::text || status::text, ',' "
        'ORDER BY id COLLATE "C")) FROM payments WHERE id = ANY(%s)',
    ),
    "users: ids and addresses": (
        "users",
        "SELECT md5(string_agg(id || lower(email), ',' ORDER BY id COLLATE \"C\")) "
        "FROM users WHERE id = ANY(%s)",
    ),
    "audit log: ids and actions": (
        "audit_logs",
        "SELECT md5(string_agg(id || action, ',' ORDER BY id COLLATE \"C\")) "
        "FROM audit_logs WHERE id = ANY(%s)",
    ),
}


def sums(legacy_url: str, urls: Mapping[str, str]) -> dict[str, list[str]]:
    """Name → the digest of the legacy rows, and that of the same rows where they went."""
    found = {}
    with psycopg.connect(legacy_url, connect_timeout=5) as legacy:
        for name, (table, query) in _SUMS.items():
            ids = [
                row[0]
                for row in legacy.execute(
                    sql.SQL("SELECT id FROM {}").format(sql.Identifier(table))
                )
            ]
            with psycopg.connect(urls[TABLES[table][0]], connect_timeout=5) as there:
                pair = []
                for connection in (legacy, there):
                    row = connection.execute(query.encode(), (ids,)).fetchone()
                    pair.append(str(row[0]) if row else "")
            found[name] = pair
    return found


def restored(legacy_url: str, program: str, dump: Path) -> dict[str, Any]:
    """Restore a dump beside its original; code 0 when the counts of all tables are the same."""
    copy = "restored_by_trial"
    with psycopg.connect(legacy_url, autocommit=True, connect_timeout=5) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {copy}".encode())
        connection.execute(f"CREATE DATABASE {copy}".encode())
        parts = urlsplit(legacy_url)
        url = urlunsplit((parts.scheme, parts.netloc, f"/{copy}", "", ""))
        try:
            done = subprocess.run(
                [program, "--no-owner", "--exit-on-error", "--dbname", url, str(dump)],
                capture_output=True,
                text=True,
                timeout=120,
            )
            if done.returncode != 0:
                return {"code": done.returncode, "tail": done.stderr.strip()[-400:]}
            original, again = legacy_counts(legacy_url), legacy_counts(url)
            return {"code": int(original != again), "tail": f"{again}, expected {original}"}
        finally:
            connection.execute(f"DROP DATABASE IF EXISTS {copy} WITH (FORCE)".encode())
