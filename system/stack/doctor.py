"""Says what this machine lacks to run the platform and its trial, and what installs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from system.stack import programs


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        seen: a version with its place, or what is wrong.
        package: the package that mends it; empty when it is well.
    """

    name: str
    seen: str
    package: str = ""


def examine() -> Iterator[Finding]:
    """Look at every program the platform and its trial need."""
    version = ".".join(str(number) for number in sys.version_info[:3])
    yield Finding("python", f"{version} ({sys.executable})")
    for program in programs.PROGRAMS:
        path = program.find()
        if path is None or not path.exists():
            yield Finding(program.name, "missing", program.package)
            continue
        found = programs.version_of(program, path)
        if found and programs.numbers(found) < program.minimum:
            least = ".".join(str(number) for number in program.minimum)
            yield Finding(
                program.name, f"{found} is too old, expected {least} or newer", program.package
            )
        else:
            yield Finding(program.name, f"{found or 'version unknown'} ({path})")
    if os.getuid() == 0 and not _user_exists("postgres"):
        yield Finding("user postgres", "missing; PostgreSQL refuses root", "postgresql")


def main() -> int:
    """Print what was found; returns 0 when nothing is missing, 1 otherwise."""
    findings = list(examine())
    for finding in findings:
        print(f"{'missing' if finding.package else 'ok':<8} {finding.name:<16} {finding.seen}")
    missing = sorted({finding.package for finding in findings if finding.package})
    if not missing:
        print("Nothing is missing.")
        return 0
    install = Path(__file__).resolve().parents[2] / programs.INSTALL
    print(f"Install what is missing with:\n    {install}")
    print(f"or, by hand:\n    sudo apt-get install --no-install-recommends {' '.join(missing)}")
    return 1


def _user_exists(name: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
