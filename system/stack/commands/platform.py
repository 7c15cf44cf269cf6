"""The platform as a whole and its parts: up, down, status, logs, doctor, control, restart."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING

from system.stack.commands.words import (
    DONE,
    FAILED,
    WRONG_USAGE,
    Commands,
    command,
    in_containers,
)
from system.stack.errors import StackError
from system.stack.parts import MOST_REPLICAS, PARTS, PROGRAMS, part_of

if TYPE_CHECKING:
    from types import FrameType

    from system.stack.lifetime import Stack
    from system.stack.rolling import Acts
    from system.stack.state import StateFolder

_MEBIBYTE = 1024 * 1024
_ACTIONS = ("stop", "start", "restart", "kill", "pause", "resume", "lend")


def add(commands: Commands) -> None:
    """Add these commands to the command line."""
    up = command(
        commands,
        "up",
        _up,
        "start the platform and wait until it is ready",
        "Ends by itself when everything answers; the platform stays until `down`. Nothing happens\n"
        "when it is up already. The target file it names tells a trial all it may use.",
    )
    up.add_argument(
        "--ports",
        choices=("free", "standard"),
        default="free",
        help="free ports (default), or the contract's: 443, 3000, 5432 …",
    )
    up.add_argument(
        "--replicas",
        type=_replicas,
        default=1,
        metavar="N",
        help=f"how many of the gateway and of each service ({MOST_REPLICAS} at most; 1)",
    )
    up.add_argument(
        "--containers",
        action="store_true",
        help="in containers (system/compose.yaml) on the Docker engine, not as local processes",
    )
    up.add_argument(
        "--upstream-timeout-ms", type=int, default=3000, metavar="MS", help="of the gateway (3000)"
    )
    down = command(
        commands,
        "down",
        _down,
        "end what `up` started, and remove its state",
        "Databases, queues and certificates go with it. Also ends what a killed trial left.",
    )
    down.add_argument("--all", action="store_true", help="all stacks of this project")
    command(
        commands,
        "status",
        _status,
        "parts, their state and memory",
        "Exit code 0 only if every part is ready.",
    )
    logs = command(
        commands,
        "logs",
        _logs,
        "the end of the parts' logs",
        "  python -m system logs payments -n 50\n  python -m system logs gateway auth --follow",
    )
    logs.add_argument("parts", nargs="*", metavar="PART", help="which (all)")
    logs.add_argument("-n", "--lines", type=int, default=20, help="lines of each (20)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    command(
        commands,
        "doctor",
        _doctor,
        "what this machine lacks, and what installs it",
        "Looks only; installs nothing.",
    )
    control = command(
        commands,
        "control",
        _control,
        "act on one part of a running platform",
        "`kill` ends without warning, `pause` freezes: connections stay, nothing answers.\n"
        "A trial uses these to see what the others do meanwhile. With --replicas a part's name\n"
        "means all its members; gateway-2 means one.",
    )
    control.add_argument("part", type=_part, metavar="PART", help=", ".join(PARTS))
    control.add_argument("action", choices=_ACTIONS, metavar="ACTION", help=", ".join(_ACTIONS))
    restart = command(
        commands,
        "restart",
        _restart,
        "end a part in good order and start it again",
        "With the code that lies in the project now, on the same port, with the same data:\n"
        "what one does after a change. Returns when the part serves.\n\n"
        "With --rolling one member after the other, so that nobody notices: it is taken out of\n"
        "the balance, finishes what it has, ends, starts, and is put back. Needs two of each\n"
        "(`up --replicas 2`).",
    )
    restart.add_argument("part", type=_part, nargs="?", metavar="PART", help=", ".join(PARTS))
    restart.add_argument(
        "--rolling",
        action="store_true",
        help="member by member, of PART, or of the gateway and all services",
    )

    scale = command(
        commands,
        "scale",
        _scale,
        "change how many of the gateway and of each service run, while they serve",
        "  python -m system scale gateway=3\n  python -m system scale gateway=2 auth=2\n\n"
        "New members serve before anybody asks them, and nobody asks those that end. The edge is\n"
        "reloaded when the gateways change; local processes that call a service learn of its\n"
        "members by a restart, one after the other. The target file is written again.",
    )
    scale.add_argument("numbers", nargs="+", metavar="PART=N", help=", ".join(PROGRAMS))


def _part(name: str) -> str:
    if part_of(name) not in PARTS:
        raise argparse.ArgumentTypeError(f"no part {name!r}; expected {', '.join(PARTS)}")
    return name


def _replicas(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= MOST_REPLICAS:
        raise argparse.ArgumentTypeError(f"{text!r}, expected 1 to {MOST_REPLICAS}")
    return int(text)


def _up(options: argparse.Namespace) -> int:
    # SIGINT too: a shell starts background jobs with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    if options.containers:
        if options.ports != "free":
            print("system up: --containers takes free ports", file=sys.stderr)
            return WRONG_USAGE
        from system.stack import containers

        containers.Stack(
            options.stack,
            replicas=options.replicas,
            upstream_timeout_ms=options.upstream_timeout_ms,
            detached=True,
        ).up()
        return DONE
    from system.stack.native import Stack

    Stack(
        options.stack,
        standard_ports=options.ports == "standard",
        replicas=options.replicas,
        upstream_timeout_ms=options.upstream_timeout_ms,
        detached=True,
    ).up()
    return DONE


def _down(options: argparse.Namespace) -> int:
    from system.stack.lifetime import abandoned_stacks
    from system.stack.state import StateFolder

    names = [options.stack]
    if options.all:
        names = [state.name for state in StateFolder.all_of_project()]
    elif options.stack == "default":  # what a killed trial left is nobody's any more
        names += [name for name in abandoned_stacks() if name != "default"]
    for name in names:
        stack = _stack(name)
        there = stack.state.exists()
        stack.down()
        print(f"stack {name!r} " + ("ended" if there else "was not there"))
    if options.all or options.stack == "default":
        from system.stack import docker_engine

        if docker_engine.reachable():
            from system.stack import containers

            for project in containers.sweep():
                print(f"removed what {project} had left on the Docker engine")
    return DONE


def _status(options: argparse.Namespace) -> int:
    stack = _stack(options.stack)
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
    unknown = [part for part in options.parts if part_of(part) not in PARTS]
    if unknown:
        print(f"no such part: {', '.join(unknown)}; expected {', '.join(PARTS)}", file=sys.stderr)
        return WRONG_USAGE
    members_of = _acts(state).members_of
    chosen = [member for part in options.parts for member in members_of(state, part)]
    if in_containers(state):
        if options.follow:
            from system.stack import container_logs

            container_logs.follow(state, chosen, options.lines)
            return DONE
        written = [file.stem for file in _stack(options.stack).logs()]
        chosen = chosen or written
    else:
        chosen = chosen or state.launches()
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
    from system.stack.state import StateFolder

    _act(StateFolder(options.stack), options.part, options.action)
    return DONE


def _act(state: StateFolder, part: str, action: str) -> None:
    if action == "lend" and not in_containers(state):
        raise StackError(f"a stopped {part} leaves its own port to a stand-in; `stop` it")
    _acts(state).control(state, part, action)


def _acts(state: StateFolder) -> Acts:
    """How one acts on the parts of this stack."""
    if in_containers(state):
        from system.stack import container_acts

        return container_acts
    from system.stack import acts

    return acts


def _restart(options: argparse.Namespace) -> int:
    from system.stack.state import StateFolder

    state = StateFolder(options.stack)
    if options.rolling:
        from system.stack import rolling

        steps = rolling.restart(state, options.part or tuple(PROGRAMS), _acts(state))
        for member, seconds in steps:
            print(f"{member} serves again, after {seconds:.1f} s", flush=True)
        return DONE
    if options.part is None:
        print("system restart: which PART? Only --rolling can do without", file=sys.stderr)
        return WRONG_USAGE
    _act(state, options.part, "restart")
    for member in _acts(state).members_of(state, options.part):
        found = state.process_of(member)  # none where it runs in a container
        print(f"{member} serves again" + (f", process {found.pid}" if found else ""))
    return DONE


def _scale(options: argparse.Namespace) -> int:
    from system.stack import scaling

    _stack(options.stack).scale(scaling.wanted(options.numbers))
    return DONE


def _stack(name: str) -> Stack:
    """The stack of this name, of whichever kind it was started."""
    from system.stack.state import StateFolder

    if in_containers(StateFolder(name)):
        from system.stack import containers

        return containers.Stack(name)
    from system.stack.native import Stack

    return Stack(name)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
