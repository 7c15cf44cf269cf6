"""What it takes to change how many of the gateway and of each service run, while they serve.

Who calls knows the members by lists in its environment (R0.13), which a process reads when it
starts. So a change of the services' members means that their callers restart, one after the other;
the edge, whose list is in its configuration, is rendered again and reloaded. Whoever is new serves
before anybody is told of him, and nobody ends before all have been told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from system.stack.errors import StackError, UnknownPart
from system.stack.parts import MOST_REPLICAS, PROGRAMS, SERVICES, member_names, replicas_of

# Whoever sends requests to a part's members, the edge apart. That admin asks all others how they
# are needs no restart: of each part one answer is enough, and the first member is always there.
CALLERS: Mapping[str, tuple[str, ...]] = {
    "auth": (*SERVICES[1:], "gateway"),
    "payments": ("gateway",),
    "admin": ("gateway",),
    "profile": ("gateway",),
    "gateway": (),
}


@dataclass(frozen=True)
class Plan:
    """The steps from one number of members to another, in this order.

    Attributes:
        renamed: members under their old and new names, where one becomes several.
        started: new members.
        restarted: members that have to learn of others, one after the other.
        ended: members that nobody asks any more.
        returned: members under their old and new names, where several become one.
        edge: what the edge has to learn: ``more`` gateways (before the restarts), ``fewer`` (after
            them), or nothing.
    """

    renamed: Mapping[str, str]
    started: tuple[str, ...]
    restarted: tuple[str, ...]
    ended: tuple[str, ...]
    returned: Mapping[str, str]
    edge: str = ""


def wanted(texts: list[str]) -> dict[str, int]:
    """Read ``part=number`` as the command line has it.

    Raises:
        UnknownPart: no such part can run several times.
        StackError: a number is none, or too great.
    """
    found: dict[str, int] = {}
    for text in texts:
        part, _, number = text.partition("=")
        if part not in PROGRAMS:
            raise UnknownPart(f"{part!r} runs once; expected one of {', '.join(PROGRAMS)}")
        if not number.isdecimal() or not 1 <= int(number) <= MOST_REPLICAS:
            raise StackError(f"{text!r}, expected {part}=1 to {part}={MOST_REPLICAS}")
        found[part] = int(number)
    return found


def plan(ports: Mapping[str, int], wanted: Mapping[str, int], *, by_name: bool = False) -> Plan:
    """The steps to the wanted numbers; parts that are not named stay as they are.

    Args:
        ports: of the stack as it is.
        by_name: callers find the members behind a name, so none has to learn of them.

    Raises:
        StackError: a caller that has to restart would have nobody to serve meanwhile.
    """
    before = {part: replicas_of(part, ports) for part in PROGRAMS}
    after = {**before, **wanted}
    changed = [part for part in PROGRAMS if after[part] != before[part]]
    renamed: dict[str, str] = {}
    returned: dict[str, str] = {}
    started: list[str] = []
    ended: list[str] = []
    for part in changed:
        old, new = before[part], after[part]
        if old == 1:
            renamed[part] = f"{part}-1"
        if new == 1:
            returned[f"{part}-1"] = part
        started += [f"{part}-{number}" for number in range(old + 1, new + 1)]
        ended += [f"{part}-{number}" for number in range(new + 1, old + 1)]
    restarted: list[str] = []
    for part in () if by_name else PROGRAMS:
        causes = [name for name in changed if part in CALLERS[name]]
        if causes and after[part] < 2:
            raise StackError(
                f"{part} has to restart to learn of the members of {', '.join(causes)}, and with "
                f"one {part} nothing would serve meanwhile; first `scale {part}=2`, or let {part} "
                "be the last to become one"
            )
        if causes:
            stay = range(1, min(before[part], after[part]) + 1)
            restarted += [f"{part}-{number}" for number in stay]
    more = after["gateway"] - before["gateway"]
    edge = "more" if more > 0 else "fewer" if more < 0 else ""
    return Plan(renamed, tuple(started), tuple(restarted), tuple(ended), returned, edge)


def members_after(ports: Mapping[str, int], wanted: Mapping[str, int]) -> list[str]:
    """The members of all programs once the wanted numbers are there."""
    return [
        member
        for part in PROGRAMS
        for member in member_names(part, wanted.get(part) or replicas_of(part, ports))
    ]
