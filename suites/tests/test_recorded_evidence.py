"""Every check judges recorded evidence as its folder's name says: pass, fail or inconclusive.

Evidence comes from real runs (`python -m suites.tests.record`); where a recording was changed by
hand, a file `edited` beside it says how.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from harness import thresholds
from harness.evidence import Evidence
from harness.verdict import Verdict

SUITES = Path(__file__).parents[1]
RECORDED = Path(__file__).parent / "recorded"
CRITERIA = sorted(
    path for path in SUITES.glob("*/test_*.py") if path.parent.name not in ("tests", "checks")
)
CASES = sorted(path.parent for path in RECORDED.glob("*/*/observation.json"))
VERDICTS = {
    "pass": Verdict.PASS,
    "fail": Verdict.FAIL,
    "inconclusive": Verdict.INCONCLUSIVE,
}


def _module(criterion: str) -> object:
    name = f"test_{criterion.replace('-', '_')}"
    path = next(path for path in CRITERIA if path.stem == name)
    return importlib.import_module(f"suites.{path.parent.name}.{name}")


@pytest.mark.parametrize("path", CASES, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_recorded_evidence_is_judged_as_named(path: Path) -> None:
    """`pass` passes, `fail-*` fails, `inconclusive-*` cannot tell."""
    limits = thresholds.load(SUITES / "thresholds.toml", "quick").of(path.parent.name)
    check = _module(path.parent.name).check  # type: ignore[attr-defined] # each criterion has one

    outcome = check(Evidence(path / "observation.json"), limits)

    assert outcome.verdict is VERDICTS[path.name.split("-")[0]], outcome.reason


def test_criteria_have_passing_and_failing_evidence() -> None:
    """A criterion without recorded evidence of both kinds is not proven able to tell."""
    unproven = set()
    for path in CRITERIA:
        criterion = path.stem.removeprefix("test_").replace("_", "-")
        kinds = {case.name.split("-")[0] for case in CASES if case.parent.name == criterion}
        if not {"pass", "fail"} <= kinds:
            unproven.add(criterion)

    assert unproven == set()


def test_thresholds_name_known_criteria_only() -> None:
    """A table for a criterion that does not exist is a spelling mistake."""
    known = {path.stem.removeprefix("test_").replace("_", "-") for path in CRITERIA}

    assert thresholds.load(SUITES / "thresholds.toml", "quick").unknown(known) == set()
