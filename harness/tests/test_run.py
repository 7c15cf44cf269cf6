"""The result of a run: its file, its exit code, its lock."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from harness import run, target
from harness.criterion import Criterion
from harness.progress import ProgressLines
from harness.verdict import Finding, Outcome, Verdict

CRITERION = Criterion(id="c", area="edge", statement="It MUST.", gate="g")
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


def _entry(verdict: Verdict, area: str = "edge") -> run.VerdictEntry:
    criterion = Criterion(id="c", area=area, statement="It MUST.", gate="g")
    return run.entry(criterion, Outcome(verdict, "because"), reproduce="pytest suites/")


def _result(**changes: Any) -> run.RunResult:
    values: dict[str, Any] = {
        "schema_number": 1,
        "run": "r",
        "target": run.TargetNote("t", "https://localhost"),
        "profile": "quick",
        "thresholds": run.ThresholdsNote("f", "0" * 64),
        "started": "2026-01-01T00:00:00.000Z",
        "finished": "2026-01-01T00:00:01.000Z",
        "environment": {"cores": 2},
        "exit": 0,
        "verdicts": (_entry(Verdict.PASS),),
    }
    return run.RunResult(**{**values, **changes})


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], 8),
        ([("edge", Verdict.PASS)], 0),
        ([("edge", Verdict.WAIVED)], 0),
        ([("edge", Verdict.PASS), ("edge", Verdict.NOT_APPLICABLE)], 0),
        ([("edge", Verdict.PASS), ("auth", Verdict.NOT_APPLICABLE)], 8),
        ([("edge", Verdict.PASS), ("edge", Verdict.INCONCLUSIVE)], 8),
        ([("edge", Verdict.INCONCLUSIVE), ("auth", Verdict.FAIL)], 1),
    ],
)
def test_the_exit_code_tells_failed_from_not_shown(
    verdicts: list[tuple[str, Verdict]], code: int
) -> None:
    """1 with a FAIL; 8 when something could not be told or an area has no PASS."""
    assert run.exit_code([_entry(v, area) for area, v in verdicts]) == code


def test_an_entry_counts_n_of_m_and_holds_no_secret() -> None:
    """m counts judged, missing and absent subjects once; texts are redacted."""
    outcome = Outcome(
        Verdict.FAIL,
        f"accepted {JWT}",
        judged=("a", "b"),
        missing={"c": "late"},
        absent={"d": "not built"},
        findings=(Finding("a", f"seen {JWT}", "401"),),
        seen=JWT,
        expected="401",
    )

    entry = run.entry(
        CRITERION, outcome, reproduce=f"curl -H '{JWT}'", shortened=["n"], seconds=1.234
    )

    assert (entry.n, entry.m) == (2, 4)
    assert JWT not in json.dumps([entry.reason, entry.seen, entry.reproduce])
    assert JWT not in entry.findings[0].seen
    assert (entry.shortened, entry.seconds) == (("n",), 1.23)


def test_a_result_reads_back_as_written(tmp_path: Path) -> None:
    """verdicts.json carries the schema number under its own name, and exit_code lies beside it."""
    result = _result()

    path = run.write_result(tmp_path, result)

    document = json.loads(path.read_text())
    assert document["schema"] == 1
    assert set(document["verdicts"][0]) >= {
        "criterion", "area", "statement", "gate", "verdict", "reason", "n", "m",
        "figures", "seen", "expected", "evidence", "reproduce",
    }  # fmt: skip
    assert run.read_result(tmp_path) == result
    assert (tmp_path / "exit_code").read_text() == "0\n"
    assert not (tmp_path / "verdicts.json.draft").exists()


def test_the_environment_names_machine_and_commit(tmp_path: Path) -> None:
    """Outside a checkout the commit is unknown; versions and cores are there."""
    seen = run.environment(tmp_path)

    assert seen["commit"] == "unknown"
    assert seen["cores"] >= 1
    assert {"python", "platform", "command"} <= set(seen)
    assert run.environment(Path(__file__).parent)["commit"] != ""


def test_run_ids_sort_by_time_and_differ() -> None:
    """Two runs of one second have two folders."""
    assert run.new_run_id() != run.new_run_id()
    assert run.timestamp().endswith("Z")


def test_a_second_run_on_the_same_target_is_refused() -> None:
    """The lock holds until it is given back; another target is free."""
    here = target.parse({"schema": 1, "http": {"origin": "https://localhost:7001"}})
    there = target.parse({"schema": 1, "http": {"origin": "https://localhost:7002"}})
    first, second, other = run.TargetLock(here), run.TargetLock(here), run.TargetLock(there)
    first.acquire()
    try:
        other.acquire()
        with pytest.raises(run.RunLocked, match="another run"):
            second.acquire()
    finally:
        first.release()
        other.release()

    second.acquire()
    second.release()
    second.release()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_whole_lines(tmp_path: Path) -> None:
    """Number, criterion, verdict, n of m; the reason only where it matters."""
    stream = io.StringIO()
    lines = ProgressLines(2, stream)
    lines.begin("edge", "one")
    lines.say("half way")
    lines.end(_entry(Verdict.PASS))
    lines.begin("edge", "two")
    lines.end(_entry(Verdict.FAIL))
    lines.summary([_entry(Verdict.PASS), _entry(Verdict.FAIL)], 1, tmp_path)

    text = stream.getvalue()
    assert "[1/2] edge/one" in text
    assert "half way" in text
    assert text.count("because") == 1
    assert "1 PASS, 1 FAIL (exit code 1: at least one criterion failed)" in text
    assert f"report: {tmp_path / 'verdicts.json'}" in text
    assert "\x1b" not in text


def test_a_terminal_gets_one_line_rewritten(tmp_path: Path) -> None:
    """On a terminal the running line is replaced by the verdict."""
    (tmp_path / "report.html").touch()
    stream = _Terminal()
    lines = ProgressLines(1, stream)
    lines.begin("edge", "one")
    lines.say("half way")
    lines.end(_entry(Verdict.PASS))
    lines.summary([_entry(Verdict.PASS)], 0, tmp_path)

    text = stream.getvalue()
    assert text.count("\r\x1b[K") == 3
    assert "\x1b[32mPASS\x1b[0m" in text
    assert f"report: {tmp_path / 'report.html'}" in text
