"""Recording keeps the evidence that decided, under the name it is judged by."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import run
from harness.criterion import Criterion
from harness.verdict import Outcome, Verdict
from suites.tests.record import EDITED, record


def _entry(verdict: Verdict) -> run.VerdictEntry:
    criterion = Criterion(id="c", area="a", statement="It MUST.", gate="g")
    return run.entry(criterion, Outcome(verdict, ""), reproduce="")


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run whose criterion was looked at twice and has whole samples beside it."""
    evidence = tmp_path / "some-defect" / "evidence" / "c"
    evidence.mkdir(parents=True)
    (evidence / "observation.json").write_text('{"look": 1, "samples": "whole"}')
    (evidence / "observation-second.json").write_text('{"look": 2, "samples": "whole"}')
    (evidence / "whole.npz").write_bytes(b"x")
    (evidence / "other.npz").write_bytes(b"y")
    return tmp_path / "some-defect"


def test_a_pass_keeps_the_first_look_and_its_samples(run_folder: Path, tmp_path: Path) -> None:
    """The case is called pass; only files that the observation names come along."""
    case = record(run_folder, _entry(Verdict.PASS), tmp_path)

    assert case == tmp_path / "c" / "pass"
    assert '"look": 1' in (case / "observation.json").read_text()
    assert sorted(p.name for p in case.iterdir()) == ["observation.json", "whole.npz"]


def test_a_fail_keeps_the_second_look_and_ends_edited_ones(
    run_folder: Path, tmp_path: Path
) -> None:
    """The case is called by the run's folder; a recording changed by hand has served."""
    edited = tmp_path / "c" / "fail-by-hand"
    edited.mkdir(parents=True)
    (edited / EDITED).touch()

    case = record(run_folder, _entry(Verdict.FAIL), tmp_path)

    assert case == tmp_path / "c" / "fail-some-defect"
    assert '"look": 2' in (case / "observation.json").read_text()
    assert not edited.exists()
