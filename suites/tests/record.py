"""``python -m suites.tests.record RUN…``: keep a run's evidence as cases for the checks' tests.

Of a sound platform every PASS becomes the case ``pass``. Of a broken one (``--broken``) every FAIL
becomes ``fail-<name of the run folder>``, which for a run of ``python -m defects`` is the defect.
What is there under the same name is replaced; edited recordings of a broken platform go when the
first real one comes.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import msgspec

from harness import run
from harness.run import VerdictEntry
from harness.verdict import Verdict

RECORDED = Path(__file__).parent / "recorded"
EDITED = "edited"  # file that marks a recording changed by hand


def main(arguments: list[str] | None = None) -> int:
    """Record the given runs; 0 when each gave something, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m suites.tests.record", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    parser.add_argument(
        "--broken", action="store_true", help="the platform was broken: record what failed"
    )
    parser.add_argument(
        "--criterion", action="append", default=[], metavar="ID", help="only these; repeat"
    )
    given = parser.parse_args(arguments)
    code = 0
    for folder in given.runs:
        kept = [
            record(folder, entry)
            for entry in run.read_result(folder).verdicts
            if entry.verdict is (Verdict.FAIL if given.broken else Verdict.PASS)
            and (not given.criterion or entry.criterion in given.criterion)
        ]
        for case in kept:
            sys.stdout.write(f"{case.relative_to(RECORDED)}\n")
        code = code if kept else 1
    return code


def record(folder: Path, entry: VerdictEntry, recorded: Path = RECORDED) -> Path:
    """Copy the evidence that decided one criterion; returns the case's folder.

    A FAIL is decided by its second look where it had one.
    """
    evidence = folder / "evidence" / entry.criterion
    source = evidence / "observation.json"
    name = "pass"
    if entry.verdict is Verdict.FAIL:
        name = f"fail-{folder.name}"
        second = evidence / "observation-second.json"
        source = second if second.exists() else source
        for edited in (recorded / entry.criterion).glob(f"fail-*/{EDITED}"):
            shutil.rmtree(edited.parent)
    case = recorded / entry.criterion / name
    shutil.rmtree(case, ignore_errors=True)
    case.mkdir(parents=True)
    document = msgspec.json.decode(source.read_bytes())
    (case / "observation.json").write_bytes(msgspec.json.format(source.read_bytes(), indent=0))
    for value in document.values():
        # Whole samples lie beside the observation, which names them without their ending.
        if isinstance(value, str) and value.isidentifier():
            for sibling in evidence.glob(f"{value}.*"):
                shutil.copy2(sibling, case / sibling.name)
    return case


if __name__ == "__main__":
    raise SystemExit(main())
