"""The commands say what they did and what to do next, with the right exit code."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from system.stack import doctor, programs
from system.stack.command_line import main
from system.stack.programs import Program

_NOWHERE = "a-stack-that-was-never-started"


@pytest.mark.parametrize("command", [["status"], ["logs"], ["control", "auth", "stop"]])
def test_commands_need_a_stack(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without one they fail and say how to start it."""
    assert main(["--stack", _NOWHERE, *command]) == 1
    assert f"python -m system --stack {_NOWHERE} up" in capsys.readouterr().err


def test_down_without_a_stack_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """What is to be gone is gone."""
    assert main(["--stack", _NOWHERE, "down"]) == 0
    assert "was not there" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", [[], ["fly"], ["control", "mainframe", "stop"], ["control", "auth", "explode"]]
)
def test_wrong_usage_is_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """As everywhere (R0.17)."""
    with pytest.raises(SystemExit) as ended:
        main(wrong)

    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_control_costs_next_to_nothing() -> None:
    """It is called in the middle of measurements, so nothing heavy may be imported for it."""
    code = (
        "import sys, system.stack.command_line, system.stack.acts\n"
        "print([name for name in sys.modules if name.split('.')[0] in"
        " ('asyncio', 'ssl', 'psycopg', 'cryptography', 'concurrent', 'msgspec')])"
    )
    began = time.monotonic()
    answer = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True
    )

    assert answer.stdout.strip() == "[]"
    assert time.monotonic() - began < 5.0  # far more than it takes, on the busiest machine


def test_the_doctor_names_what_is_missing_and_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exact line is printed, and the exit code says that something is missing."""
    absent = Program("abacus", lambda: None, "abacus-tools", "--version", (1,))
    monkeypatch.setattr(programs, "PROGRAMS", (absent,))

    assert doctor.main() == 1

    said = capsys.readouterr().out
    assert "missing  abacus" in said
    assert "/bin/install" in said
    assert "apt-get install --no-install-recommends abacus-tools" in said


def test_the_doctor_minds_versions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A version that is too old is as good as missing, and a good one is shown with its place."""
    script = tmp_path / "tool"
    script.write_text("#!/bin/sh\necho tool version 1.2.3\n")
    script.chmod(0o755)
    old = Program("old", lambda: script, "old-tools", "--version", (2,))
    good = Program("good", lambda: script, "good-tools", "--version", (1, 2))
    monkeypatch.setattr(programs, "PROGRAMS", (old, good))

    assert doctor.main() == 1

    said = capsys.readouterr().out
    assert "1.2.3 is too old, expected 2 or newer" in said
    assert f"1.2.3 ({script})" in said


@pytest.mark.parametrize(
    ("text", "expected"), [("15.18", (15, 18)), ("3.10.8", (3, 10, 8)), ("", ())]
)
def test_versions_compare_as_numbers(text: str, expected: tuple[int, ...]) -> None:
    """3.10 is newer than 3.9."""
    assert programs.numbers(text) == expected
