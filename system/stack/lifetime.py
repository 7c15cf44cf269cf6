"""What stacks of every kind have in common: how they begin and end, and whose they are."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from system.stack import process
from system.stack.credentials import Credentials
from system.stack.environment import UPSTREAM_TIMEOUT_MS, public_origin
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


class Stack(ABC):
    """One reference platform, known by its name; the kinds say what it is made of.

    A stack belongs to the process that starts it and is ended by the next plain ``down`` when
    that process has died; ``detached`` ones stay until they are ended by name. With ``replicas``
    above 1 the gateway and each service run so many times.
    """

    def __init__(
        self,
        name: str = "default",
        *,
        replicas: int = 1,
        upstream_timeout_ms: int = UPSTREAM_TIMEOUT_MS,
        detached: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self.state = StateFolder(name)
        self._replicas = replicas
        self._upstream_timeout_ms = upstream_timeout_ms
        self._detached = detached
        self._say = progress or print_line
        self._began = time.monotonic()

    @property
    def target_file(self) -> Path:
        """The target file, written when the platform is up."""
        return self.state.target_file

    def up(self) -> None:
        """Start the platform and wait until every part is ready; nothing to do when it is.

        Raises:
            NotInstalled: something is missing that it stands on; says what to do.
            StackError: it did not come up; what was started has been ended, the logs are kept.
            KeyboardInterrupt: passed on after everything was ended and removed.
        """
        self._began = time.monotonic()
        self._look_for_ground()
        ours = not self.state.exists()  # what is there now is ended only once we know it is not up
        try:
            with self.state.held(alone=True) as lock:
                if self._is_up():
                    as_many(self.state, self._replicas)
                    self._say(f"stack {self.name!r} is up already: {self.state.path}")
                    return
                ours = True
                self._end_everything()
                self._start_everything(lock)
        except StackError:
            if ours:
                with undisturbed():
                    self.logs()
                    self._end_everything()
                    self.state.mark("failed")  # the logs stay for who wants to know why
            raise
        except BaseException:
            if ours:
                with undisturbed():
                    self._end_everything()
                    self.state.remove()
            raise
        origin = public_origin(self.state.read()["ports"])
        self._say(f"up after {time.monotonic() - self._began:.1f} s: {origin}")
        self._say(f"target file: {self.target_file}")

    def down(self) -> None:
        """End exactly what was started, whatever state it is in, and remove the state folder."""
        if not self.state.exists():
            self.state.remove()
            return
        with self.state.held(alone=True), undisturbed():
            self._end_everything()
            self.state.remove()

    @abstractmethod
    def status(self) -> list[PartState]:
        """How each part is.

        Raises:
            StackNotThere: the stack was not started.
        """

    @abstractmethod
    def logs(self) -> list[Path]:
        """The parts' logs as files."""

    @abstractmethod
    def control(self, part: str, action: str) -> None:
        """Stop, start, restart, kill, pause or resume a part or a member."""

    @abstractmethod
    def scale(self, wanted: Mapping[str, int]) -> None:
        """Change how many of the gateway and of each service run, while they serve.

        Raises:
            StackNotThere: the stack was not started.
            StackError: it cannot be done without an interruption; nothing was changed. Or a new
                member did not come up; the new ones were ended.
        """

    # What the kinds do.

    @abstractmethod
    def _look_for_ground(self) -> None:
        """Make sure that what everything stands on is there, before anything is touched."""

    @abstractmethod
    def _is_up(self) -> bool:
        """True when the stack was started and runs."""

    @abstractmethod
    def _start_everything(self, lock: int) -> None:
        """Start all parts, wait for them, write the target file; the lock's descriptor is held."""

    @abstractmethod
    def _end_everything(self) -> None:
        """End all that belongs to this stack, recorded or not; the logs stay."""

    # What they do alike.

    def _opening(
        self, ports: Mapping[str, int], credentials: Credentials, **further: Any
    ) -> dict[str, Any]:
        """The stack's document as it is before anything is started."""
        return {
            "name": self.name,
            "project": str(self.state.project),
            "phase": "starting",
            "owner": None if self._detached else this_process(),
            "ports": dict(ports),
            "credentials": credentials.to_document(),
            "upstream_timeout_ms": self._upstream_timeout_ms,
            **further,
        }

    def _say_ready(self, what: str, how: str = "ready") -> None:
        self._say(f"  {what:<18} {how}  {time.monotonic() - self._began:5.1f} s")

    def _write_target(self, text: str) -> None:
        self.target_file.touch(mode=0o600)
        self.target_file.write_text(text, encoding="utf-8")


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
            f"stack {state.name!r} is up with {listed}; {replicas} of each were asked for; "
            "change it with `python -m system scale`, or end it first (`python -m system down`)"
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
