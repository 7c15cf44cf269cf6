"""What stacks of every kind have in common: whose they are, what they say, how they end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from system.stack import process
from system.stack.errors import StackError
from system.stack.parts import PROGRAMS, replicas_of
from system.stack.process import Process
from system.stack.state import StateFolder


@dataclass(frozen=True)
class PartState:
    """How a part is at one moment.

    Attributes:
        part: its name; a member's where the part runs several times.
        state: ready, stopped, paused, or why it is not ready.
        pid: its process, 0 when it is stopped.
        memory: bytes, shared pages counted once.
    """

    part: str
    state: str
    pid: int
    memory: int


def this_process() -> dict[str, int] | None:
    """The owner of what this process starts, as a stack's document holds it."""
    facts = process.read(os.getpid())
    if facts is None:
        return None
    return {"pid": facts.process.pid, "start_time": facts.process.start_time}


def as_many(state: StateFolder, replicas: int) -> None:
    """Make sure that a stack runs so many of each program.

    Raises:
        StackError: it runs with others than were asked for.
    """
    ports = state.read()["ports"]
    there = {part: replicas_of(part, ports) for part in PROGRAMS}
    if set(there.values()) != {replicas}:
        listed = ", ".join(f"{number} {part}" for part, number in there.items())
        raise StackError(
            f"stack {state.name!r} is up with {listed}; {replicas} of each were asked for; end it "
            "first (`python -m system down`), or ask for as many"
        )


def abandoned_stacks() -> Iterator[str]:
    """Names of this project's stacks whose owner has died without ending them."""
    for state in StateFolder.all_of_project():
        try:
            owner = state.read().get("owner")
        except StackError:
            yield state.name  # killed before it wrote anything
            continue
        if owner is not None and not Process(owner["pid"], owner["start_time"]).alive():
            yield state.name


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep a second Ctrl-C from leaving a half-ended stack behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


_printing = threading.Lock()


def print_line(text: str) -> None:
    """Say how far the start is, on standard error; whole lines, whichever thread says them."""
    with _printing:
        print(text, file=sys.stderr, flush=True)
