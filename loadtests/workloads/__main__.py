"""Prepare the standard workload on a target: ``python -m loadtests.workloads TARGET PLAN``.

Registers people, gives them payments, and writes the plan that an engine carries out. The plan
holds tokens that live 15 minutes, so its file is readable by its owner only.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from harness import addresses
from harness import target as targets
from harness.probe import CouldNotObserve
from loadtests.engine.plan import encode
from loadtests.workloads.population import settle
from loadtests.workloads.standard import mix, standard_plan

_PLACES = 20_000  # of the order, which begins again when it is used up


def main(arguments: list[str]) -> int:
    """Write the plan and print its mix; 2 when the target file or the target does not allow it."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.workloads", description=__doc__)
    parser.add_argument("target", type=Path, help="the target file (TOML)")
    parser.add_argument("plan", type=Path, help="where the plan is written")
    parser.add_argument("--users", type=int, default=60, help="people to register (60)")
    parser.add_argument("--seed", type=int, default=1, help="of the journeys (1)")
    parser.add_argument("--prefix", default="", help="of what is created (default: this process)")
    options = parser.parse_args(arguments)
    prefix = options.prefix or f"load-{os.getpid()}"
    try:
        target = targets.load(options.target)
        addresses.use(target.addresses.relays)
        population = settle(target, prefix=prefix, users=options.users, payments_each=2)
    except (targets.TargetError, CouldNotObserve) as error:
        print(error, file=sys.stderr)
        return 2
    plan = standard_plan(
        population, rate=100.0, seconds=_PLACES / 100.0, prefix=prefix, seed=options.seed
    )
    descriptor = os.open(options.plan, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(encode(plan))
    for group, share in mix(plan).items():
        print(f"{group}: {share:.1%}")
    for group, reason in population.absent.items():
        print(f"{group}: left out, {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
