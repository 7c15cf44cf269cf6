"""The command line of the reference platform; its commands lie in `system/stack/commands/`.

Nothing beyond the standard library is imported before it is needed: `control` is called in the
middle of measurements and must cost next to nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from system.stack.commands import (
    broker,
    cache,
    certificate,
    database,
    engine,
    fault,
    images,
    legacy,
    platform,
)
from system.stack.commands.words import DONE, FAILED, INTERRUPTED, WRONG_USAGE
from system.stack.errors import StackError

__all__ = ["DONE", "FAILED", "INTERRUPTED", "WRONG_USAGE", "main"]

_EPILOG = """\
exit codes: 0 done, 1 failed, 2 wrong usage. `python -m system COMMAND --help` tells more of each.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except StackError as error:
        print(f"system {options.command}: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        print(f"system {options.command}: interrupted; nothing was left behind", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m system",
        description="The reference platform on this machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--stack", metavar="NAME", default="default", help="which stack (several can run at once)"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for topic in (platform, fault, database, certificate, broker, cache, legacy, images, engine):
        topic.add(commands)
    return parser
