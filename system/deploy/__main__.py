"""Checks the Kubernetes manifests offline, and makes the Secrets they refer to.

python -m system.deploy check             # what `make check` runs
python -m system.deploy render OVERLAY    # what `kubectl apply -k` would send
python -m system.deploy secrets           # for the overlay `local`, to standard output
python -m system.deploy secrets --names   # which Secrets there must be, with their keys
"""

from __future__ import annotations

import argparse
import sys

import yaml

from system.deploy import example_secrets
from system.deploy.rendering import OVERLAYS, NotRendered, render
from system.deploy.rules import judge


def main() -> int:
    """Run one of the commands; 0 done, 1 a manifest is wrong, 2 kubectl is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m system.deploy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="schemas and rules, for every overlay")
    rendered = commands.add_parser("render", help="print an overlay")
    rendered.add_argument("overlay", choices=OVERLAYS)
    made = commands.add_parser("secrets", help="print new Secrets for the overlay `local`")
    made.add_argument("--names", action="store_true", help="only their names and keys")
    arguments = parser.parse_args()
    try:
        if arguments.command == "check":
            return _check()
        if arguments.command == "render":
            yaml.safe_dump_all(render(arguments.overlay), sys.stdout, sort_keys=False)
            return 0
    except NotRendered as problem:
        print(problem, file=sys.stderr)
        return 2
    secrets = example_secrets.secrets()
    if arguments.names:
        for secret in secrets:
            print(f"{secret['metadata']['name']}: {', '.join(secret['stringData'])}")
        return 0
    yaml.safe_dump_all(secrets, sys.stdout, sort_keys=False)
    return 0


def _check() -> int:
    wrong = 0
    for overlay in OVERLAYS:
        documents = render(overlay)
        findings = judge(overlay, documents)
        wrong += len(findings)
        print(f"{overlay:11} {len(documents)} documents, {len(findings)} findings")
        for finding in findings:
            print(f"  {finding}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
