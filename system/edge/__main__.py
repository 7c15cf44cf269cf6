"""Renders the edge's configuration, has nginx check every variant of it, or serve one."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from system.edge import serve, variants
from system.edge.environment import settings_from
from system.edge.render import EdgeSettingsFault, render


def main() -> int:
    """Run one of the commands; 0 done, 1 a variant is refused, 2 the settings cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m system.edge", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="`nginx -t` on every variant")
    printed = commands.add_parser("render", help="print nginx.conf for the environment (R0.13)")
    printed.add_argument("--state", type=Path, required=True, help="folder for pid, temp and logs")
    printed.add_argument("--static", type=Path, required=True, help="folder of the front end")
    served = commands.add_parser("serve", help="run nginx in a container; follows the gateways")
    served.add_argument("--state", type=Path, default=Path("/tmp/edge"), help="a writable folder")
    served.add_argument("--static", type=Path, default=Path(os.environ.get("EDGE_STATIC", "/")))
    arguments = parser.parse_args()
    if arguments.command == "check":
        return _check()
    try:
        if arguments.command == "serve":
            return serve.main(arguments.state, arguments.static)
        sys.stdout.write(render(settings_from(os.environ, arguments.state, arguments.static)))
    except EdgeSettingsFault as fault:
        print(fault, file=sys.stderr)
        return 2
    return 0


def _check() -> int:
    refused = 0
    for name, complaint in variants.check():
        print(f"{'refused' if complaint else 'good':8}{name}")
        if complaint:
            refused = 1
            print(complaint)
    return refused


if __name__ == "__main__":
    sys.exit(main())
