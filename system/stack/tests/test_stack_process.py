"""Processes are known by pid and start time, and ended with all they started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from system.stack import process
from system.stack.process import Process


@pytest.fixture
def sleeper() -> Iterator[Process]:
    """A process of our own that does nothing for a while."""
    child = subprocess.Popen(["sleep", "60"])
    facts = process.read(child.pid)
    assert facts is not None
    yield facts.process
    child.kill()
    child.wait()


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("(sleep)", (41, 777)), ("(a b)", (41, 777)), ("(odd) R 1 2 ()", (41, 777))],
)
def test_a_programs_name_does_not_confuse_the_reading(name: str, expected: tuple[int, int]) -> None:
    """Blanks and brackets in the name are no fields."""
    fields = " ".join(str(number) for number in range(5, 22))
    facts = process.parse_stat(f"41 {name} S 7 {fields} 777 99")

    assert (facts.process.pid, facts.process.start_time) == expected
    assert (facts.state, facts.parent) == ("S", 7)


@pytest.mark.parametrize("line", ["", "41", "41 (x) S 7", "no brackets at all"])
def test_a_cut_off_line_is_an_error(line: str) -> None:
    """A pid file that was not finished names no process."""
    with pytest.raises(ValueError, match="not a line of"):
        process.parse_stat(line)


def test_a_recycled_pid_is_left_alone(sleeper: Process) -> None:
    """A signal goes only to the process that was meant, not to one that got its number."""
    recycled = Process(sleeper.pid, sleeper.start_time - 1)

    recycled.signal(signal.SIGKILL)
    process.end(recycled, signal.SIGKILL, 0.1)

    assert not recycled.alive()
    assert sleeper.alive()


def test_ending_takes_grandchildren_in_sessions_of_their_own() -> None:
    """PostgreSQL's processes open sessions; they are found by parentage."""
    code = (
        "import subprocess, time\n"
        "child = subprocess.Popen(['sleep', '61'], start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    grandchild = process.read(int(parent.stdout.readline()))
    leader = process.read(parent.pid)
    assert grandchild is not None
    assert leader is not None

    process.remember(parent)
    process.end(leader.process, signal.SIGTERM, 5.0)

    assert not grandchild.process.alive()
    assert not leader.process.alive()
    parent.stdout.close()


def test_who_does_not_hear_is_killed_after_the_grace() -> None:
    """A process that ignores SIGTERM ends all the same."""
    stubborn = subprocess.Popen(
        ["/bin/sh", "-c", 'trap "" TERM; echo; while :; do sleep 1; done'], stdout=subprocess.PIPE
    )
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    facts = process.read(stubborn.pid)
    assert facts is not None

    process.remember(stubborn)
    process.end(facts.process, signal.SIGTERM, 0.2)

    assert not facts.process.alive()
    stubborn.stdout.close()


def test_a_launched_program_is_recorded_by_itself(tmp_path: Path) -> None:
    """The pid file holds the program's own pid and start time, its output goes to the log."""
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    child = process.launch(
        ["/bin/sh", "-c", "echo said; exec sleep 60"],
        environment={"PATH": "/usr/bin:/bin"},
        folder=tmp_path,
        log=tmp_path / "log",
        pid_file=tmp_path / "pid",
        lock=lock,
        account=None,
    )
    try:
        until(lambda: (tmp_path / "log").read_text() == "said\n")
        recorded = process.recorded(tmp_path / "pid")

        assert recorded is not None
        assert recorded.pid == child.pid
        assert recorded.alive()
        assert os.getsid(child.pid) == child.pid
        # Neither the lock nor the pid file stays open in the program.
        assert {str(Path(f"/proc/{child.pid}/fd/{number}").readlink()) for number in (0, 1, 2)} == {
            "/dev/null",
            str(tmp_path / "log"),
        }
    finally:
        child.kill()
        child.wait()
        os.close(lock)


def test_nothing_is_recorded_when_the_launcher_never_ran(tmp_path: Path) -> None:
    """An empty or missing pid file names nobody."""
    (tmp_path / "empty").touch()

    assert process.recorded(tmp_path / "empty") is None
    assert process.recorded(tmp_path / "missing") is None


def test_strays_are_found_by_marker_and_others_are_not(tmp_path: Path) -> None:
    """The stack's processes carry its marker; a shell that stands in the folder does not."""
    ours = subprocess.Popen(["sleep", "62"], env={"SEATRIAL_STATE": str(tmp_path), "PATH": "/bin"})
    other = subprocess.Popen(["sleep", "63"], cwd=tmp_path)
    try:
        until(lambda: b"sleep" in Path(f"/proc/{ours.pid}/cmdline").read_bytes())
        found = process.belonging(tmp_path, f"SEATRIAL_STATE={tmp_path}", ["postgres"])
        by_program = process.belonging(tmp_path, "SEATRIAL_STATE=nowhere", ["sleep", "coreutils"])

        assert [stray.pid for stray in found] == [ours.pid]
        assert [stray.pid for stray in by_program] == [other.pid]
    finally:
        for child in (ours, other):
            child.kill()
            child.wait()


def test_memory_counts_the_whole_tree(sleeper: Process) -> None:
    """A running process has memory, one that has ended has none."""
    assert process.memory_bytes(sleeper) > 0
    assert process.memory_bytes(Process(sleeper.pid, sleeper.start_time + 1)) == 0
