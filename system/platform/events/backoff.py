"""Computes growing delays between attempts (R3.19, R3.20)."""

from __future__ import annotations

import random


class Backoff:
    """Delays of `first` seconds, doubled each time up to `most`, each ±25 % and none above `most`.

    Args:
        first: seconds before the second attempt.
        most: upper bound in seconds, jitter included.
    """

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self._failures = 0

    def next(self) -> float:
        """Return the seconds to wait after one more failure."""
        # 2**30 s is past every bound; without it a long outage would overflow a float.
        nominal = min(self._most, self._first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return min(self._most, nominal * random.uniform(0.75, 1.25))

    def reset(self) -> None:
        """Start again with the first delay."""
        self._failures = 0
