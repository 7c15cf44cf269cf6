"""Writes times as the system does everywhere: UTC, milliseconds, `Z` (R0.4)."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache


def timestamp(moment: datetime | None = None) -> str:
    """Return `YYYY-MM-DDTHH:MM:SS.sssZ` of an aware moment, or of now."""
    moment = datetime.now(UTC) if moment is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


def now() -> str:
    """Return the present as `timestamp` does, at a third of the cost: for what is written often."""
    milliseconds = time.time_ns() // 1_000_000
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
