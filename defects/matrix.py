"""The kill matrix: for each defect, what each criterion that must notice it came to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from defects.defect import Defect
from harness.run import VerdictEntry
from harness.verdict import Verdict


class Fate(StrEnum):
    """What became of a defect."""

    KILLED = "killed by the named criterion for the stated reason"
    KILLED_BY_ANOTHER = "killed by another"
    SURVIVED = "survived"
    NOT_APPLIED = "could not be applied"


class Cell(msgspec.Struct, frozen=True):
    """One criterion under one defect."""

    criterion: str
    verdict: Verdict
    reason: str
    noticed: bool


class Row(msgspec.Struct, frozen=True):
    """One defect: its fate and what each criterion came to."""

    defect: str
    breaks: str
    fate: Fate
    cells: tuple[Cell, ...]


class Matrix(msgspec.Struct, frozen=True):
    """A whole run of the catalogue.

    Attributes:
        before, after: criterion → verdict on the sound platform; anything but PASS is a false
            alarm, or a defect that was not undone.
        rows: the defects.
    """

    before: dict[str, Verdict]
    after: dict[str, Verdict]
    rows: tuple[Row, ...]

    def sound(self) -> bool:
        """True when every defect was killed as stated and the sound platform passed throughout."""
        verdicts = [*self.before.values(), *self.after.values()]
        return (
            bool(self.rows)
            and bool(self.before)
            and bool(self.after)
            and all(verdict is Verdict.PASS for verdict in verdicts)
            and all(row.fate is Fate.KILLED for row in self.rows)
        )


def together(parts: Iterable[Matrix]) -> Matrix:
    """The matrices of several platforms as one; a criterion's worse verdict counts."""
    before: dict[str, Verdict] = {}
    after: dict[str, Verdict] = {}
    rows: list[Row] = []
    for part in parts:
        for whole, new in ((before, part.before), (after, part.after)):
            whole.update(
                {
                    name: verdict
                    for name, verdict in new.items()
                    if whole.get(name, Verdict.PASS) is Verdict.PASS
                }
            )
        rows += part.rows
    return Matrix(before, after, tuple(rows))


def judge(defect: Defect, entries: Iterable[VerdictEntry]) -> Row:
    """What became of a defect, from the verdicts of a run with it applied.

    Each named criterion must FAIL with a reason that matches; a FAIL of others alone, or for
    another reason, is KILLED_BY_ANOTHER.
    """
    cells = []
    for entry in entries:
        pattern = defect.noticed_by.get(entry.criterion)
        noticed = (
            pattern is not None
            and entry.verdict is Verdict.FAIL
            and re.search(pattern, entry.reason) is not None
        )
        cells.append(Cell(entry.criterion, entry.verdict, entry.reason, noticed))
    as_stated = {cell.criterion for cell in cells if cell.noticed} == set(defect.noticed_by)
    if as_stated:
        fate = Fate.KILLED
    elif any(cell.verdict is Verdict.FAIL for cell in cells):
        fate = Fate.KILLED_BY_ANOTHER
    else:
        fate = Fate.SURVIVED
    return Row(defect.id, defect.breaks, fate, tuple(cells))


def as_text(matrix: Matrix) -> str:
    """The matrix for a terminal or a Markdown file."""
    lines = [_control("before", matrix.before)]
    for row in matrix.rows:
        lines.append(f"{row.defect}: {row.fate} ({row.breaks})")
        for cell in row.cells:
            mark = "✓" if cell.noticed else "·"
            lines.append(f"  {mark} {cell.criterion}: {cell.verdict}: {cell.reason[:200]}")
    lines.append(_control("after", matrix.after))
    return "\n".join(lines) + "\n"


def _control(when: str, verdicts: Mapping[str, Verdict]) -> str:
    wrong = [f"{name} {verdict}" for name, verdict in verdicts.items() if verdict != Verdict.PASS]
    if not verdicts:
        return f"sound platform {when}: not judged"
    return f"sound platform {when}: " + (
        ", ".join(wrong) if wrong else f"all {len(verdicts)} criteria PASS"
    )
