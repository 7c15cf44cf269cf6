"""Gives the platform's tests one running stack of their own for the whole session."""

from __future__ import annotations

import os
import ssl
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from system.stack.native import Override, PartState, Stack


class RunningStack:
    """The platform while the session's tests run.

    Attributes:
        target: the parsed target file (addresses, accounts, access, control commands).
        origin: the public https origin at the edge.
        services: base URL by name: gateway, auth, payments, admin, profile.
        exempt: a source address that no rate limit counts.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.target: dict[str, Any] = tomllib.loads(stack.target_file.read_text(encoding="utf-8"))
        self.origin: str = self.target["http"]["origin"]
        self.services: dict[str, str] = {
            name: service["url"] for name, service in self.target["services"].items()
        }
        self.exempt: str = self.target["addresses"]["exempt"][0]

    def control(self, part: str, action: str) -> None:
        """Stop, start, restart, kill, pause or resume a part; returns when it is done."""
        self._stack.control(part, action)

    def restart(self, part: str, override: Override | None = None) -> None:
        """Restart a part with an override, or as designed."""
        self._stack.restart(part, override)

    def restart_with(self, part: str, environment: dict[str, str]) -> None:
        """Restart a part with variables set or replaced."""
        self._stack.restart(part, Override(environment=environment))

    def restart_wrapped(self, part: str, *prefix: str) -> None:
        """Restart a part with a prefix before its command; ``python`` is the stack's own."""
        self._stack.restart(part, Override(command_prefix=prefix))

    def account(self, role: str) -> dict[str, str]:
        """E-mail and password of the seeded ``admin``, ``customer`` or ``vendor``."""
        found: dict[str, str] = self.target["accounts"][role]
        return found

    def database(self, service: str) -> str:
        """The superuser's URL of a service's database."""
        return str(self.target["access"]["db"][service]["url"])

    @property
    def trust(self) -> ssl.SSLContext:
        """A TLS context that trusts the stack's development CA."""
        return ssl.create_default_context(cafile=self.target["http"]["ca"])

    @property
    def folder(self) -> Path:
        """The stack's state folder."""
        return self._stack.state.path

    def states(self) -> list[PartState]:
        """How each part is."""
        return self._stack.status()

    def until_ready(self, seconds: float = 30.0) -> None:
        """Wait until every part is ready and finds all it needs; fails after ``seconds``."""
        deadline = time.monotonic() + seconds
        while waiting := [state for state in self.states() if state.state != "ready"]:
            assert time.monotonic() < deadline, f"not ready after {seconds:.0f} s: {waiting}"
            time.sleep(0.1)

    def log(self, part: str) -> str:
        """Everything a part has written so far."""
        return self._stack.state.log_of(part).read_text(encoding="utf-8", errors="replace")


@pytest.fixture(scope="session")
def stack() -> Iterator[RunningStack]:
    """The running platform, started at its first use and ended whatever happens."""
    platform = Stack(f"tests-{os.getpid()}")
    try:
        platform.up()
        yield RunningStack(platform)
    finally:
        platform.down()
