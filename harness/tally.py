"""Count subjects while a check goes through its evidence, and draw the outcome from the count.

A check names every subject it is meant to judge, then says of each what it saw. What it never
mentions is missing, so a loop that ran over nothing cannot pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.verdict import Figure, Finding, Outcome, Verdict


class Tally:
    """The count of one check.

    Args:
        subjects: every subject the promise covers; more may be judged, none may be forgotten.
    """

    def __init__(self, subjects: Iterable[str] = ()) -> None:
        self._subjects = list(dict.fromkeys(subjects))
        self._judged: dict[str, None] = {}
        self._missing: dict[str, str] = {}
        self._absent: dict[str, str] = {}
        self._findings: list[Finding] = []
        self._figures: list[Figure] = []
        self._doubts: list[str] = []

    def judge(
        self,
        subject: str,
        ok: bool,
        *,
        seen: object,
        expected: object,
        place: str = "",
        severity: str = "major",
    ) -> bool:
        """Judge one observation of a subject; a bad one becomes a finding. Returns ``ok``."""
        self._judged[subject] = None
        if not ok:
            self._findings.append(Finding(place or subject, str(seen), str(expected), severity))
        return ok

    def equal(self, subject: str, seen: object, expected: object, *, place: str = "") -> bool:
        """Judge that what was seen equals what was expected."""
        return self.judge(subject, seen == expected, seen=seen, expected=expected, place=place)

    def unproven(self, subject: str, reason: str) -> None:
        """The subject could not be judged: its class was not proven, or it was not reached."""
        self._missing.setdefault(subject, reason)

    def absent(self, subject: str, reason: str) -> None:
        """The target declares the subject's part absent, for this reason."""
        self._absent[subject] = reason

    def absences(self, absences: Mapping[str, str]) -> None:
        """Take over a table of subjects that the target declares absent."""
        for subject, reason in absences.items():
            self.absent(subject, reason)

    def control(self, name: str, ok: bool, seen: object) -> bool:
        """A positive control; when it fails nothing can be concluded (rules 3 and 7)."""
        if not ok:
            self._doubts.append(f"control failed: {name} (seen: {seen})")
        return ok

    def enough(self, name: str, n: int, at_least: int) -> bool:
        """Ask for a number of observations; fewer decide nothing (rules 5 and 9)."""
        self._figures.append(Figure(name, float(n), "", float(at_least), bound="lower"))
        if n < at_least:
            self._doubts.append(f"{name}: {n} seen, at least {at_least} needed")
        return n >= at_least

    def figure(
        self,
        name: str,
        value: float,
        unit: str = "",
        *,
        limit: float | None = None,
        interval: tuple[float, float] | None = None,
        n: int | None = None,
        bound: str = "upper",
    ) -> None:
        """Show a number in the report; it does not judge by itself."""
        self._figures.append(Figure(name, float(value), unit, limit, interval, n, bound))

    def doubt(self, reason: str) -> None:
        """Something that forbids a PASS without being a finding."""
        self._doubts.append(reason)

    def outcome(self, *, passed: str = "") -> Outcome:
        """Draw the outcome: findings FAIL; doubts and gaps are INCONCLUSIVE; else PASS.

        A finding whose control failed is a doubt too: with controls broken even a FAIL is not
        proven, so it becomes INCONCLUSIVE and shows the finding.

        Args:
            passed: the sentence shown with a PASS.
        """
        for subject in self._subjects:
            if subject not in self._judged and subject not in self._absent:
                self._missing.setdefault(subject, "not observed")
        for subject in self._judged:
            self._missing.pop(subject, None)
        verdict, reason = self._conclude(passed)
        first = self._findings[0] if self._findings else None
        return Outcome(
            verdict,
            reason,
            judged=tuple(self._judged),
            missing=dict(self._missing),
            absent={k: v for k, v in self._absent.items() if k not in self._judged},
            figures=tuple(self._figures),
            findings=tuple(self._findings),
            seen=f"{first.place}: {first.seen}" if first else "",
            expected=first.expected if first else "",
        )

    def _conclude(self, passed: str) -> tuple[Verdict, str]:
        if any(doubt.startswith("control failed") for doubt in self._doubts):
            return Verdict.INCONCLUSIVE, "; ".join(self._doubts)
        if self._findings:
            first = self._findings[0]
            more = f" (and {len(self._findings) - 1} more)" if len(self._findings) > 1 else ""
            return (
                Verdict.FAIL,
                f"{first.place}: seen {first.seen}, expected {first.expected}{more}",
            )
        gaps = [f"not judged: {by_reason(self._missing)}"] if self._missing else []
        if self._doubts or gaps:
            return Verdict.INCONCLUSIVE, "; ".join([*self._doubts, *gaps])
        if not self._judged:
            if self._absent:
                return Verdict.NOT_APPLICABLE, f"declared absent: {by_reason(self._absent)}"
            return Verdict.INCONCLUSIVE, "nothing was judged"
        return Verdict.PASS, passed


def by_reason(table: Mapping[str, str], shown: int = 4) -> str:
    """Subjects grouped by their reason, as one readable line; long groups are cut and counted."""
    groups: dict[str, list[str]] = {}
    for name, reason in table.items():
        groups.setdefault(reason, []).append(name)
    lines = []
    for reason, names in groups.items():
        more = f" and {len(names) - shown} more" if len(names) > shown else ""
        lines.append(f"{', '.join(names[:shown])}{more} ({reason})")
    return "; ".join(lines)
