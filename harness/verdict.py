"""The words of a judgement: verdict, finding, figure, outcome, and the fold that unites outcomes.

The fold carries the rules that hold for every criterion, so that no criterion has to remember
them: nothing seen is never a pass, what was not judged is named, an interval that crosses its
limit decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from enum import StrEnum

import msgspec


class Verdict(StrEnum):
    """What a criterion, or one test of it, came to."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_APPLICABLE = "NOT_APPLICABLE"
    WAIVED = "WAIVED"


class Finding(msgspec.Struct, frozen=True):
    """One place where the target broke its promise.

    Attributes:
        place: what was looked at, e.g. ``GET /api/payments?limit=5``.
        seen: what was there.
        expected: what the promise asks for.
        severity: ``minor``, ``major`` or ``critical``.
    """

    place: str
    seen: str
    expected: str
    severity: str = "major"


class Figure(msgspec.Struct, frozen=True):
    """One number of a verdict.

    Attributes:
        name: what was counted or measured.
        value: the number, in ``unit``.
        unit: e.g. ``ms``, ``requests``, ``%``; empty for a plain count.
        limit: the gate in the same unit; None when the figure is only shown.
        interval: lower and upper end of the 95 % interval; None for a count.
        n: how many samples it stands on; None for a count.
        bound: ``upper`` when the figure must not exceed the limit, ``lower`` when it must reach it.
    """

    name: str
    value: float
    unit: str = ""
    limit: float | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    bound: str = "upper"

    def crosses_limit(self) -> bool:
        """True when the interval does not lie wholly on the good side of the limit (rule 6)."""
        if self.limit is None or self.interval is None:
            return False
        low, high = self.interval
        return high > self.limit if self.bound == "upper" else low < self.limit


class Outcome(msgspec.Struct, frozen=True):
    """What one test of a criterion came to, with everything the report shows of it.

    Attributes:
        verdict: PASS, FAIL, INCONCLUSIVE or NOT_APPLICABLE.
        reason: one sentence; for everything but a PASS it says why.
        judged: names of the subjects that were judged.
        missing: subjects that could not be judged, each with its reason.
        absent: subjects whose part the target declares absent, each with its reason.
        figures: the numbers.
        findings: the broken promises, worst first.
        seen: what was seen, as one line (of the first finding unless given).
        expected: what was expected, as one line.
        evidence: paths of evidence files, relative to the run folder.
    """

    verdict: Verdict
    reason: str = ""
    judged: tuple[str, ...] = ()
    missing: Mapping[str, str] = msgspec.field(default_factory=dict)
    absent: Mapping[str, str] = msgspec.field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    findings: tuple[Finding, ...] = ()
    seen: str = ""
    expected: str = ""
    evidence: tuple[str, ...] = ()


class Waiver(msgspec.Struct, frozen=True):
    """An accepted failure: who answers for it and until when (ISO date, inclusive)."""

    criterion: str
    owner: str
    expires: date
    reason: str = ""


def inconclusive(reason: str, evidence: Sequence[str] = ()) -> Outcome:
    """An outcome that could not tell, for this reason."""
    return Outcome(Verdict.INCONCLUSIVE, reason, evidence=tuple(evidence))


def fold(
    outcomes: Sequence[Outcome], waiver: Waiver | None = None, today: date | None = None
) -> Outcome:
    """Unite the outcomes of one criterion's tests into the criterion's verdict.

    A FAIL outweighs everything, then anything that could not tell; PASS needs at least one
    judged subject, no missing one and no figure whose interval crosses its limit. A waiver turns
    a FAIL into WAIVED until it expires; an expired one is a FAIL that says so.

    Args:
        outcomes: the tests' outcomes, in the order they ran; none is INCONCLUSIVE.
        waiver: the accepted failure of this criterion, if there is one.
        today: the date that decides whether the waiver still holds (default: now).
    """
    if not outcomes:
        return inconclusive("no test of this criterion was run")
    verdict, reason = _decide([_sobered(outcome) for outcome in outcomes])
    if verdict is Verdict.FAIL and waiver is not None:
        if waiver.expires >= (today or date.today()):
            verdict = Verdict.WAIVED
            reason = f"accepted by {waiver.owner} until {waiver.expires}: {reason}"
        else:
            reason = f"waiver of {waiver.owner} expired on {waiver.expires}: {reason}"
    judged = _in_order(name for outcome in outcomes for name in outcome.judged)
    missing = _merged(outcome.missing for outcome in outcomes)
    absent = _merged(outcome.absent for outcome in outcomes)
    deciding = [o for o in outcomes if o.seen or o.expected]
    deciding.sort(key=lambda o: _WEIGHT.index(o.verdict))
    return Outcome(
        verdict,
        reason,
        judged=judged,
        missing=missing,
        absent=absent,
        figures=tuple(figure for outcome in outcomes for figure in outcome.figures),
        findings=tuple(finding for outcome in outcomes for finding in outcome.findings),
        seen=deciding[0].seen if deciding else "",
        expected=deciding[0].expected if deciding else "",
        evidence=_in_order(path for outcome in outcomes for path in outcome.evidence),
    )


_WEIGHT = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS, Verdict.NOT_APPLICABLE, Verdict.WAIVED)


def _decide(outcomes: Sequence[Outcome]) -> tuple[Verdict, str]:
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        reasons = [o.reason for o in outcomes if o.verdict is verdict]
        if reasons:
            return verdict, "; ".join(_in_order(r for r in reasons if r))
    if all(o.verdict is Verdict.NOT_APPLICABLE for o in outcomes):
        return Verdict.NOT_APPLICABLE, "; ".join(_in_order(o.reason for o in outcomes if o.reason))
    return Verdict.PASS, "; ".join(
        _in_order(o.reason for o in outcomes if o.reason and o.verdict is Verdict.PASS)
    )


def _sobered(outcome: Outcome) -> Outcome:
    """The outcome with a PASS that was not earned taken back (rules 1, 2 and 6)."""
    if outcome.verdict is Verdict.NOT_APPLICABLE and not outcome.absent:
        return _taken_back(
            outcome, "not applicable was claimed, but the target declares no part of it absent"
        )
    if outcome.verdict is not Verdict.PASS:
        return outcome
    if outcome.missing:
        named = ", ".join(f"{name} ({why})" for name, why in sorted(outcome.missing.items()))
        return _taken_back(outcome, f"not judged: {named}")
    if not outcome.judged:
        return _taken_back(outcome, "nothing was judged")
    for figure in outcome.figures:
        if figure.crosses_limit():
            low, high = figure.interval or (0.0, 0.0)
            return _taken_back(
                outcome,
                f"the 95 % interval of {figure.name}, {low:g} to {high:g} {figure.unit}, "
                f"does not lie on the good side of {figure.limit:g} {figure.unit}",
            )
    return outcome


def _taken_back(outcome: Outcome, reason: str) -> Outcome:
    return msgspec.structs.replace(outcome, verdict=Verdict.INCONCLUSIVE, reason=reason)


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _merged(tables: Iterable[Mapping[str, str]]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for table in tables:
        merged.update(table)
    return merged
