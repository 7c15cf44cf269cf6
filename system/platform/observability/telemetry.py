"""Starts and ends what reports about a process to the outside: traces and errors (R7.18, R7.19)."""

from __future__ import annotations

from system.platform.config.settings import Settings
from system.platform.observability import error_reports, trace_export


def start(settings: Settings) -> None:
    """Begin what the settings want; never fails or waits for want of a receiver (R0.10)."""
    trace_export.start(settings)
    error_reports.start(settings)


def stop() -> None:
    """Send what is left, within 5 s in all (R7.18)."""
    trace_export.stop()
    error_reports.stop()
