"""Restarts a part's members one after the other, so that those who use it do not notice.

A member takes itself out of the balance: at SIGTERM it accepts no new connection, which sends
callers (the edge, a gateway, a service) to the next member with nothing sent (R0.13), and asks them
by ``Connection: close`` to leave those they have. It finishes what is under way (R0.11), ends, is
started, and is in the balance again as soon as it accepts; when it is ready, the next one's turn
comes. The edge is not reloaded for this: nginx would close connections that its clients were about
to use (docs/decisions/0018-replicas.md).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from system.stack.errors import StackError
from system.stack.parts import PROGRAMS, part_of
from system.stack.state import StateFolder

_READY_SECONDS = 60.0


class Acts(Protocol):
    """What is needed of `acts` or `container_acts`."""

    def members_of(self, state: StateFolder, name: str) -> list[str]:
        """The members that a name stands for."""

    def control(self, state: StateFolder, part: str, action: str) -> None:
        """Do one act on a member; returns when it is done."""

    def wait_until_ready(
        self, state: StateFolder, part: str, *, strict: bool, seconds: float
    ) -> None:
        """Wait until a member answers."""


def restart(
    state: StateFolder, parts: str | Sequence[str], acts: Acts
) -> Iterator[tuple[str, float]]:
    """Restart the members of these parts, one at a time.

    Yields:
        each member when it serves again, and the seconds from its leaving to its return.

    Raises:
        StackError: a part has no second member that could serve meanwhile, or is none of ours.
        PartFailed: a member did not get ready again; the rest was left as it is.
    """
    chosen = [parts] if isinstance(parts, str) else parts
    members = [member for part in chosen for member in acts.members_of(state, part)]
    for part in {part_of(member): None for member in members}:
        if part not in PROGRAMS:
            raise StackError(f"{part} cannot be restarted by members; {', '.join(PROGRAMS)} can")
        if len(acts.members_of(state, part)) < 2:
            raise StackError(
                f"{part} has one member, so nothing would serve while it restarts; start the "
                "platform with `python -m system up --replicas 2`"
            )
    for member in members:
        began = time.monotonic()
        acts.control(state, member, "restart")
        # It must have all it needs: the next one must not go before.
        acts.wait_until_ready(state, member, strict=True, seconds=_READY_SECONDS)
        yield member, time.monotonic() - began
