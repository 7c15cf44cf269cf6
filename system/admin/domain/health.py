"""How well the whole system is, by the number of its parts that are not (R1.143)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Health(StrEnum):
    """Of a part: healthy or unhealthy; of the whole, degraded as well."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


_MOST_FOR_DEGRADED: Final = 2


def overall(parts: Mapping[str, bool]) -> Health:
    """Judge the whole: no bad part healthy, one or two degraded, more unhealthy."""
    bad = sum(not well for well in parts.values())
    if bad == 0:
        return Health.HEALTHY
    return Health.DEGRADED if bad <= _MOST_FOR_DEGRADED else Health.UNHEALTHY
