"""The report: everything a reader needs, nothing from the network, nothing unescaped."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from harness import run
from harness.criterion import Criterion
from harness.verdict import Figure, Finding, Outcome, Verdict
from reports import charts, html, junit, render
from reports.__main__ import main


def _entry(id: str, outcome: Outcome, area: str = "edge") -> run.VerdictEntry:
    criterion = Criterion(id=id, area=area, statement=f"{id} MUST hold.", gate="always")
    return run.entry(
        criterion,
        outcome,
        reproduce=f"pytest suites/ --criterion {id}",
        shortened=("seconds",) if id == "good" else (),
        seconds=1.5,
    )


def _samples(path: Path, n: int = 600, failures: int = 3) -> None:
    rng = np.random.default_rng(1)
    due = np.sort(rng.uniform(0, 12, n))
    sent = due + 0.0005
    done = sent + rng.lognormal(-5, 0.5, n)
    ok = np.ones(n, dtype=bool)
    ok[:failures] = False
    done[0] = np.nan
    np.savez(path, due=due, sent=sent, first_byte=done, done=done, ok=ok)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with one criterion of each verdict, one of them with samples."""
    evidence = tmp_path / "evidence" / "good"
    evidence.mkdir(parents=True)
    _samples(evidence / "samples.npz")
    good = Outcome(
        Verdict.PASS,
        judged=("a", "b"),
        absent={"graphql": "not built yet"},
        figures=(Figure("p95", 12.34, "ms", 150, (11.0, 14.0), 2000), Figure("n", 12345)),
        evidence=("evidence/good/samples.npz", "evidence/good/observation.json"),
    )
    bad = Outcome(
        Verdict.FAIL,
        "GET /x: seen 200 <script>alert(1)</script>, expected 401",
        judged=("x",),
        findings=(Finding("GET /x", "200", "401"), Finding("GET /y", "201", "401")),
        seen="GET /x: 200 <script>alert(1)</script>",
        expected="401",
    )
    entries = (
        _entry("good", good),
        _entry("bad", bad),
        _entry("unsure", Outcome(Verdict.INCONCLUSIVE, "not judged: b"), "auth"),
        _entry("gone", Outcome(Verdict.NOT_APPLICABLE, "declared absent", absent={"g": "no"})),
        _entry("known", Outcome(Verdict.WAIVED, "accepted by ops until 2999-01-01: x")),
    )
    result = run.RunResult(
        schema_number=1,
        run="20260117T100000Z-1a2b",
        target=run.TargetNote("shop", "https://localhost:1"),
        profile="quick",
        thresholds=run.ThresholdsNote("suites/thresholds.toml", "0" * 64),
        started="2026-01-17T10:00:00.000Z",
        finished="2026-01-17T10:02:05.000Z",
        environment={"cores": 2},
        exit=1,
        verdicts=entries,
    )
    run.write_result(tmp_path, result)
    return tmp_path


def test_the_report_says_what_matters_first(folder: Path) -> None:
    """Headline, failure with seen, expected and reproduction, then every criterion."""
    text = render.render(folder).read_text()

    assert "<h1>Not ready</h1>" in text
    assert text.index("What needs attention") < text.index("Every criterion")
    assert text.index('id="bad-detail"') < text.index('id="unsure-detail"')
    for words in (
        "pytest suites/ --criterion bad",
        "GET /y",
        "accepted by ops until 2999-01-01",
        "2 of 3",
        "12.3\u00a0ms [11 – 14] ≤ 150\u00a0ms",
        "12\u202f345",
        "2 min 05 s",
        "declared absent: graphql",
        'href="evidence/good/samples.npz"',
        "shortens these gates: good (seconds)",
    ):
        assert words in text, words


def test_the_report_needs_no_network_and_runs_no_script(folder: Path) -> None:
    """One file: no external reference, and what was seen on the target stays text."""
    text = render.render(folder).read_text()

    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert re.findall(r'(?:src|href)="(?:https?:)?//', text) == []
    assert "@import" not in text
    assert "url(" not in text


@pytest.mark.parametrize(
    ("exit_code", "headline"),
    [(0, "Ready"), (1, "Not ready"), (8, "Not shown"), (2, "Not finished"), (3, "Not finished")],
)
def test_the_headline_follows_the_exit_code(folder: Path, exit_code: int, headline: str) -> None:
    """An interrupted run never looks like a finished one."""
    import msgspec

    result = msgspec.structs.replace(run.read_result(folder), exit=exit_code)

    text = html.write(result, folder, folder / "again.html").read_text()

    assert f"<h1>{headline}</h1>" in text


def test_a_selection_is_never_called_ready(folder: Path) -> None:
    """A passed part of the criteria says that the rest was not judged."""
    import msgspec

    result = msgspec.structs.replace(run.read_result(folder), exit=0, environment={"partial": True})

    text = html.write(result, folder, folder / "again.html").read_text()

    assert "<h1>Part passed</h1>" in text
    assert "the rest was not judged" in text


def test_samples_are_drawn(folder: Path) -> None:
    """Distribution and time line of whole samples, with the limit."""
    text = render.render(folder).read_text()

    assert text.count('<svg class="chart"') == 2
    assert "limit 150 ms" in text
    assert "Latency over 12 s" in text


