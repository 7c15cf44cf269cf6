"""Which operating-system user runs a part, and what is handed over to it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from pathlib import Path

# The users that the distribution's packages make for their servers. PostgreSQL needs its own,
# because it refuses root; the others are used so that as little as possible runs as root.
_PACKAGE_USERS = {
    "postgres": "postgres",
    "rabbitmq": "rabbitmq",
    "redis": "redis",
    "edge": "www-data",
}


def account_for(part: str) -> str | None:
    """The user to run a part as; None for the caller's own (always, unless root calls)."""
    if os.getuid() != 0:
        return None
    user = _PACKAGE_USERS.get(part.partition("-")[0])
    if user is None:
        return None
    try:
        pwd.getpwnam(user)
    except KeyError:
        return None
    return user


def hand_over(account: str | None, paths: Iterable[Path]) -> None:
    """Give files and whole folders to the user that runs the part."""
    if account is None:
        return
    entry = pwd.getpwnam(account)
    for path in paths:
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
        if path.is_dir() and not path.is_symlink():
            for folder, folders, files in os.walk(path):
                for name in (*folders, *files):
                    os.chown(Path(folder, name), entry.pw_uid, entry.pw_gid, follow_symlinks=False)
