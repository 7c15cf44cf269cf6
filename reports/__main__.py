"""``python -m reports RUN…``: draw the reports of run folders again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from reports import render


def main(arguments: list[str] | None = None) -> int:
    """Render each run folder; 0 when all were drawn, 1 when one could not be, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m reports",
        description="Draw report.html and junit.xml of finished runs again, from their folders.",
        epilog="example: python -m reports reports/runs/20260117T100000Z-1a2b",
    )
    parser.add_argument("run", nargs="+", type=Path, help="a run folder (holds verdicts.json)")
    failed = False
    for folder in parser.parse_args(arguments).run:
        try:
            sys.stdout.write(f"{render.render(folder)}\n")
        except (OSError, msgspec.DecodeError) as error:
            sys.stderr.write(f"{folder}: cannot be drawn: {error}\n")
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
