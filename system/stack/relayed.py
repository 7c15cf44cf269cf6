"""Which port of the relay leads to which member, where a part runs in several containers.

The relay's own table (system/images/relay.py) knows parts by their names, which stand for all
members at once; a trial needs each of them. A container is found by its own name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from system.stack.parts import PROGRAMS, member_names, number_of, part_of, port_name
from system.stack.ports import STANDARD

# Ports of the relay besides R0.6's: 443 and 3000 take a PROXY line, this one does not.
GATEWAY_WITHOUT_ADDRESS = 3100
_STEP = 10  # from a member's port to the next one's
# The relay cannot be told of further members while it runs, so it leads to one more at once.
_SPARE = 1
_EDGE = ("edge-https", "edge-http")


def inner_ports(replicas: int) -> dict[str, int]:
    """The relay's port for each port of a stack, and for each place that takes a PROXY line.

    Args:
        replicas: of each program at the start; there are ports for `_SPARE` more.
    """
    most = replicas + _SPARE
    inner = {name: port for name, port in STANDARD.items() if name not in _EDGE}
    inner |= {port_name(member): _plain(member) for member in _members(most)}
    inner["relay-edge"] = STANDARD["edge-https"]
    return inner | {
        relay_name(member): _as_client(member) for member in member_names("gateway", most)
    }


def relay_name(gateway: str) -> str:
    """What the port is called that leads to a gateway from a client's address."""
    return f"relay-{port_name(gateway)}"


def additions(project: str, replicas: int) -> dict[str, Any]:
    """What compose.yaml lacks for several members."""
    members = _members(replicas + _SPARE)
    gateways = member_names("gateway", replicas + _SPARE)
    return {
        "services": {
            "relay": {
                "ports": [
                    f"127.0.0.1::{port}"
                    for member in members
                    if number_of(member) > 1
                    for port in (
                        _plain(member),
                        *([_as_client(member)] if member in gateways else ()),
                    )
                ],
                "environment": {
                    "PLACES": _listed({_plain(m): _place(project, m) for m in members}),
                    "PLACES_AS_CLIENT": _listed(
                        {_as_client(m): _place(project, m) for m in gateways}
                    ),
                },
            }
        }
    }


def used(relay_ports: Mapping[str, int], members: Collection[str]) -> dict[str, int]:
    """The ports of the relay that lead somewhere while there are these members of the programs."""
    there = {port_name(member) for member in members}
    there |= {relay_name(member) for member in members if part_of(member) == "gateway"}
    return {
        name: port
        for name, port in relay_ports.items()
        if name in there or part_of(name.removeprefix("relay-")) not in PROGRAMS
    }


def _members(replicas: int) -> list[str]:
    return [member for part in PROGRAMS for member in member_names(part, replicas)]


def _plain(member: str) -> int:
    part = part_of(member)
    first = GATEWAY_WITHOUT_ADDRESS if part == "gateway" else STANDARD[part]
    return first + _STEP * (number_of(member) - 1)


def _as_client(gateway: str) -> int:
    return STANDARD["gateway"] + _STEP * (number_of(gateway) - 1)


def _place(project: str, member: str) -> str:
    """A member's container by compose's name for it, and its port."""
    part = part_of(member)
    return f"{project}-{part}-{number_of(member)}:{STANDARD[part]}"


def _listed(places: Mapping[int, str]) -> str:
    return ",".join(f"{port}={place}" for port, place in places.items())
