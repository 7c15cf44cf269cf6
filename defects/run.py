"""``python -m defects.run --defect ID -- python -m system.auth``: a service with a patch in it."""

from __future__ import annotations

import argparse
import runpy
import sys

from defects import defect


def main(arguments: list[str] | None = None) -> None:
    """Apply the defect's patch, then run the module named behind ``--`` as the program itself.

    The process stays the one that was started, so that signals and pids mean what they did.
    """
    parser = argparse.ArgumentParser(
        prog="python -m defects.run",
        description="Run a platform process with one deliberate defect patched into it.",
        epilog="example: python -m defects.run --defect cache-key-without-limit -- "
        "python -m system.payments",
    )
    parser.add_argument("--defect", required=True, metavar="ID", help="a defect with a patch")
    parser.add_argument("command", nargs="+", help="-- [python] -m MODULE …")
    given = parser.parse_args(arguments)
    if "-m" not in given.command or given.command.index("-m") + 1 >= len(given.command):
        parser.error(f"seen {' '.join(given.command)!r}, expected a command with -m MODULE")
    at = given.command.index("-m") + 1
    try:
        chosen = defect.load(given.defect)
    except defect.UnknownDefect as error:
        parser.error(str(error))
    if chosen.patch is None:
        parser.error(f"defect {chosen.id} patches no process; it changes configuration only")
    chosen.patch()
    sys.argv = given.command[at:]
    runpy.run_module(given.command[at], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
