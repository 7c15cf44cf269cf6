"""What all command modules say alike: exit codes, help that teaches, a question before harm.

Nothing beyond the standard library is imported here or at the top of a command module: `control`
is called in the middle of measurements and must cost next to nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from system.stack.credentials import Credentials
    from system.stack.state import StateFolder

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

Commands = Any  # argparse names no type for what `add_subparsers` returns
Run = Callable[[argparse.Namespace], int]


def command(commands: Commands, name: str, run: Run, short: str, long: str) -> Any:
    """Add a command.

    Args:
        short: one line for the list of commands.
        long: what `--help` teaches besides.
    """
    added = _parser(commands, name, short, long)
    added.set_defaults(run=run)
    return added


def group(commands: Commands, name: str, short: str, long: str) -> Commands:
    """Add a command that has commands of its own; returns where to add these."""
    added = _parser(commands, name, short, long)
    return added.add_subparsers(dest="action", required=True, metavar="COMMAND")


def agreed(question: str) -> bool:
    """Ask on standard input; only `yes`, in any case, agrees."""
    print(f"{question} Type yes to go on: ", end="", flush=True)
    if sys.stdin.readline().strip().lower() == "yes":
        return True
    print("nothing was done")
    return False


def running(options: argparse.Namespace) -> tuple[StateFolder, Mapping[str, int], Credentials]:
    """The stack's folder, ports and credentials.

    Raises:
        StackNotThere: it was not started.
    """
    from system.stack.credentials import Credentials
    from system.stack.state import StateFolder

    state = StateFolder(options.stack)
    document = state.read()
    return state, document["ports"], Credentials.from_document(document["credentials"])


def in_containers(state: StateFolder) -> bool:
    """True when the stack was started in containers; false also when it was not started."""
    from system.stack.errors import StackNotThere

    try:
        return state.read().get("kind") == "containers"
    except StackNotThere:
        return False


def table(rows: list[tuple[str, ...]]) -> None:
    """Print rows in columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def _parser(commands: Commands, name: str, short: str, long: str) -> Any:
    return commands.add_parser(
        name,
        help=short,
        description=f"{short[0].upper()}{short[1:]}.",
        epilog=long,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
