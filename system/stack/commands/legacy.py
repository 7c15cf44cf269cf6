"""The legacy database, started on demand: legacy up, generate, down."""

from __future__ import annotations

import argparse

from system.stack.commands.words import DONE, WRONG_USAGE, Commands, command, group
from system.stack.parts import LEGACY

_ROWS = 100_000
_SMALLEST = 200
_LONG = """\
To try a migration beside a running platform:

  python -m system legacy generate          start mfe_poc2 and fill it
  bin/migrate export && bin/migrate import  (the target file's commands.migrate has what it reads)
  python -m system legacy down              end it and delete what it holds

`up` and `generate` print its URL, alone, on standard output. `down` of the platform ends it, too.
"""


def add(commands: Commands) -> None:
    """Add these commands to the command line."""
    actions = group(commands, "legacy", "the legacy database, for migrations", _LONG)
    command(
        actions,
        "up",
        _up,
        "start the legacy database",
        "Empty at first. Nothing happens when it is up. Prints its URL.",
    )
    generate = command(
        actions,
        "generate",
        _generate,
        "start the legacy database and fill it",
        "Always the same rows for a number; what was there before is thrown away. Prints its URL.",
    )
    generate.add_argument("--rows", type=int, default=_ROWS, help=f"at least so many ({_ROWS})")
    command(
        actions,
        "down",
        _down,
        "end the legacy database and delete what it holds",
        "The platform goes on.",
    )


def _up(options: argparse.Namespace) -> int:
    from system.stack import legacy
    from system.stack.state import StateFolder

    print(legacy.up(StateFolder(options.stack)))
    return DONE


def _generate(options: argparse.Namespace) -> int:
    import sys

    if options.rows < _SMALLEST:
        print(
            f"system legacy generate: --rows is {options.rows}, expected {_SMALLEST} or more",
            file=sys.stderr,
        )
        return WRONG_USAGE
    from system.stack import legacy
    from system.stack.state import StateFolder

    state = StateFolder(options.stack)
    counts = legacy.generate(state, options.rows)
    listed = ", ".join(f"{count} {table}" for table, count in counts.items())
    print(f"{sum(counts.values())} rows: {listed}", file=sys.stderr)
    print(legacy.up(state))
    return DONE


def _down(options: argparse.Namespace) -> int:
    from system.stack import legacy
    from system.stack.state import StateFolder

    there = legacy.down(StateFolder(options.stack))
    print(f"{LEGACY} " + ("ended" if there else "was not there"))
    return DONE
