"""A private container engine: engine up, down, status."""

from __future__ import annotations

import argparse
import sys

from system.stack.commands.words import DONE, FAILED, Commands, command, group

_LONG = """\
For machines and CI jobs where no engine runs; needs root and `bin/install containers`.

  export DOCKER_HOST=$(python -m system engine up)
  python -m system images build
  python -m system engine down
"""


def add(commands: Commands) -> None:
    """Add these commands to the command line."""
    actions = group(commands, "engine", "a private container engine", _LONG)
    command(
        actions,
        "up",
        _up,
        "start it and wait until it answers",
        "Prints what DOCKER_HOST has to be, alone, on standard output.",
    )
    down = command(
        actions,
        "down",
        _down,
        "end it, and all that runs in it",
        "Puts back the packet filter and all else it changed; also after it was killed.",
    )
    down.add_argument("--keep-images", action="store_true", help="for a warm start later")
    command(actions, "status", _status, "whether it runs, and what it holds", "Exit code 0 if up.")


def _up(_options: argparse.Namespace) -> int:
    from system.stack.engine import Engine

    engine = Engine(say=lambda text: print(text, file=sys.stderr))
    engine.up()
    print(engine.host)
    return DONE


def _down(options: argparse.Namespace) -> int:
    from system.stack.engine import Engine

    engine = Engine()
    there = engine.folder.exists()
    engine.down(keep_images=options.keep_images)
    print("the engine " + ("ended" if there else "was not there"))
    return DONE


def _status(_options: argparse.Namespace) -> int:
    from system.stack.engine import Engine

    engine = Engine()
    running = engine.running()
    if running is None:
        print("the engine does not run")
        return FAILED
    print(f"process {running.pid}\nDOCKER_HOST={engine.host}\n{engine.sizes()}", end="")
    return DONE
