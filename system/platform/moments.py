"""Writes times as the system does everywhere: UTC, milliseconds, `Z` (R0.4)."""

from __future__ import annotations

from datetime import UTC, datetime


def timestamp(moment: datetime | None = None) -> str:
    """Return `YYYY-MM-DDTHH:MM:SS.sssZ` of an aware moment, or of now."""
    moment = datetime.now(UTC) if moment is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"
