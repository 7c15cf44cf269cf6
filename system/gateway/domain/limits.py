"""The limiters' arithmetic: window, credential bucket, message rate (R1.41-R1.45, R4.28)."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

# R1.43: 10 a minute with a burst of 5, so six at once and then one per 6 s.
CREDENTIAL_INTERVAL_S: Final = 6.0
CREDENTIAL_BURST: Final = 5
MESSAGES_PER_SECOND: Final = 50  # R4.28


@dataclass(frozen=True, slots=True)
class Quota:
    """How a client stands in the general window.

    Attributes:
        limit: requests allowed in a window.
        window_s: length of a window in seconds.
        used: requests counted in the present window, this one included.
        resets_in_s: seconds until the next window, rounded up.
    """

    limit: int
    window_s: int
    used: int
    resets_in_s: int

    @property
    def exceeded(self) -> bool:
        """Whether this request is one too many."""
        return self.used > self.limit

    @property
    def remaining(self) -> int:
        """Requests left in this window."""
        return max(0, self.limit - self.used)

    def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers of every counted answer (R1.42)."""
        return (
            ("RateLimit-Policy", f"{self.limit};w={self.window_s}"),
            ("RateLimit-Limit", str(self.limit)),
            ("RateLimit-Remaining", str(self.remaining)),
            ("RateLimit-Reset", str(self.resets_in_s)),
        )


def quota(limit: int, window_ms: int, used: int, left_ms: int) -> Quota:
    """State a client's quota from a counter and the milliseconds its window has left."""
    left = min(max(left_ms, 1), window_ms)
    return Quota(limit, math.ceil(window_ms / 1000), used, math.ceil(left / 1000))


@dataclass(frozen=True, slots=True)
class Admission:
    """What the credential limiter says.

    Attributes:
        allowed: the request may go on.
        full_until_s: the moment at which the whole burst is there again, to be stored.
        retry_after_s: seconds after which a refused request would pass, rounded up, at least 1.
    """

    allowed: bool
    full_until_s: float
    retry_after_s: int


def admit(
    full_until_s: float,
    now_s: float,
    interval_s: float = CREDENTIAL_INTERVAL_S,
    burst: int = CREDENTIAL_BURST,
) -> Admission:
    """Judge one request by the generic cell rate algorithm.

    Args:
        full_until_s: stored by the admission before, 0 if there was none.
        now_s: the present, on the same clock.
        interval_s: one request per so many seconds in the long run.
        burst: requests beyond the one due that may come at once.
    """
    start = max(full_until_s, now_s)
    early_by = start - burst * interval_s - now_s
    # A millisecond of grace: clocks are stored in milliseconds.
    if early_by > 0.001:
        return Admission(False, full_until_s, max(1, math.ceil(early_by)))
    return Admission(True, start + interval_s, 0)


class MessageRate:
    """Says when a client has sent more than so many messages within one second (R4.28)."""

    __slots__ = ("_times",)

    def __init__(self, limit: int = MESSAGES_PER_SECOND) -> None:
        self._times: deque[float] = deque(maxlen=limit)

    def exceeded(self, now_s: float) -> bool:
        """Count a message; True if it is one too many in the second that ends with it."""
        times = self._times
        full = len(times) == times.maxlen and now_s - times[0] < 1.0
        times.append(now_s)
        return full
