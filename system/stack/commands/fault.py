"""Faults between a part and one dependency: cut, slow, lose, heal."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from system.stack.commands.words import DONE, Commands, command, group, in_containers
from system.stack.errors import StackError
from system.stack.parts import DATABASES, PROGRAMS, part_of

_MOST_MILLISECONDS = 60_000


def add(commands: Commands) -> None:
    """Add these commands to the command line."""
    acts = group(
        commands,
        "fault",
        "disturb the way between a part and one dependency (containers only)",
        "A dependency that is stopped refuses; one that is cut off, far away or behind a bad\n"
        "line does not. These disturb what PART and DEPENDENCY send each other, both ways,\n"
        "also on connections that exist already, and nobody else:\n\n"
        "  python -m system fault cut payments rabbitmq\n"
        "  python -m system fault slow auth postgres-auth --milliseconds 100\n"
        "  python -m system fault lose gateway redis --percent 5\n"
        "  python -m system fault heal payments rabbitmq\n\n"
        "PART is the gateway or a service; DEPENDENCY is rabbitmq, redis or the service's own\n"
        "postgres-<service>. One fault at a time for each way: the next replaces it. All end\n"
        "with `heal`, with the part (stop, restart) and with `down`.",
    )
    _add(acts, "cut", "nothing gets through, and nobody says so")
    slow = _add(acts, "slow", "everything arrives later, each way")
    slow.add_argument(
        "--milliseconds",
        dest="amount",
        type=_amount(_MOST_MILLISECONDS),
        required=True,
        metavar="N",
        help="how much later; a round trip takes twice as much more",
    )
    lose = _add(acts, "lose", "some packets get lost, each way")
    lose.add_argument(
        "--percent",
        dest="amount",
        type=_amount(100),
        required=True,
        metavar="N",
        help="of all packets, drawn by lot",
    )
    _add(acts, "heal", "end whichever of these is in force")


def _add(acts: Commands, act: str, short: str) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = command(
        acts, act, _fault, short, "Returns when it is so; doing it again changes nothing."
    )
    added.set_defaults(amount=None)
    added.add_argument("part", type=_program, metavar="PART", help=", ".join(PROGRAMS))
    added.add_argument(
        "dependency",
        choices=("rabbitmq", "redis", *DATABASES),
        metavar="DEPENDENCY",
        help="rabbitmq, redis, or the service's own postgres-<service>",
    )
    return added


def _program(name: str) -> str:
    if part_of(name) not in PROGRAMS:
        raise argparse.ArgumentTypeError(f"seen {name!r}, expected {', '.join(PROGRAMS)}")
    return name


def _amount(most: int) -> Callable[[str], float]:
    def amount(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value <= most:
            raise argparse.ArgumentTypeError(f"seen {text!r}, expected more than 0, at most {most}")
        return value

    return amount


def _fault(options: argparse.Namespace) -> int:
    from system.stack import network_faults
    from system.stack.state import StateFolder

    state = StateFolder(options.stack)
    state.read()
    if not in_containers(state):
        raise StackError("local processes share one network; `up --containers` gives each its own")
    network_faults.disturb(state, options.part, options.dependency, options.action, options.amount)
    return DONE
