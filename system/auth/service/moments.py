"""The clock of auth."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The time in whole milliseconds, the precision of the database (R2.1)."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
