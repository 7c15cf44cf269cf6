"""What the parts of a target have used so far: CPU and memory by their own /metrics (R7.13).

What tells nothing (edge, databases, broker, cache) is seen on a target of this machine only, as
the rest of the machine's CPU, which is everybody's who works on it meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from harness.target import Target
from loadtests.bench import usage
from loadtests.capacity.machines import REST

_STAT: Final = Path("/proc/stat")
_IDLE: Final = (3, 4)  # idle and waiting for a disk; 7 onwards is others' or counted before
_COUNTED: Final = 7
_QUIET: Final = 0.1  # of all cores


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """The counters at one moment.

    Attributes:
        at: seconds of a clock that only goes forward.
        cpu: CPU seconds of each part so far, all its members.
        memory: resident bytes of each part now, all its members.
        machine: CPU seconds of the whole machine so far; None if the target is on another.
        own: CPU seconds of this process and of the load generators it has waited for.
    """

    at: float
    cpu: dict[str, float]
    memory: dict[str, float]
    machine: float | None
    own: float


def read(target: Target) -> Used:
    """The counters of every part whose metrics the target file grants.

    Raises:
        CouldNotObserve: a part that is granted does not tell.
    """
    cpu, memory = {}, {}
    for part in target.services:
        members = target.members_of(part)
        cpu[part] = sum(usage.cpu_seconds(url) for url in members)
        memory[part] = sum(usage.read(url, "process_resident_memory_bytes") for url in members)
    return Used(
        at=time.monotonic(),
        cpu=cpu,
        memory=memory,
        machine=machine_seconds() if target.on_loopback() else None,
        own=sum(os.times()[:4]),  # user and system, ours and our children's
    )


def machine_seconds(stat: Path = _STAT) -> float | None:
    """CPU seconds that this machine has worked so far; None where it does not say."""
    try:
        fields = stat.read_text(encoding="ascii").split("\n", 1)[0].split()[1 : 1 + _COUNTED]
    except OSError:
        return None
    busy = sum(int(value) for place, value in enumerate(fields) if place not in _IDLE)
    return busy / os.sysconf("SC_CLK_TCK")


def rates(before: Used, after: Used) -> dict[str, float]:
    """CPU seconds a second of each part and of the rest of the machine, e.g. at rest."""
    span = max(1e-9, after.at - before.at)
    return {part: seconds / span for part, seconds in spent(before, after, {}).items()}


def is_quiet(at_rest: Mapping[str, float], cores: int = os.cpu_count() or 1) -> bool:
    """Whether so little else runs on this machine that the rest of its CPU is the platform's.

    Args:
        at_rest: as `rates` gave it.
        cores: of the machine.
    """
    return at_rest.get(REST, 0.0) <= _QUIET * cores


def spent(before: Used, after: Used, at_rest: Mapping[str, float]) -> dict[str, float]:
    """CPU seconds between two readings, less what the parts use when nobody asks them anything.

    Args:
        before, after: the readings.
        at_rest: as `rates` gave it.

    Returns:
        of each part; of `REST` only on a quiet machine, as others' work cannot be taken off.
    """
    span = after.at - before.at
    parts = {part: after.cpu[part] - before.cpu[part] for part in after.cpu}
    if before.machine is not None and after.machine is not None and is_quiet(at_rest):
        own = after.own - before.own  # generators and their figures are no part's
        parts[REST] = after.machine - before.machine - own - sum(parts.values())
    return {
        part: max(0.0, seconds - at_rest.get(part, 0.0) * span) for part, seconds in parts.items()
    }
