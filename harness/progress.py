"""What a person at the terminal sees while a trial runs: a line per criterion."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from harness.run import VerdictEntry
from harness.verdict import Verdict

_COLOURS = {
    Verdict.PASS: "32",
    Verdict.FAIL: "31;1",
    Verdict.INCONCLUSIVE: "33;1",
    Verdict.NOT_APPLICABLE: "90",
    Verdict.WAIVED: "36",
}

_MEANING = {
    0: "all passed or not applicable",
    1: "at least one criterion failed",
    2: "interrupted",
    3: "internal error",
    4: "wrong usage",
    5: "nothing was selected",
    8: "none failed, but some could not tell or an area has no pass",
}


class ProgressLines:
    """Writes begin, progress and verdict of each criterion.

    On a terminal the running line is rewritten in place; elsewhere each message is a line.

    Args:
        total: how many criteria will run.
        stream: where to write.
    """

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._live = self._stream.isatty()
        self._total = total
        self._number = 0
        self._label = ""
        self._started = 0.0

    def begin(self, area: str, criterion: str) -> None:
        """A criterion starts."""
        self._number += 1
        width = len(str(self._total))
        self._label = f"[{self._number:>{width}}/{self._total}] {area}/{criterion}"
        self._started = time.monotonic()
        if self._live:
            self._write(f"\r\x1b[K{self._label} …")

    def say(self, text: str) -> None:
        """Something happens inside the running criterion."""
        elapsed = time.monotonic() - self._started if self._started else 0.0
        if self._live:
            self._write(f"\r\x1b[K{self._label} … {text[:80]} ({elapsed:.0f} s)")
        else:
            self._write(f"      {text} ({elapsed:.0f} s)\n")

    def end(self, entry: VerdictEntry) -> None:
        """A criterion has its verdict."""
        colour = _COLOURS[entry.verdict]
        word = f"\x1b[{colour}m{entry.verdict}\x1b[0m" if self._live else str(entry.verdict)
        dots = "." * max(2, 44 - len(self._label))
        clear = "\r\x1b[K" if self._live else ""
        self._write(
            f"{clear}{self._label} {dots} {word}  {entry.n} of {entry.m}  {entry.seconds:.1f} s\n"
        )
        if entry.verdict not in (Verdict.PASS, Verdict.NOT_APPLICABLE):
            self._write(f"      {entry.reason[:600]}\n")

    def summary(self, verdicts: Sequence[VerdictEntry], exit_status: int, folder: Path) -> None:
        """How the run ended, and where its report is."""
        counts = {v: sum(e.verdict is v for e in verdicts) for v in Verdict}
        line = ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number)
        report = folder / "report.html"
        shown = report if report.exists() else folder / "verdicts.json"
        self._write(f"\n{line} (exit code {exit_status}: {_MEANING[exit_status]})\n")
        self._write(f"report: {shown}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
