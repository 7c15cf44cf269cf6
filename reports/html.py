"""The report a release manager can sign: one HTML file that needs no network."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from harness.run import RunResult, VerdictEntry
from harness.verdict import Figure, Verdict
from reports import charts

_WORST_FIRST = (
    Verdict.FAIL,
    Verdict.INCONCLUSIVE,
    Verdict.WAIVED,
    Verdict.PASS,
    Verdict.NOT_APPLICABLE,
)
_HEADLINES = {
    0: ("pass", "Ready", "Every criterion that applies was judged and passed."),
    1: ("fail", "Not ready", "At least one promise is broken."),
    8: ("unsure", "Not shown", "Nothing failed, but not everything could be told."),
}
_PART = ("unsure", "Part passed", "What was selected passed; the rest was not judged.")
_INTERRUPTED = ("unsure", "Not finished", "The run ended before every criterion had its turn.")


@dataclass(frozen=True)
class Chart:
    """The pictures of one samples file."""

    criterion: str
    name: str
    distribution: str
    time_line: str


class Table(msgspec.Struct, frozen=True):
    """A table that a criterion laid among its evidence, in a list in a file ``….table.json``.

    Attributes:
        title, note: what it shows, and how to read it.
        columns: the heads; the first column holds names, the others figures.
        rows: texts, as many in each as there are columns.
    """

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def write(result: RunResult, run_folder: Path, path: Path) -> Path:
    """Write the report of a run.

    Args:
        result: the verdicts.
        run_folder: where evidence lies; links are relative to it.
        path: the HTML file.
    """
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["figure"] = figure_text
    environment.filters["number"] = number
    template = environment.get_template("report.html.j2")
    path.write_text(template.render(**_context(result, run_folder)), encoding="utf-8")
    return path


def figure_text(figure: Figure) -> str:
    """A figure as one line: value, unit, interval, limit."""
    text = f"{number(figure.value)}{_unit(figure.unit)}"
    if figure.interval is not None:
        low, high = figure.interval
        text += f" [{number(low)} – {number(high)}]"
    if figure.limit is not None:
        sign = "≤" if figure.bound == "upper" else "≥"
        text += f" {sign} {number(figure.limit)}{_unit(figure.unit)}"
    return text


def number(value: float) -> str:
    """A number with three significant digits, whole numbers whole, thousands apart."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}".replace(",", "\u202f")


def _unit(unit: str) -> str:
    return f"\u00a0{unit}" if unit else ""


def _context(result: RunResult, run_folder: Path) -> dict[str, Any]:
    kind, headline, sentence = _HEADLINES.get(result.exit, _INTERRUPTED)
    if result.exit == 0 and result.environment.get("partial"):
        kind, headline, sentence = _PART
    ordered = sorted(result.verdicts, key=lambda e: (e.area, e.criterion))
    troubles = [
        e
        for e in sorted(ordered, key=lambda e: _WORST_FIRST.index(e.verdict))
        if e.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.WAIVED)
    ]
    return {
        "result": result,
        "kind": kind,
        "headline": headline,
        "sentence": sentence,
        "counts": _counts(ordered),
        "areas": [
            (area, list(entries)) for area, entries in groupby(ordered, key=lambda e: e.area)
        ],
        "troubles": troubles,
        "absences": sorted({(k, v) for e in ordered for k, v in e.absent.items()}),
        "shortened": [(e.criterion, e.shortened) for e in ordered if e.shortened],
        "charts": list(_charts(ordered, run_folder)),
        "tables": list(_tables(ordered, run_folder)),
        "duration": _duration(result),
        "css": (Path(__file__).parent / "templates" / "report.css").read_text(encoding="utf-8"),
    }


def _counts(entries: Iterable[VerdictEntry]) -> list[tuple[Verdict, int]]:
    listed = list(entries)
    return [(v, n) for v in _WORST_FIRST if (n := sum(e.verdict is v for e in listed))]


def _charts(entries: Iterable[VerdictEntry], run_folder: Path) -> Iterable[Chart]:
    for entry in entries:
        limit = next(
            (f.limit for f in entry.figures if f.unit == "ms" and f.limit is not None), None
        )
        for relative in entry.evidence:
            name = Path(relative).stem
            # Calibration is the generator's; numbered segments are joined in the whole.
            if not relative.endswith(".npz") or re.fullmatch(r"calibration|.*-\d+", name):
                continue
            try:
                samples = charts.load(run_folder / relative)
            except (OSError, KeyError, ValueError):
                continue  # other arrays than request samples have no such picture
            # The gate is on the samples; what is measured apart (log-ins) is only shown.
            bound = limit if name == "samples" else None
            yield Chart(
                entry.criterion,
                name,
                charts.distribution(samples, bound),
                charts.time_line(samples, bound),
            )


def _tables(entries: Iterable[VerdictEntry], run_folder: Path) -> Iterable[tuple[str, Table]]:
    for entry in entries:
        for relative in entry.evidence:
            if not relative.endswith(".table.json"):
                continue
            try:
                found = msgspec.json.decode((run_folder / relative).read_bytes(), type=list[Table])
            except (OSError, msgspec.DecodeError):
                continue  # evidence that was lost or cut off; the verdict rests on another file
            yield from ((entry.criterion, table) for table in found)


def _duration(result: RunResult) -> str:
    seconds = int(
        (
            datetime.fromisoformat(result.finished) - datetime.fromisoformat(result.started)
        ).total_seconds()
    )
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"
