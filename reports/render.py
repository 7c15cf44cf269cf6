"""Render a run folder: report.html, junit.xml; reads only files, contacts nothing."""

from __future__ import annotations

from pathlib import Path

from harness import run
from reports import html, junit


def render(run_folder: Path) -> Path:
    """Write report.html and junit.xml beside verdicts.json.

    Args:
        run_folder: a folder with verdicts.json and evidence/.

    Returns:
        The path of report.html.

    Raises:
        OSError: verdicts.json is missing.
        msgspec.ValidationError: it is not of this schema.
    """
    result = run.read_result(run_folder)
    junit.write(result, run_folder / "junit.xml")
    return html.write(result, run_folder, run_folder / "report.html")
