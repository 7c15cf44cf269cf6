"""The parts of the platform by name, in the order in which they depend on each other.

A part that runs once is its own only member. One that runs several times has members with a
number: ``gateway-1``, ``gateway-2``. Only `PROGRAMS` can.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

SERVICES = ("auth", "payments", "admin", "profile")
DATABASES = tuple(f"postgres-{service}" for service in SERVICES)
PROGRAMS = (*SERVICES, "gateway")  # our own Python processes
MOST_REPLICAS = 8  # of each of them
PARTS = ("edge", "gateway", *SERVICES, *DATABASES, "rabbitmq", "redis")

# The legacy database, which is started on demand only (`python -m system legacy up`).
LEGACY = "postgres-legacy"
OPTIONAL = (LEGACY,)

# What is ended first: those who use, then those who are used.
ENDING_ORDER = (
    ("edge",),
    ("gateway", *SERVICES),
    (*DATABASES, LEGACY, "rabbitmq", "redis"),
)

# Executables whose environment cannot be read back, because they write their title over it.
TITLED_PROGRAMS = ("postgres", "nginx")

_MEMBER = re.compile(rf"({'|'.join(PROGRAMS)})-([1-9][0-9]*)")


def part_of(name: str) -> str:
    """The part that a member belongs to; a part's own name is given back as it is."""
    found = _MEMBER.fullmatch(name)
    return found[1] if found else name


def number_of(member: str) -> int:
    """A member's number; 1 for the only one."""
    found = _MEMBER.fullmatch(member)
    return int(found[2]) if found else 1


def member_names(part: str, replicas: int) -> tuple[str, ...]:
    """The members of a part of which there are so many."""
    if replicas == 1 or part not in PROGRAMS:
        return (part,)
    return tuple(f"{part}-{number}" for number in range(1, replicas + 1))


def with_members(parts: Iterable[str], ports: Mapping[str, int]) -> list[str]:
    """The members of all these parts in a stack with these ports, in the parts' order."""
    return [member for part in parts for member in member_names(part, replicas_of(part, ports))]


def port_name(member: str) -> str:
    """What a member's port is called: the first one has the part's own (R0.6)."""
    return part_of(member) if number_of(member) == 1 else member


def replicas_of(part: str, ports: Mapping[str, int]) -> int:
    """How many of a part a stack with these ports has."""
    return max((number_of(name) for name in ports if part_of(name) == part), default=1)


def database_of(service: str) -> str:
    """The part that holds a service's database."""
    return f"postgres-{service}"
