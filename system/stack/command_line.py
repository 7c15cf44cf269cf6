"""The command line of the reference platform: up, down, status, logs, doctor, control.

Nothing beyond the standard library is imported before it is needed: `control` is called in the
middle of measurements and must cost next to nothing.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from system.stack.errors import StackError
from system.stack.parts import PARTS

if TYPE_CHECKING:
    from types import FrameType

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
_MEBIBYTE = 1024 * 1024
_ACTIONS = ("stop", "start", "restart", "kill", "pause", "resume")


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
        prog="python -m system", description="The reference platform on this machine."
    )
    parser.add_argument(
        "--stack", metavar="NAME", default="default", help="which stack (several can run at once)"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start the platform and wait until it is ready")
    up.add_argument(
        "--ports",
        choices=("free", "standard"),
        default="free",
        help="free ports (default), or the contract's: 443, 3000, 5432 …",
    )
    up.add_argument(
        "--upstream-timeout-ms", type=int, default=3000, metavar="MS", help="of the gateway (3000)"
    )
    up.set_defaults(run=_up)
    down = commands.add_parser("down", help="end what `up` started, and remove its state")
    down.add_argument("--all", action="store_true", help="all stacks of this project")
    down.set_defaults(run=_down)
    commands.add_parser("status", help="parts, their state and memory").set_defaults(run=_status)
    logs = commands.add_parser("logs", help="the end of the parts' logs")
    logs.add_argument("parts", nargs="*", metavar="PART", help="which (all)")
    logs.add_argument("-n", "--lines", type=int, default=20, help="lines of each (20)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    logs.set_defaults(run=_logs)
    doctor = commands.add_parser("doctor", help="what this machine lacks, and what installs it")
    doctor.set_defaults(run=_doctor)
    control = commands.add_parser("control", help="act on one part of a running platform")
    control.add_argument("part", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    control.add_argument("action", choices=_ACTIONS, metavar="ACTION", help=", ".join(_ACTIONS))
    control.set_defaults(run=_control)
    return parser


def _up(options: argparse.Namespace) -> int:
    # SIGINT too: a shell starts background jobs with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    from system.stack.native import Stack

    Stack(
        options.stack,
        standard_ports=options.ports == "standard",
        upstream_timeout_ms=options.upstream_timeout_ms,
        detached=True,
    ).up()
    return DONE


def _down(options: argparse.Namespace) -> int:
    from system.stack.native import Stack, abandoned_stacks
    from system.stack.state import StateFolder

    names = [options.stack]
    if options.all:
        names = [state.name for state in StateFolder.all_of_project()]
    elif options.stack == "default":  # what a killed trial left is nobody's any more
        names += [name for name in abandoned_stacks() if name != "default"]
    for name in names:
        stack = Stack(name)
        there = stack.state.exists()
        stack.down()
        print(f"stack {name!r} " + ("ended" if there else "was not there"))
    return DONE


def _status(options: argparse.Namespace) -> int:
    from system.stack.native import Stack

    stack = Stack(options.stack)
    parts = stack.status()
    for part in parts:
        memory = f"{part.memory / _MEBIBYTE:7.0f} MiB" if part.memory else ""
        print(f"{part.part:<18} {part.pid or '-':>8} {memory:>12}  {part.state}")
    total = sum(part.memory for part in parts) / _MEBIBYTE
    print(f"{'together':<18} {'':>8} {total:7.0f} MiB")
    print(f"target file: {stack.target_file}")
    return DONE if parts and all(part.state == "ready" for part in parts) else FAILED


def _logs(options: argparse.Namespace) -> int:
    from system.stack import acts
    from system.stack.state import StateFolder

    state = StateFolder(options.stack)
    state.read()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        print(f"no such part: {', '.join(unknown)}; expected {', '.join(PARTS)}", file=sys.stderr)
        return WRONG_USAGE
    chosen = options.parts or state.launches()
    if options.follow:
        files = [str(state.log_of(part)) for part in chosen]
        os.execvp("tail", ["tail", "-n", str(options.lines), "-F", *files])
    for part in chosen:
        if len(chosen) > 1:
            print(f"==> {part} <==")
        print(acts.tail(state, part, options.lines))
    return DONE


def _doctor(_options: argparse.Namespace) -> int:
    from system.stack import doctor

    return doctor.main()


def _control(options: argparse.Namespace) -> int:
    from system.stack import acts
    from system.stack.state import StateFolder

    acts.control(StateFolder(options.stack), options.part, options.action)
    return DONE


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
