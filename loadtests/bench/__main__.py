"""``python -m loadtests.bench``: what the parts cost, as figures and as ratios in one run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness import addresses
from harness import target as target_module
from harness.probe import CouldNotObserve
from harness.target import TargetError
from loadtests.bench import bodies, gateway, generator, service, sockets

_BENCHES = {
    "bodies": bodies.run,
    "gateway": gateway.run,
    "service": service.run,
    "sockets": sockets.run,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one bench; 0 when it ran, 1 when it could not, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench",
        description="Measures CPU and memory of the target's parts by their own /metrics. On a "
        "busy machine read the ratios, not the times.",
        epilog="example: python -m system up; python -m loadtests.bench service --target FILE",
    )
    parser.add_argument(
        "bench",
        choices=["generator", *_BENCHES],
        help="generator: the load engine's own noise floor; gateway: CPU per proxied request "
        "against nginx; bodies: the gateway's memory while 64 MiB pass; service: CPU of a cached "
        "and an uncached page; sockets: 10,000 WebSockets",
    )
    parser.add_argument("--target", type=Path, metavar="FILE", help="target file (but generator)")
    given = parser.parse_args(arguments)
    if given.bench == "generator":
        generator.run()
        return 0
    if given.target is None:
        parser.error(f"{given.bench} needs --target FILE; `python -m system status` names it")
    try:
        target = target_module.load(given.target)
        addresses.use(target.addresses.relays)
        _BENCHES[given.bench](target)
    except (CouldNotObserve, TargetError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
