"""Ports for the parts of a stack: free ones, or the contract's (R0.6)."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Callable, Iterable

from system.stack.errors import PortsTaken
from system.stack.parts import PROGRAMS, member_names, port_name

STANDARD = {
    "edge-http": 80,
    "edge-https": 443,
    "gateway": 3000,
    "auth": 3001,
    "payments": 3002,
    "admin": 3003,
    "profile": 3004,
    "postgres-auth": 5432,
    "postgres-payments": 5433,
    "postgres-admin": 5434,
    "postgres-profile": 5435,
    "postgres-legacy": 5436,
    "rabbitmq": 5672,
    "rabbitmq-management": 15672,
    "rabbitmq-metrics": 15692,
    "redis": 6379,
}
ERLANG = ("rabbitmq-distribution", "epmd")
NAMES = (*STANDARD, *ERLANG)

# Below the range from which Linux takes the ports of outgoing connections: a part that is
# restarted must find its own port again.
FIRST, LAST = 20000, 32000


def names(replicas: int = 1) -> tuple[str, ...]:
    """What has a port in a stack with so many of each program."""
    members = (member for part in PROGRAMS for member in member_names(part, replicas))
    return tuple(dict.fromkeys((*NAMES, *map(port_name, members))))


def free(
    wanted: Iterable[str] = NAMES,
    *,
    usable: Callable[[int], bool] | None = None,
    seed: int | None = None,
) -> dict[str, int]:
    """One free loopback port for each name.

    Args:
        usable: says whether a port is free; by default it is tried on 127.0.0.1 and ::1.
        seed: makes the choice repeatable, for tests.

    Raises:
        PortsTaken: no free port was found for a name.
    """
    usable = usable or available
    candidates = random.Random(seed).sample(range(FIRST, LAST), 2000)
    chosen: dict[str, int] = {}
    for name in wanted:
        while candidates:
            port = candidates.pop()
            if usable(port):
                chosen[name] = port
                break
        else:
            raise PortsTaken(f"no free port between {FIRST} and {LAST} for {name}")
    return chosen


def standard(replicas: int = 1, *, usable: Callable[[int], bool] | None = None) -> dict[str, int]:
    """The contract's ports; free ones for what it says nothing of: Erlang's, further members'.

    Raises:
        PortsTaken: some of them are in use, or not allowed to this user.
    """
    usable = usable or available
    taken = {name: port for name, port in STANDARD.items() if not usable(port)}
    if taken:
        listed = ", ".join(f"{port} ({name})" for name, port in taken.items())
        raise PortsTaken(
            f"ports in use or not allowed to this user: {listed}; expected them free. "
            "End what listens there (`ss -ltnp` shows it), or use free ports (`--ports free`)"
        )
    further = [name for name in names(replicas) if name not in STANDARD]
    return STANDARD | free(further, usable=usable)


def available(port: int) -> bool:
    """True when this process could listen on the port on both loopback addresses."""
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if family is socket.AF_INET6 and error.errno == errno.EADDRNOTAVAIL:
                    continue  # a machine without IPv6
                return False
    return True