def test_a_file_that_holds_no_samples_is_no_chart(folder: Path) -> None:
    """Other arrays than request samples are left out, not a crash."""
    np.savez(folder / "evidence" / "good" / "samples.npz", other=np.ones(3))

    assert "<svg" not in render.render(folder).read_text()


def test_tables_among_the_evidence_are_drawn(folder: Path) -> None:
    """A criterion's arithmetic is shown as text; a file that holds no tables is left out."""
    result = run.read_result(folder)
    good = next(entry for entry in result.verdicts if entry.criterion == "good")
    files = tuple(
        f"evidence/good/{name}.json" for name in ("a.table", "b.table", "c", "gone.table")
    )
    good = msgspec.structs.replace(good, evidence=files)
    others = [entry for entry in result.verdicts if entry.criterion != "good"]
    table = {
        "title": "Machines",
        "note": "by CPU",
        "columns": ["rate", "n"],
        "rows": [["1", "<2>"]],
    }
    (folder / files[0]).write_bytes(msgspec.json.encode([table]))
    (folder / files[1]).write_text('[{"title": "cut')
    (folder / files[2]).write_bytes(msgspec.json.encode([table]))
    run.write_result(folder, msgspec.structs.replace(result, verdicts=(good, *others)))

    text = render.render(folder).read_text()

    assert text.count("good · ") == 1
    assert "good · Machines" in text
    assert '<th>rate</th><th class="num">n</th>' in text
    assert '<td>1</td><td class="num">&lt;2&gt;</td>' in text


def test_charts_show_due_and_naive_apart(tmp_path: Path) -> None:
    """A request sent late is slow by its due time and quick by the naive reading."""
    path = tmp_path / "samples.npz"
    np.savez(
        path,
        due=np.array([0.0, 1.0]),
        sent=np.array([2.0, 3.0]),
        done=np.array([2.01, 3.01]),
        ok=np.array([True, True]),
    )

    samples = charts.load(path)

    assert samples.latency.tolist() == pytest.approx([2010, 2010])
    assert samples.naive.tolist() == pytest.approx([10, 10])
    assert 'class="due"' in charts.distribution(samples)
    assert 'class="naive"' in charts.distribution(samples)


def test_nothing_succeeded_draws_nothing(tmp_path: Path) -> None:
    """No success, no picture; failures alone are told in words."""
    path = tmp_path / "samples.npz"
    _samples(path, n=5, failures=5)

    samples = charts.load(path)

    assert charts.distribution(samples) == ""
    assert charts.time_line(samples) == ""


def test_failed_requests_are_marked_on_the_time_line(tmp_path: Path) -> None:
    """Each failed request is a mark at its time."""
    path = tmp_path / "samples.npz"
    _samples(path, failures=3)

    assert charts.time_line(charts.load(path), 150).count('class="failed"') >= 1


def test_junit_tells_failed_from_could_not_tell(folder: Path) -> None:
    """FAIL failure, INCONCLUSIVE error, NOT_APPLICABLE skipped, each with its reason."""
    render.render(folder)

    root = ET.parse(folder / "junit.xml").getroot()

    assert {k: root.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }
    kinds = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert kinds == {
        "good": [],
        "bad": ["failure"],
        "unsure": ["error"],
        "gone": ["skipped"],
        "known": ["system-out"],
    }
    failure = next(root.iter("failure"))
    assert "expected: 401" in (failure.text or "")


def test_junit_survives_characters_xml_forbids(tmp_path: Path) -> None:
    """A NUL or an escape in what was seen does not break the file."""
    entry = _entry("bad", Outcome(Verdict.FAIL, "seen \x00\x1b[31m", judged=("a",)))
    values: dict[str, Any] = {"run": "r", "started": "s", "verdicts": (entry,)}
    result = run.RunResult(
        schema_number=1,
        target=run.TargetNote("t", "o"),
        profile="quick",
        thresholds=run.ThresholdsNote("f", "0"),
        finished="f",
        environment={},
        exit=1,
        **values,
    )

    junit.write(result, tmp_path / "junit.xml")

    assert "�" in (next(ET.parse(tmp_path / "junit.xml").iter("failure")).get("message") or "")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1000, "1\u202f000"), (0.12345, "0.123"), (12.34, "12.3"), (1234.5, "1\u202f234")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    """Three significant digits, whole numbers whole."""
    assert html.number(value) == text


def test_a_lower_bound_shows_its_direction() -> None:
    """A figure that must reach its limit says so."""
    assert html.figure_text(Figure("rate", 95, "%", 80, bound="lower")) == "95\u00a0% ≥ 80\u00a0%"


def test_the_command_draws_again_and_says_what_it_cannot(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 when all were drawn, 1 with the reason when one could not be."""
    empty = tmp_path_factory.mktemp("empty")
    broken = tmp_path_factory.mktemp("broken")
    (broken / "verdicts.json").write_text('{"schema": 1}')

    assert main([str(folder)]) == 0
    assert main([str(folder), str(empty), str(broken)]) == 1

    out = capsys.readouterr()
    assert str(folder / "report.html") in out.out
    assert f"{empty}: cannot be drawn" in out.err
    assert f"{broken}: cannot be drawn" in out.err
