"""Processes by pid and start time, so that a recycled pid is never taken for one of ours."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# The launcher notes its own /proc line in the pid file before it becomes the program, so that a
# process never runs unrecorded, even when the command that starts it is killed in between.
# Standard input is the pid file and standard output the stack's lock: both are let go by exec.
_LAUNCHER = 'read -r line < "/proc/$$/stat"; printf "%s\\n" "$line" >&0; exec "$@" </dev/null >&2'
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Process:
    """One process of this machine.

    Attributes:
        pid: its number, which the kernel gives to another process later.
        start_time: clock ticks since boot at its start (field 22 of /proc/PID/stat).
    """

    pid: int
    start_time: int

    def alive(self) -> bool:
        """True while this very process runs (a zombie has ended)."""
        facts = read(self.pid)
        return facts is not None and facts.process == self and facts.state != "Z"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal if this very process still runs."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


@dataclass(frozen=True)
class Facts:
    """What /proc says of a process at one moment: identity, state letter, parent's pid."""

    process: Process
    state: str
    parent: int


def parse_stat(line: str) -> Facts:
    """Read a line of /proc/PID/stat; the program's name in it may hold blanks and brackets.

    Raises:
        ValueError: the line is not complete.
    """
    head, bracket, rest = line.rpartition(")")
    fields = rest.split()
    if not bracket or len(fields) < 20:
        raise ValueError(f"not a line of /proc/PID/stat: {line!r}")
    pid = int(head.split(" ", 1)[0])
    return Facts(Process(pid, int(fields[19])), fields[0], int(fields[1]))


def read(pid: int) -> Facts | None:
    """The facts of a pid; None when there is no such process."""
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError):
        return None


def everything() -> dict[int, Facts]:
    """The facts of all processes, by pid."""
    found: dict[int, Facts] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - a Path for each of them costs milliseconds
        if name.isdigit() and (facts := read(int(name))) is not None:
            found[facts.process.pid] = facts
    return found


def tree(leader: Process) -> list[Process]:
    """The process and all its descendants, parents first; empty when it has ended.

    Descendants are found by parentage, since PostgreSQL's open sessions of their own.
    """
    facts = everything()
    root = facts.get(leader.pid)
    if root is None or root.process != leader or root.state == "Z":
        return []
    children: dict[int, list[Facts]] = {}
    for entry in facts.values():
        children.setdefault(entry.parent, []).append(entry)
    found, waiting = [leader], [leader.pid]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child.state != "Z":
                found.append(child.process)
                waiting.append(child.process.pid)
    return found


def belonging(folder: Path, marker: str, programs: Iterable[str]) -> Iterator[Process]:
    """Processes that are the stack's: by its marker, or by program name and working directory.

    The marker alone would not do, because nginx and PostgreSQL write their titles over their
    environment; the folder alone would not do, because a person's shell may stand in it.

    Args:
        folder: a working directory at or below it counts, together with ``programs``.
        marker: ``NAME=value`` that the stack puts into the environment of what it starts.
        programs: names of executables for which the working directory is enough.
    """
    names = frozenset(programs)
    root, wanted = str(folder), marker.encode()
    for pid, facts in everything().items():
        if facts.state == "Z":
            continue
        try:
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                yield facts.process
                continue
            place = Path(f"/proc/{pid}/cwd").readlink()
            program = Path(f"/proc/{pid}/exe").readlink().name.removesuffix(" (deleted)")
        except OSError:  # ended meanwhile, or another user's
            continue
        if program in names and (str(place) == root or str(place).startswith(root + "/")):
            yield facts.process


def launch(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    log: Path,
    pid_file: Path,
    lock: int,
    account: str | None,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, recorded before it runs.

    Args:
        command: absolute program and arguments.
        folder: its working directory.
        log: where its output is appended.
        pid_file: receives its /proc line before the program replaces the launcher.
        lock: descriptor of the stack's lock, held by the launcher until the program runs.
        account: user to run as (only root may name one); None for the caller's.

    Returns:
        the child; its pid is the program's.
    """
    log.touch(mode=0o600)
    with pid_file.open("w") as record, log.open("ab") as output:
        return subprocess.Popen(
            ["/bin/sh", "-c", _LAUNCHER, "launcher", *command],
            stdin=record,
            stdout=lock,
            stderr=output,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
            user=account,
            group=account,  # the packages name user and group alike
            extra_groups=[] if account else None,
            umask=0o077,
        )


def recorded(pid_file: Path) -> Process | None:
    """The process a pid file names; None when there is no file or the launcher never got to it."""
    try:
        return parse_stat(pid_file.read_text(encoding="utf-8", errors="replace")).process
    except (OSError, ValueError):
        return None


def wait_until_ended(processes: Sequence[Process], seconds: float) -> list[Process]:
    """Wait for processes to end; returns those still running after ``seconds``."""
    deadline = time.monotonic() + seconds
    left = list(processes)
    while True:
        reap()
        left = [process for process in left if process.alive()]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(_POLL_SECONDS)


def end(leader: Process, how: signal.Signals, grace: float) -> None:
    """End a process and everything it started: ask, wait ``grace`` seconds, then kill."""
    members = tree(leader)
    for member in members:  # a paused process does not hear what it is asked
        member.signal(signal.SIGCONT)
    leader.signal(how)
    if how is signal.SIGKILL:
        for member in members:
            member.signal(signal.SIGKILL)
    if wait_until_ended([leader], grace):
        members += tree(leader)
    for member in members:
        member.signal(signal.SIGKILL)
    wait_until_ended(members, 5.0)


def reap() -> None:
    """Collect our own children that have ended, so that no zombie stays while we run."""
    for child in list(_children):
        if child.poll() is not None:
            _children.discard(child)


_children: set[subprocess.Popen[bytes]] = set()


def remember(child: subprocess.Popen[bytes]) -> None:
    """Keep a child so that `reap` collects it when it ends."""
    _children.add(child)


def memory_bytes(leader: Process) -> int:
    """Memory of a process and its descendants, shared pages counted once (PSS), in bytes."""
    total = 0
    for member in tree(leader):
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in Path(f"/proc/{member.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total
