"""JUnit XML of a run: FAIL is a failure, INCONCLUSIVE an error, NOT_APPLICABLE skipped."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from harness.run import RunResult, VerdictEntry
from harness.verdict import Verdict

_ELEMENT = {
    Verdict.FAIL: "failure",
    Verdict.INCONCLUSIVE: "error",
    Verdict.NOT_APPLICABLE: "skipped",
}
# XML 1.0 forbids these characters outright, escaped or not.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(result: RunResult, path: Path) -> None:
    """Write one testsuite per area and one testcase per criterion, each with its reason."""
    root = ET.Element("testsuites", {"name": f"trial {result.run}", **_counts(result.verdicts)})
    for area, group in groupby(result.verdicts, key=lambda e: e.area):
        entries = list(group)
        suite = ET.SubElement(
            root,
            "testsuite",
            {"name": area, "timestamp": result.started, **_counts(entries)},
        )
        for entry in entries:
            case = ET.SubElement(
                suite,
                "testcase",
                classname=f"suites.{area}",
                name=entry.criterion,
                time=f"{entry.seconds:.2f}",
            )
            _outcome(case, entry)
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _outcome(case: ET.Element, entry: VerdictEntry) -> None:
    element = _ELEMENT.get(entry.verdict)
    if element:
        child = ET.SubElement(case, element, message=_clean(entry.reason), type=entry.verdict)
        if entry.verdict is not Verdict.NOT_APPLICABLE:
            child.text = _clean(
                f"{entry.statement}\nseen: {entry.seen}\nexpected: {entry.expected}\n"
                f"reproduce: {entry.reproduce}\n"
            )
    elif entry.verdict is Verdict.WAIVED:
        ET.SubElement(case, "system-out").text = _clean(f"WAIVED {entry.reason}")


def _counts(entries: Iterable[VerdictEntry]) -> dict[str, str]:
    listed = list(entries)
    return {
        "tests": str(len(listed)),
        "failures": str(sum(e.verdict is Verdict.FAIL for e in listed)),
        "errors": str(sum(e.verdict is Verdict.INCONCLUSIVE for e in listed)),
        "skipped": str(sum(e.verdict is Verdict.NOT_APPLICABLE for e in listed)),
        "time": f"{sum(e.seconds for e in listed):.2f}",
    }


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("�", text)
