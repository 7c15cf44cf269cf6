"""The fold: which outcomes make which verdict."""

from __future__ import annotations

from datetime import date

import pytest

from harness.verdict import Figure, Finding, Outcome, Verdict, Waiver, fold, inconclusive

PASS = Outcome(Verdict.PASS, judged=("a",))
FAIL = Outcome(Verdict.FAIL, "broken", judged=("a",), seen="x", expected="y")
UNSURE = inconclusive("no idea")
ABSENT = Outcome(Verdict.NOT_APPLICABLE, "no such part", absent={"graphql": "not built"})


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], Verdict.INCONCLUSIVE),
        ([PASS], Verdict.PASS),
        ([PASS, PASS], Verdict.PASS),
        ([PASS, ABSENT], Verdict.PASS),
        ([ABSENT], Verdict.NOT_APPLICABLE),
        ([PASS, UNSURE], Verdict.INCONCLUSIVE),
        ([ABSENT, UNSURE], Verdict.INCONCLUSIVE),
        ([PASS, FAIL], Verdict.FAIL),
        ([UNSURE, FAIL], Verdict.FAIL),
        ([Outcome(Verdict.PASS)], Verdict.INCONCLUSIVE),
        ([Outcome(Verdict.PASS, judged=("a",), missing={"b": "gone"})], Verdict.INCONCLUSIVE),
        ([Outcome(Verdict.NOT_APPLICABLE, "I say so")], Verdict.INCONCLUSIVE),
    ],
)
def test_fold_gives_the_verdict(outcomes: list[Outcome], expected: Verdict) -> None:
    """FAIL outweighs INCONCLUSIVE outweighs PASS; nothing judged is never a PASS."""
    assert fold(outcomes).verdict is expected


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        (Figure("p95", 100, "ms", 150, (90, 120)), Verdict.PASS),
        (Figure("p95", 100, "ms", 150, (90, 151)), Verdict.INCONCLUSIVE),
        (Figure("hits", 90, "%", 80, (81, 95), bound="lower"), Verdict.PASS),
        (Figure("hits", 90, "%", 80, (79, 95), bound="lower"), Verdict.INCONCLUSIVE),
        (Figure("p95", 100, "ms", None, (90, 999)), Verdict.PASS),
        (Figure("p95", 100, "ms", 150), Verdict.PASS),
    ],
)
def test_an_interval_across_its_limit_takes_a_pass_back(figure: Figure, expected: Verdict) -> None:
    """Intervals decide, not points (rule 6)."""
    outcome = Outcome(Verdict.PASS, judged=("a",), figures=(figure,))

    assert fold([outcome]).verdict is expected


def test_fold_unites_everything_shown() -> None:
    """Subjects, figures, findings and evidence of all tests stand in the verdict once."""
    first = Outcome(
        Verdict.PASS,
        judged=("a", "b"),
        absent={"g": "not built"},
        figures=(Figure("n", 1),),
        evidence=("one.json",),
    )
    second = Outcome(
        Verdict.FAIL,
        "b is broken",
        judged=("b", "c"),
        findings=(Finding("b", "x", "y"),),
        seen="x",
        expected="y",
        evidence=("one.json", "two.json"),
    )

    folded = fold([first, second])

    assert folded.judged == ("a", "b", "c")
    assert folded.absent == {"g": "not built"}
    assert folded.evidence == ("one.json", "two.json")
    assert (folded.reason, folded.seen, folded.expected) == ("b is broken", "x", "y")
    assert [f.name for f in folded.figures] == ["n"]
    assert len(folded.findings) == 1


def test_a_pass_taken_back_says_why_and_keeps_its_figures() -> None:
    """The reason names what was not judged."""
    outcome = Outcome(
        Verdict.PASS, judged=("a",), missing={"b": "refused"}, figures=(Figure("n", 1),)
    )

    folded = fold([outcome])

    assert folded.reason == "not judged: b (refused)"
    assert len(folded.figures) == 1


@pytest.mark.parametrize(
    ("today", "verdict", "words"),
    [
        (date(2026, 1, 31), Verdict.WAIVED, "accepted by ops until 2026-01-31: broken"),
        (date(2026, 2, 1), Verdict.FAIL, "waiver of ops expired on 2026-01-31: broken"),
    ],
)
def test_a_waiver_accepts_a_failure_until_it_expires(
    today: date, verdict: Verdict, words: str
) -> None:
    """A waived failure names owner and expiry; after it the failure is back."""
    waiver = Waiver("c", "ops", date(2026, 1, 31))

    folded = fold([FAIL], waiver, today)

    assert (folded.verdict, folded.reason) == (verdict, words)


def test_a_waiver_changes_nothing_but_a_failure() -> None:
    """An inconclusive criterion stays so, waiver or not."""
    waiver = Waiver("c", "ops", date(2999, 1, 1))

    assert fold([UNSURE], waiver).verdict is Verdict.INCONCLUSIVE
    assert fold([PASS], waiver).verdict is Verdict.PASS
