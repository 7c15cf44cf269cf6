"""``python -m loadtests.capacity OBSERVATION``: the arithmetic of api-capacity, as Markdown.

OBSERVATION is ``evidence/api-capacity/observation.json`` of a run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from loadtests.capacity.conclusion import conclude, steps_of
from loadtests.capacity.step import Gate
from loadtests.capacity.tables import markdown


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; 0."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.capacity", description=__doc__)
    parser.add_argument("observation", type=Path)
    given = parser.parse_args(arguments)
    evidence = msgspec.json.decode(given.observation.read_bytes())
    gate = msgspec.convert(evidence["gate"], Gate)
    found = conclude(steps_of(evidence), gate, cores=evidence["cores"])
    sys.stdout.write("\n".join(markdown(table) for table in found.tables))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
