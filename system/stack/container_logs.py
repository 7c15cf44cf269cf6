"""Follows what containers write, over their restarts, until somebody ends it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from system.stack import container_acts
from system.stack import docker_engine as engine
from system.stack.parts import PARTS, with_members
from system.stack.state import StateFolder

_POLL_SECONDS = 0.5


def follow(
    state: StateFolder, members: Sequence[str], lines: int, output: TextIO = sys.stdout
) -> None:
    """Print the end of each member's log and all that follows, under the member's name.

    Args:
        members: which; all when empty.
        lines: of the past, of each.

    Raises:
        KeyboardInterrupt: the way to end it.
    """
    chosen = members or with_members(PARTS, state.read()["ports"])
    printer = Printer(output)
    for member in chosen:
        (container,) = container_acts.containers_of(state, member)
        past = engine.logs(container).decode("utf-8", "replace").splitlines()[-lines:]
        printer.say(member, "".join(f"{line}\n" for line in past))
        threading.Thread(target=follow_one, args=(member, container, printer), daemon=True).start()
    threading.Event().wait()


class Printer:
    """Says whose lines follow whenever that changes, as `tail` does."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._lock = threading.Lock()
        self._last = ""

    def say(self, member: str, text: str) -> None:
        """Print whole what a member wrote."""
        with self._lock:
            if member != self._last:
                self._output.write(f"==> {member} <==\n")
                self._last = member
            self._output.write(text)
            self._output.flush()


def follow_one(
    member: str,
    container: str,
    printer: Printer,
    follow: Callable[[str, float], Iterator[bytes]] = engine.follow,
    *,
    pause: float = _POLL_SECONDS,
) -> None:
    """Print what a container writes from now on, in this life of it and in all others."""
    since = time.time()
    while True:
        for piece in follow(container, since):
            since = time.time()
            printer.say(member, piece.decode("utf-8", "replace"))
        time.sleep(pause)  # it has ended, and may be started again
