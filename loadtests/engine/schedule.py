"""Due times: when each request of a plan is to be sent, whatever happens to the earlier ones."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from loadtests.engine.plan import Arrivals, Schedule


def due_times(schedule: Schedule) -> NDArray[np.float64]:
    """Every due time of a schedule, in seconds since its start, rising.

    Constant arrivals are evenly spaced. Poisson arrivals are a Poisson process conditioned on its
    count: rate × seconds arrivals, each uniform over the schedule, so that two runs of one rate
    always hold equally many samples.
    """
    count = max(1, round(schedule.rate * schedule.seconds))
    if schedule.arrivals is Arrivals.CONSTANT:
        return np.arange(count, dtype=np.float64) / schedule.rate
    generator = np.random.default_rng(schedule.seed)
    return np.sort(generator.uniform(0.0, schedule.seconds, count))


class LiveSchedule:
    """Due times one after the other, at a rate that may be changed meanwhile (for Locust).

    Args:
        arrivals: evenly spaced or a Poisson process.
        seed: makes the Poisson process repeatable.
    """

    def __init__(self, arrivals: Arrivals, seed: int) -> None:
        self._constant = arrivals is Arrivals.CONSTANT
        self._random = random.Random(seed)
        self._rate = 0.0
        self._last = 0.0
        # How much of an interval (in units of its mean) is left; a change of rate keeps it, so
        # that changing the rate often neither loses nor adds arrivals.
        self._left = self._draw()

    def _draw(self) -> float:
        return 1.0 if self._constant else self._random.expovariate(1.0)

    def change_rate(self, rate: float, now: float) -> None:
        """Go on at another rate (requests a second, 0 pauses) from now (seconds since start)."""
        if now > self._last:
            self._left = max(0.0, self._left - (now - self._last) * self._rate)
            self._last = now
        self._rate = rate

    @property
    def next_due(self) -> float:
        """The next due time in seconds since start; infinite while paused."""
        return self._last + self._left / self._rate if self._rate > 0 else float("inf")

    def advance(self) -> float:
        """Take the next due time, and go on to the one after it."""
        self._last = self.next_due
        self._left = self._draw()
        return self._last
