"""The engine's process: ``python -m loadtests.engine PLAN OUT [--live]`` writes OUT.npz, OUT.json.

With ``--live`` it reads ``{"rate": 40}`` and ``{"stop": true}`` lines on its standard input and
writes each finished sample to its standard output (see live.py).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import uvloop

from loadtests.engine.generator import LoadGenerator
from loadtests.engine.live import run_live
from loadtests.engine.plan import PlanError, decode
from loadtests.engine.samples import write


def main(arguments: list[str]) -> int:
    """Carry out one plan; 0 when its samples are written, 2 when the plan cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.engine", description=__doc__)
    parser.add_argument("plan", type=Path, help="a plan written by loadtests.engine.plan.encode")
    parser.add_argument("out", type=Path, help="where the samples go, without suffix")
    parser.add_argument("--live", action="store_true", help="take the rate from standard input")
    options = parser.parse_args(arguments)
    try:
        plan = decode(options.plan.read_bytes())
    except (OSError, PlanError) as error:
        print(error, file=sys.stderr)
        return 2
    if options.live:
        measurement = uvloop.run(run_live(plan))
    else:
        measurement = uvloop.run(LoadGenerator(plan).run())
    write(measurement, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
