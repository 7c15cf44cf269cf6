"""Asks every part of the system at once how it is (R1.143)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from system.admin.domain.health import Health, overall

# R1.143 allows 5 s.  A process that is alive says within 2 s whether it is ready (R1.54), and the
# answer has to come before the gateway gives up (3 s, R0.16), or a part that hangs would hide the
# health of all the others.
PROBE_TIMEOUT_S: Final = 2.5

# Returns when the part is well; any exception, or False, means it is not.
Probe = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Findings:
    """How the system is.

    Attributes:
        parts: by name, whether it is well.
        uptime: seconds since this process began to look.
        response_time: milliseconds the look took.
    """

    status: Health
    parts: Mapping[str, bool]
    uptime: float
    response_time: int


class SystemHealth:
    """The health of the whole.

    Args:
        probes: one for each part.
        timeout_s: seconds a part has to answer.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        probes: Mapping[str, Probe],
        *,
        timeout_s: float = PROBE_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probes = dict(probes)
        self._timeout_s = timeout_s
        self._clock = clock
        self._started = clock()

    async def look(self) -> Findings:
        """Ask every part, all at the same time."""
        began = self._clock()
        answers = await asyncio.gather(*(self._ask(probe) for probe in self._probes.values()))
        parts = dict(zip(self._probes, answers, strict=True))
        now = self._clock()
        return Findings(
            status=overall(parts),
            parts=parts,
            uptime=round(now - self._started, 3),
            response_time=round((now - began) * 1000),
        )

    async def _ask(self, probe: Probe) -> bool:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await probe() is not False
        except Exception:
            # Why is the part's own log's to say; answers show no addresses and texts (R1.55).
            return False
