"""Redis: one server on loopback, with a password and an append-only file (R0.6)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from system.stack import accounts
from system.stack.launch import Launch, Readiness
from system.stack.programs import path_of

_CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {folder}
appendonly yes
save ""
daemonize no
maxclients 2000
"""


def prepare(
    port: int, password: str, folder: Path, transform: Callable[[str], str] | None = None
) -> Launch:
    """Write the server's configuration and say how it is started.

    Args:
        folder: the part's folder in the state folder; data of an earlier start in it is kept.
        transform: changes the text of redis.conf; for defects.
    """
    account = accounts.account_for("redis")
    folder.mkdir(mode=0o700, exist_ok=True)
    text = _CONFIGURATION.format(port=port, password=password, folder=folder)
    configuration = folder / "redis.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(transform(text) if transform else text, encoding="utf-8")
    accounts.hand_over(account, [folder])
    return Launch(
        part="redis",
        command=(str(path_of("redis-server")), str(configuration)),
        environment={"LANG": "C.UTF-8", "PATH": os.defpath},
        folder=folder.name,
        readiness=Readiness("redis", port),
        account=account,
        quick_signal="SIGKILL",
    )
