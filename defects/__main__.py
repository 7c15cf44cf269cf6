"""``python -m defects``: break the platform on purpose and show that the trial notices."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from defects import matrix
from defects.defect import CATALOGUE, Defect, UnknownDefect, known, load
from harness import run
from harness.run import VerdictEntry
from system.stack.native import Stack, StackError

ROOT = CATALOGUE.parents[1]


def main(arguments: list[str] | None = None) -> int:
    """Run the catalogue; 0 when every defect was killed as stated, 1 when not, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m defects",
        description="Apply each deliberate defect to the reference platform, run the criteria "
        "that must notice it, and print the kill matrix. All of them must pass before and after.",
        epilog="example: python -m defects --defect headers-lost-on-pages",
    )
    parser.add_argument("--defect", action="append", metavar="ID", help="only this one; repeat")
    parser.add_argument("--list", action="store_true", help="print the defects and stop")
    parser.add_argument("--folder", type=Path, help="where runs and matrix.json are written")
    given = parser.parse_args(arguments)
    try:
        chosen = [load(id) for id in given.defect or known()]
    except UnknownDefect as error:
        parser.error(str(error))
    if given.list:
        for defect in chosen:
            noticed_by = ", ".join(defect.noticed_by)
            sys.stdout.write(f"{defect.id}: {defect.breaks}; noticed by {noticed_by}\n")
        return 0
    folder = given.folder or ROOT / "reports" / "runs" / f"defects-{run.new_run_id()}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = matrix.together(
            _on_a_stack(replicas, of_one_kind, folder)
            for replicas, of_one_kind in _by_replicas(chosen).items()
        )
    except StackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the platform is taken down\n")
        return 130
    (folder / "matrix.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    text = matrix.as_text(found)
    (folder / "matrix.txt").write_text(text, encoding="utf-8")
    sys.stdout.write(f"\n{text}{folder / 'matrix.json'}\n")
    return 0 if found.sound() else 1


def _by_replicas(chosen: Sequence[Defect]) -> dict[int, list[Defect]]:
    """The defects by the platform they need, so that each kind is started once."""
    kinds: dict[int, list[Defect]] = {}
    for defect in chosen:
        kinds.setdefault(defect.replicas, []).append(defect)
    return kinds


def _on_a_stack(replicas: int, chosen: Sequence[Defect], folder: Path) -> matrix.Matrix:
    stack = Stack(name=f"defects-{os.getpid()}", replicas=replicas)
    place = folder if replicas == 1 else folder / f"{replicas}-of-each"
    place.mkdir(exist_ok=True)
    try:
        stack.up()
        return kill_matrix(stack, chosen, place)
    finally:
        stack.down()


def kill_matrix(stack: Stack, chosen: Sequence[Defect], folder: Path) -> matrix.Matrix:
    """Judge the sound platform, then each defect in turn, then the sound platform again."""
    everyone = sorted({criterion for defect in chosen for criterion in defect.noticed_by})
    before = _trial(stack, everyone, folder / "before")
    rows = []
    for defect in chosen:
        sys.stdout.write(f"\napplying {defect.id}: {defect.breaks}\n")
        sys.stdout.flush()
        try:
            with applied(stack, defect):
                entries = _trial(stack, sorted(defect.noticed_by), folder / defect.id)
        except StackError as error:  # the others are still worth their turn
            sys.stdout.write(f"{error}\n")
            rows.append(matrix.Row(defect.id, defect.breaks, matrix.Fate.NOT_APPLIED, ()))
            continue
        rows.append(matrix.judge(defect, entries))
    after = _trial(stack, everyone, folder / "after")
    return matrix.Matrix(
        before={entry.criterion: entry.verdict for entry in before},
        after={entry.criterion: entry.verdict for entry in after},
        rows=tuple(rows),
    )


@contextmanager
def applied(stack: Stack, defect: Defect) -> Iterator[None]:
    """Break the platform as the defect says, and mend it on leaving whatever happened."""
    try:
        stack.apply(defect.overrides())
        for service, (breaks, _) in defect.statements.items():
            stack.execute(service, breaks)
        yield
    finally:
        for service, (_, mends) in defect.statements.items():
            stack.execute(service, mends)
        stack.apply({})


def _trial(stack: Stack, criteria: Sequence[str], folder: Path) -> tuple[VerdictEntry, ...]:
    """Judge some criteria in a process of its own, as a user would."""
    command = [sys.executable, "-m", "pytest", "suites/", "--target", str(stack.target_file)]
    command += ["--criterion", ",".join(criteria), "--run-folder", str(folder)]
    subprocess.run(command, cwd=ROOT, check=False)
    return run.read_result(folder).verdicts


if __name__ == "__main__":
    raise SystemExit(main())
