"""The Universal Scalability Law, fitted to what was seen at several rates.

Gunther's law says what throughput N requests in flight bring:

    X(N) = λN ÷ (1 + σ(N−1) + κN(N−1))

with σ the share that has to wait in line and κ what it costs that each has to agree with each.
Little's law, N = X·R, makes it a line in three unknowns, fitted by least squares without numbers
below zero:

    R(N) = r + bN + cN(N−1),   λ = 1 ÷ (r + b),   σ = b ÷ (r + b),   κ = c ÷ (r + b)

where R is the mean latency and r what it would be on an idle platform. Without c this is a queue in
front of one server, whose throughput never passes 1 ÷ b.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

LEAST_POINTS = 4
_REPLICATES = 400
_TAIL = (0.025, 0.975)


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One rate, second by second, while the platform kept up with it.

    Attributes:
        answers: answers in each second.
        waited: seconds that those answers took together, from the due time.
    """

    answers: tuple[int, ...]
    waited: tuple[float, ...]


class Law(msgspec.Struct, frozen=True, kw_only=True):
    """The fitted law.

    Attributes:
        idle: r, seconds.
        queueing: b, seconds.
        coherency: c, seconds.
        peak: the highest throughput it allows, requests a second; None when it sees no end.
        peak_interval: 95 %, by a bootstrap over seconds; None for an end that is not seen.
        highest_seen: the highest throughput among the points.
        fit_error: the largest relative difference between the points' latency and the law's.
        points: how many.
    """

    idle: float
    queueing: float
    coherency: float
    peak: float | None
    peak_interval: tuple[float | None, float | None]
    highest_seen: float
    fit_error: float
    points: int

    @property
    def throughput_of_one(self) -> float:
        """λ: requests a second with one in flight."""
        return 1.0 / (self.idle + self.queueing)

    @property
    def contention(self) -> float:
        """σ."""
        return self.queueing / (self.idle + self.queueing)

    @property
    def crosstalk(self) -> float:
        """κ."""
        return self.coherency / (self.idle + self.queueing)

    @property
    def extrapolation(self) -> float | None:
        """How many times the highest throughput seen the peak lies; over 1 is a guess."""
        return None if self.peak is None else self.peak / self.highest_seen


class TooFewPoints(ValueError):
    """A law with three unknowns needs at least four points."""


def fit(points: Sequence[Point], *, seed: int = 1) -> Law:
    """Fit the law.

    Args:
        points: rates with which the platform kept up; beyond, N and R only grow with time.
        seed: of the bootstrap.

    Raises:
        TooFewPoints: fewer than `LEAST_POINTS`.
    """
    if len(points) < LEAST_POINTS:
        raise TooFewPoints(f"{len(points)} rates, expected at least {LEAST_POINTS}")
    series = [(np.array(p.answers, dtype=float), np.array(p.waited)) for p in points]
    flight, latency, throughput = _means(series)
    parameters = _least_squares(flight, latency)
    random = np.random.default_rng(seed)
    peaks = []
    for _ in range(_REPLICATES):
        drawn = [
            (answers[chosen], waited[chosen])
            for answers, waited in series
            for chosen in [random.integers(0, len(answers), len(answers))]
        ]
        peak = _peak(*_least_squares(*_means(drawn)[:2]))
        peaks.append(math.inf if peak is None else peak)
    low, high = (float(np.quantile(peaks, share, method="nearest")) for share in _TAIL)
    expected = _latency(flight, *parameters)
    return Law(
        idle=parameters[0],
        queueing=parameters[1],
        coherency=parameters[2],
        peak=_peak(*parameters),
        peak_interval=(_finite(low), _finite(high)),
        highest_seen=float(throughput.max()),
        fit_error=float(np.max(np.abs(expected - latency) / latency)),
        points=len(points),
    )


_Arrays = NDArray[np.float64]


def _means(series: Sequence[tuple[_Arrays, _Arrays]]) -> tuple[_Arrays, _Arrays, _Arrays]:
    """Requests in flight, mean latency and throughput of each point."""
    answers = np.array([max(1.0, a.sum()) for a, _ in series])
    throughput = answers / np.array([len(a) for a, _ in series])
    latency = np.array([w.sum() for _, w in series]) / answers
    return throughput * latency, latency, throughput


def _least_squares(flight: _Arrays, latency: _Arrays) -> tuple[float, float, float]:
    """The parameters, none below zero, with the least squared relative error."""
    columns = np.stack([np.ones_like(flight), flight, flight * (flight - 1.0)], axis=1)
    scaled, ones = columns / latency[:, None], np.ones_like(latency)
    best, least = (0.0, 0.0, 0.0), math.inf
    # Three unknowns: every choice of those that are not zero is tried, which is exact.
    for size in (1, 2, 3):
        for kept in itertools.combinations(range(3), size):
            found = np.linalg.lstsq(scaled[:, kept], ones, rcond=None)[0]
            if (found < 0).any():
                continue
            error = float(((scaled[:, kept] @ found - ones) ** 2).sum())
            if error < least - 1e-15:
                full = np.zeros(3)
                full[list(kept)] = found
                best, least = (float(full[0]), float(full[1]), float(full[2])), error
    return best


def _latency(flight: _Arrays, idle: float, queueing: float, coherency: float) -> _Arrays:
    found: _Arrays = idle + queueing * flight + coherency * flight * (flight - 1.0)
    return found


def _peak(idle: float, queueing: float, coherency: float) -> float | None:
    """The highest throughput; without coherency it is approached and never reached."""
    if coherency > 0.0 and idle > 0.0:
        flight = math.sqrt(idle / coherency)
        return flight / (idle + queueing * flight + coherency * flight * (flight - 1.0))
    return 1.0 / queueing if queueing > 0.0 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
