"""Backups: a folder of dumps by pg_dump and a manifest that says of which databases (R9.14)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from system.migration.adapters.connections import Address
from system.migration.adapters.data_files import now, private_folder
from system.migration.domain.errors import BackupMissing, DumpFailed
from system.migration.ports import Progress

_MANIFEST: Final = "backup.json"
_PREFIX: Final = "backup-"


@dataclass(frozen=True)
class Backup:
    """A folder of dumps.

    Attributes:
        folder: where they are.
        created_at: R0.4.
        databases: host, port and name of each database that was dumped, by name.
    """

    folder: Path
    created_at: str
    databases: dict[str, str]


def make(folder: Path, addresses: Iterable[Address], progress: Progress) -> Backup:
    """Dump all databases; the backup appears only when it is complete.

    Raises:
        DumpFailed: pg_dump is missing or failed; says what it said.
    """
    program = _program()
    private_folder(folder)
    created_at = now()
    stamp = created_at.replace("-", "").replace(":", "").replace(".", "")
    scratch = Path(tempfile.mkdtemp(prefix=".backup-", dir=folder))  # for the owner only
    try:
        entries: dict[str, Any] = {}
        for address in addresses:
            file = scratch / f"{address.name}.dump"
            with progress.task(f"back up {address.name} (bytes)") as task:
                _dump(program, address, file)
                size = file.stat().st_size
                task.advance(size)
            entries[address.name] = {
                "database": address.shown,
                "file": file.name,
                "bytes": size,
                "sha256": _digest(file),
            }
        document = {"createdAt": created_at, "databases": entries}
        manifest = scratch / _MANIFEST
        manifest.touch(mode=0o600)
        manifest.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        final = folder / f"{_PREFIX}{stamp}"
        scratch.rename(final)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Backup(final, created_at, {name: entry["database"] for name, entry in entries.items()})


def newest(folder: Path) -> Backup | None:
    """The newest backup in a folder, whatever its day; None if there is none."""
    for place in sorted(folder.glob(f"{_PREFIX}*"), reverse=True):
        document = _manifest(place)
        if document is not None:
            return Backup(
                place,
                document["createdAt"],
                {name: entry["database"] for name, entry in document["databases"].items()},
            )
    return None


def require_of_today(folder: Path, addresses: Iterable[Address]) -> Backup:
    """Make sure that there is a whole backup of today of these databases.

    Raises:
        BackupMissing: there is none; says what was seen.
    """
    instead = (
        "make one with `bin/migrate backup`, or import with --no-backup if you have another one"
    )
    backup = newest(folder)
    if backup is None:
        raise BackupMissing(f"there is no backup in {folder}; {instead}")
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    if not backup.created_at.startswith(today):
        raise BackupMissing(
            f"the newest backup, {backup.folder}, is of {backup.created_at}, "
            f"expected one of today ({today}, UTC); {instead}"
        )
    missing = [
        f"{address.name} at {address.shown}"
        for address in addresses
        if backup.databases.get(address.name) != address.shown
    ]
    if missing:
        raise BackupMissing(f"the backup {backup.folder} is not of {', '.join(missing)}; {instead}")
    for name, entry in (_manifest(backup.folder) or {})["databases"].items():
        file = backup.folder / entry["file"]
        if not file.is_file() or _digest(file) != entry["sha256"]:
            raise BackupMissing(f"the dump of {name}, {file}, is missing or damaged; {instead}")
    return backup


def _program() -> Path:
    """The newest pg_dump: it can dump servers of its own version and of older ones."""
    versions = [
        path
        for path in Path("/usr/lib/postgresql").glob("*/bin/pg_dump")
        if path.parent.parent.name.isdigit()
    ]
    if versions:
        return max(versions, key=lambda path: int(path.parent.parent.name))
    found = shutil.which("pg_dump")
    if found is None:
        raise DumpFailed(
            "pg_dump is not on this machine; install the package postgresql-client, then try again"
        )
    return Path(found)


def _dump(program: Path, address: Address, file: Path) -> None:
    parts = urlsplit(address.url)
    answer = subprocess.run(
        [
            str(program),
            "--format=custom",
            "--no-password",
            f"--host={parts.hostname}",
            f"--port={parts.port or 5432}",
            f"--username={unquote(parts.username or '')}",
            f"--file={file}",
            unquote(parts.path.lstrip("/")),
        ],
        # By the environment: anybody may read a command line.
        env={
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "PGPASSWORD": unquote(parts.password or ""),
            "PGCONNECT_TIMEOUT": "10",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        umask=0o077,
    )
    if answer.returncode != 0:
        raise DumpFailed(
            f"{address.name} at {address.shown} could not be dumped; pg_dump ended with "
            f"{answer.returncode}: {answer.stderr.strip()}\n"
            f"is it up, and does {address.variable} name its address, owner and password?"
        )


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    usable = isinstance(document, dict) and "createdAt" in document and "databases" in document
    return document if usable else None


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
