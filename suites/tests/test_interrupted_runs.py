"""A trial that is interrupted or killed leaves nothing that the next run would stumble over."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CRITERIA = "payment-lifecycle,session-revocation"
# A line of the run's output → what is going on when it appears.
MOMENTS = {
    "starting": re.compile(r"rabbitmq +ready"),
    "observing": re.compile(r"from processing"),
    "between": re.compile(r"\[1/2\].*PASS"),
}
pytestmark = pytest.mark.platform


@contextmanager
def _trial(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A trial of two criteria on a platform of its own."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "suites/",
        "--stack",
        "native",
        "--criterion",
        CRITERIA,
    ]
    with subprocess.Popen(
        [*command, "--run-folder", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # as in a terminal, the whole group hears Ctrl-C
    ) as trial:
        try:
            yield trial
        finally:
            trial.kill()


def _read_until(trial: subprocess.Popen[str], moment: re.Pattern[str]) -> str:
    assert trial.stdout is not None
    seen = ""
    for line in trial.stdout:
        seen += line
        if moment.search(line):
            return seen
    pytest.fail(f"the run ended before {moment.pattern!r} was seen:\n{seen}")


def _place_of_platform(trial: subprocess.Popen[str]) -> Path:
    """The state folder of the platform that this run has started."""
    pointer = ROOT / ".seatrial" / "stacks" / f"trial-{trial.pid}"
    return Path(pointer.read_text(encoding="utf-8").strip())


def _down() -> None:
    subprocess.run([sys.executable, "-m", "system", "down"], cwd=ROOT, check=True)


def _left_behind(place: Path) -> list[str]:
    """The platform's processes and state that are still there.

    nginx and PostgreSQL write their titles over their environment, so where a process stands
    counts as well as what it was given.
    """
    found = [str(place)] if place.exists() else []
    mark = f"SEATRIAL_STATE={place}".encode()
    for pid in (entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        try:
            given = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            stands = str(Path(f"/proc/{pid}/cwd").readlink())
        except OSError:  # ended meanwhile, or not ours to read
            continue
        if mark in given or stands.startswith(str(place)):
            found.append(f"process {pid}")
    return found


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_ends_the_platform_and_reports(moment: str, tmp_path: Path) -> None:
    """Exit 2, nothing left behind, and what did not run is inconclusive in the report."""
    with _trial(tmp_path / "run") as trial:
        _read_until(trial, MOMENTS[moment])
        place = _place_of_platform(trial)
        os.killpg(trial.pid, signal.SIGINT)
        rest = trial.communicate(timeout=120)[0]

    assert trial.returncode == 2, rest
    assert _left_behind(place) == []
    document = json.loads((tmp_path / "run" / "verdicts.json").read_text())
    verdicts = {entry["criterion"]: entry for entry in document["verdicts"]}
    assert document["exit"] == 2
    assert verdicts["session-revocation"]["verdict"] == "INCONCLUSIVE"
    assert verdicts["session-revocation"]["reason"]
    expected = "PASS" if moment == "between" else "INCONCLUSIVE"
    assert verdicts["payment-lifecycle"]["verdict"] == expected
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize("moment", MOMENTS)
def test_down_clears_what_a_killed_run_left(moment: str, tmp_path: Path) -> None:
    """After SIGKILL `python -m system down` ends the platform; nothing is left behind."""
    with _trial(tmp_path / "run") as trial:
        _read_until(trial, MOMENTS[moment])
        place = _place_of_platform(trial)
        trial.kill()
        trial.wait(timeout=30)
    assert _left_behind(place), "the platform should still be there: nobody ended it"

    _down()

    assert _left_behind(place) == []


def test_the_next_run_works_after_a_killed_one(tmp_path: Path) -> None:
    """A run right after a killed one, before anybody cleaned up, judges as ever."""
    with _trial(tmp_path / "killed") as trial:
        _read_until(trial, MOMENTS["observing"])
        place = _place_of_platform(trial)
        trial.kill()
        trial.wait(timeout=30)

    command = [
        sys.executable,
        "-m",
        "pytest",
        "suites/",
        "--stack",
        "native",
        "--criterion",
        "payment-lifecycle",
    ]
    done = subprocess.run(
        [*command, "--run-folder", str(tmp_path / "next")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    _down()

    assert done.returncode == 0, done.stdout + done.stderr
    assert _left_behind(place) == []
