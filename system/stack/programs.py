"""Where the servers' programs are on this machine, and what installs those that are missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from system.stack.errors import NotInstalled

INSTALL = "bin/install"
_PLACES = ("/usr/sbin", "/usr/local/sbin", "/sbin")  # not on an ordinary user's PATH


@dataclass(frozen=True)
class Program:
    """A program the platform or its trial needs.

    Attributes:
        name: how it is called.
        find: returns its path, or None.
        package: the Debian package that brings it.
        version_option: makes it say its version.
        minimum: oldest version that will do (contract 0.2).
    """

    name: str
    find: Callable[[], Path | None]
    package: str
    version_option: str
    minimum: tuple[int, ...]


def which(name: str) -> Path | None:
    """A program on the PATH or where administrators' programs lie."""
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(_PLACES))
    return Path(found) if found else None


def postgres_folder() -> Path | None:
    """The newest installed PostgreSQL's folder of programs."""
    versions = [
        path
        for path in Path("/usr/lib/postgresql").glob("*/bin")
        if path.parent.name.isdigit()
        and (path / "initdb").exists()
        and (path / "postgres").exists()
    ]
    if versions:
        return max(versions, key=lambda path: int(path.parent.name))
    initdb = which("initdb")
    return initdb.resolve().parent if initdb else None


def _postgres() -> Path | None:
    folder = postgres_folder()
    return folder / "postgres" if folder else None


def _chromium() -> Path | None:
    override = os.environ.get("CHROMIUM")  # Ubuntu's package is a stub that needs snap
    return Path(override) if override else which("chromium") or which("chromium-browser")


def _rabbitmq() -> Path | None:
    for script in ("/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/rabbitmq/sbin/rabbitmq-server"):
        if Path(script).exists():
            return Path(script)
    return None


PROGRAMS = (
    Program("postgres", _postgres, "postgresql", "--version", (15,)),
    Program("rabbitmq-server", _rabbitmq, "rabbitmq-server", "", (3, 10)),
    Program("redis-server", lambda: which("redis-server"), "redis-server", "--version", (7,)),
    Program("nginx", lambda: which("nginx"), "nginx-light", "-v", (1, 18)),
    Program("chromium", _chromium, "chromium", "--version", (100,)),
)
SERVERS = tuple(program.name for program in PROGRAMS if program.name != "chromium")


def path_of(name: str) -> Path:
    """Where a program is.

    Raises:
        NotInstalled: it is not on this machine; says what installs it.
    """
    program = next(program for program in PROGRAMS if program.name == name)
    path = program.find()
    if path is None:
        raise NotInstalled(
            f"{name} is not installed; expected the package {program.package}. "
            f"`{INSTALL}` installs it (`python -m system doctor` shows all that is missing)"
        )
    return path


def version_of(program: Program, path: Path) -> str:
    """The version a program reports, such as ``15.18``; empty when it does not say."""
    if program.name == "rabbitmq-server":  # starting Erlang to ask takes seconds
        found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
        return found[-1].name.rpartition("-")[2] if found else ""
    try:
        answer = subprocess.run(
            [str(path), program.version_option], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = re.search(r"\d+(?:\.\d+)+", answer.stdout + answer.stderr)
    return match.group() if match else ""


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers that can be compared: ``15.18`` → (15, 18)."""
    return tuple(int(piece) for piece in re.findall(r"\d+", version))
