"""The tally: subjects counted, forgotten ones named, controls obeyed."""

from __future__ import annotations

from harness.tally import Tally, by_reason
from harness.verdict import Verdict, fold


def test_every_subject_judged_good_is_a_pass() -> None:
    """All subjects seen and right: PASS with the given sentence."""
    tally = Tally(["a", "b"])
    assert tally.judge("a", True, seen=1, expected=1)
    assert tally.equal("b", 2, 2)

    outcome = tally.outcome(passed="both fine")

    assert (outcome.verdict, outcome.reason) == (Verdict.PASS, "both fine")
    assert outcome.judged == ("a", "b")


def test_a_subject_never_mentioned_is_missing() -> None:
    """A loop over nothing cannot pass."""
    tally = Tally(["a", "b"])
    tally.equal("a", 1, 1)

    outcome = tally.outcome()

    assert outcome.verdict is Verdict.INCONCLUSIVE
    assert outcome.missing == {"b": "not observed"}
    assert outcome.reason == "not judged: b (not observed)"


def test_an_empty_tally_is_inconclusive() -> None:
    """No subject at all decides nothing."""
    assert Tally().outcome().verdict is Verdict.INCONCLUSIVE


def test_a_finding_fails_and_is_told_first() -> None:
    """The reason holds place, seen and expected, and counts the rest."""
    tally = Tally(["a", "b", "c"])
    tally.equal("a", 200, 401, place="GET /a")
    tally.equal("b", 500, 401)
    tally.unproven("c", "no answer")

    outcome = tally.outcome()

    assert outcome.verdict is Verdict.FAIL
    assert outcome.reason == "GET /a: seen 200, expected 401 (and 1 more)"
    assert (outcome.seen, outcome.expected) == ("GET /a: 200", "401")
    assert outcome.missing == {"c": "no answer"}


def test_a_failed_control_decides_nothing() -> None:
    """With its control broken even a finding proves nothing (rule 3)."""
    tally = Tally(["a"])
    assert not tally.control("valid token accepted", False, 500)
    tally.equal("a", 200, 401)

    outcome = tally.outcome()

    assert outcome.verdict is Verdict.INCONCLUSIVE
    assert outcome.reason == "control failed: valid token accepted (seen: 500)"
    assert len(outcome.findings) == 1


def test_a_good_control_stays_silent() -> None:
    """A control that holds takes nothing from a PASS."""
    tally = Tally(["a"])
    assert tally.control("valid token accepted", True, 200)
    tally.equal("a", 1, 1)

    assert tally.outcome().verdict is Verdict.PASS


def test_too_few_observations_decide_nothing() -> None:
    """Counts below what the gate asks are named with both numbers (rule 5)."""
    tally = Tally(["a"])
    tally.equal("a", 1, 1)
    assert tally.enough("writes", 3000, 3000)
    assert not tally.enough("reads", 7, 100)

    outcome = tally.outcome()

    assert outcome.verdict is Verdict.INCONCLUSIVE
    assert outcome.reason == "reads: 7 seen, at least 100 needed"
    assert [(f.name, f.value, f.limit) for f in outcome.figures] == [
        ("writes", 3000, 3000),
        ("reads", 7, 100),
    ]


def test_a_doubt_forbids_a_pass() -> None:
    """A doubt without a finding is inconclusive, with gaps beside it."""
    tally = Tally(["a", "b"])
    tally.equal("a", 1, 1)
    tally.doubt("generator late")

    assert tally.outcome().reason == "generator late; not judged: b (not observed)"


def test_declared_absences_are_named_and_not_missing() -> None:
    """n of m: absent subjects count for m, and alone they are not applicable."""
    tally = Tally(["rest", "graphql"])
    tally.absences({"graphql": "not built"})
    alone = Tally(["graphql"])
    alone.absent("graphql", "not built")
    tally.equal("rest", 1, 1)

    assert tally.outcome().verdict is Verdict.PASS
    assert tally.outcome().absent == {"graphql": "not built"}
    assert fold([alone.outcome()]).verdict is Verdict.NOT_APPLICABLE
    assert alone.outcome().reason == "declared absent: graphql (not built)"


def test_judged_after_all_is_not_missing() -> None:
    """A subject first unproven and then judged counts as judged."""
    tally = Tally(["a"])
    tally.unproven("a", "first try timed out")
    tally.equal("a", 1, 1)

    assert tally.outcome().missing == {}


def test_figures_are_shown_as_given() -> None:
    """A figure keeps unit, limit, interval, count and direction."""
    tally = Tally()
    tally.figure("p95", 12, "ms", limit=150, interval=(10, 14), n=2000)
    tally.figure("rate", 98, "%", limit=80, bound="lower")

    first, second = tally.outcome().figures

    assert (first.value, first.unit, first.limit, first.interval, first.n) == (
        12,
        "ms",
        150,
        (10, 14),
        2000,
    )
    assert second.bound == "lower"


def test_reasons_are_grouped_and_long_groups_cut() -> None:
    """Twenty subjects with one reason make one readable line."""
    table = {f"s{i}": "refused" for i in range(6)} | {"t": "late"}

    assert by_reason(table) == "s0, s1, s2, s3 and 2 more (refused); t (late)"
