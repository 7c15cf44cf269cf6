"""Finds the highest rate that still meets a gate: by doubling, then by halving the gap."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple


class Seen(StrEnum):
    """What one rate showed."""

    MET = "met"
    MISSED = "missed"
    UNTOLD = "untold"  # the generator could not tell


class Bracket(NamedTuple):
    """Between which rates the highest one lies, in requests a second.

    Attributes:
        met: the highest rate that met the gate; None when none did.
        missed: the lowest rate above it that did not; None when the search ended before one.
        untold: whether the rate above could not be told instead of having missed.
    """

    met: float | None
    missed: float | None
    untold: bool


def search(
    look: Callable[[float], Seen], *, start: float, floor: float, ceiling: float, resolution: float
) -> Bracket:
    """Look at rates until the highest one that meets the gate is known well enough.

    Each step doubles (or, when the first misses, halves) until the other answer is seen; then the
    geometric middle is looked at until the two ends are within the resolution.

    Args:
        look: measures one rate.
        start: the first rate.
        floor, ceiling: no rate below or above is looked at.
        resolution: missed ÷ met at the end, e.g. 1.15; more than 1.
    """
    if not (0 < floor <= start <= ceiling and resolution > 1):
        raise ValueError(
            f"seen floor {floor}, start {start}, ceiling {ceiling}, resolution {resolution}; "
            "expected 0 < floor ≤ start ≤ ceiling and a resolution over 1"
        )
    met: float | None = None
    missed: float | None = None
    untold = False
    rate = start
    while floor <= rate <= ceiling:
        seen = look(rate)
        if seen is Seen.MET:
            met = rate
            if missed is not None:
                break
            rate *= 2
        else:
            missed, untold = rate, seen is Seen.UNTOLD
            if met is not None:
                break
            rate /= 2
    while met is not None and missed is not None and missed / met > resolution:
        middle = float(round(math.sqrt(met * missed)))
        if not met < middle < missed:
            break
        seen = look(middle)
        if seen is Seen.MET:
            met = middle
        else:
            missed, untold = middle, seen is Seen.UNTOLD
    return Bracket(met, missed, untold)
