"""Lets a harness see attempts and order of a consumer through probe events (R3.52, R3.53)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from system.platform.events.envelope import Event, now
from system.platform.http import errors
from system.platform.security.litestar import internal_only

KEPT_S: Final = 15 * 60
# 15 min at the highest rate of the acceptance figures would not fit; a probe is ~400 bytes.
KEPT: Final = 100_000


class ProbeFailed(Exception):
    """A probe asked this attempt to fail."""


@dataclass(slots=True)
class Probe:
    """What became of one probe in this process.

    Attributes:
        attempt_times: begin of each attempt (R0.4).
        processed_at: when its effect was committed, None before.
        place: order of effect.
    """

    event_id: str
    nonce: str
    seq: int
    first_seen: float
    attempt_times: list[str] = field(default_factory=list)
    processed_at: str | None = None
    place: int = 0

    def as_json(self) -> dict[str, Any]:
        """An entry of the answer (R3.53)."""
        return {
            "eventId": self.event_id,
            "seq": self.seq,
            "attempts": len(self.attempt_times),
            "attemptTimes": self.attempt_times,
            "processedAt": self.processed_at,
        }


class ProbeStore:
    """The probes of the last 15 minutes.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._probes: OrderedDict[str, Probe] = OrderedDict()
        self._effects = 0

    def attempt(self, event: Event, queue: str, attempts_done: int) -> None:
        """Note an attempt.

        Args:
            queue: the queue it was taken from.
            attempts_done: attempts that ended before.

        Raises:
            ProbeFailed: the probe wants this attempt on this queue to fail.
        """
        self._expire()
        data = event.data
        probe = self._probes.get(event.id)
        if probe is None:
            probe = Probe(event.id, data["nonce"], data["seq"], self._clock())
            self._probes[event.id] = probe
        # A replay resets the message's own count, not how often this probe was tried (R3.55).
        done = max(attempts_done, len(probe.attempt_times))
        probe.attempt_times.append(now())
        if data.get("failQueue") == queue and done < (data.get("failTimes") or 0):
            raise ProbeFailed(f"attempt {done + 1} of {data['failTimes']} that fail")

    def processed(self, event: Event) -> None:
        """Note that the effect of a probe is committed."""
        probe = self._probes.get(event.id)
        if probe is not None:
            self._effects += 1
            probe.place = self._effects
            probe.processed_at = now()

    def find(self, nonce: str) -> list[Probe]:
        """The probes of `nonce` in order of effect, those without effect last."""
        self._expire()
        found = [probe for probe in self._probes.values() if probe.nonce == nonce]
        return sorted(found, key=lambda probe: (probe.processed_at is None, probe.place))

    def _expire(self) -> None:
        oldest = self._clock() - KEPT_S
        while self._probes:
            probe = next(iter(self._probes.values()))
            if probe.first_seen >= oldest and len(self._probes) <= KEPT:
                return
            self._probes.popitem(last=False)


def routes(internal_token: str, store: ProbeStore | None) -> list[HTTPRouteHandler]:
    """The diagnostic routes of a service; none while diagnostics are off, so they answer 404.

    Args:
        internal_token: INTERNAL_SERVICE_TOKEN (R1.153).
        store: filled by the service's consumer; None while diagnostics are off.
    """
    if store is None:
        return []

    @get(
        "/internal/diagnostics/probes",
        guards=[internal_only(internal_token)],
        include_in_schema=False,
        sync_to_thread=False,
    )
    def probes(request: Request[Any, Any, Any]) -> dict[str, Any]:
        nonce = request.query_params.get("nonce", "")
        if not nonce:
            raise errors.validation([errors.Issue(("nonce",), "invalid_type", "Required")])
        return {"success": True, "data": [probe.as_json() for probe in store.find(nonce)]}

    return [probes]
