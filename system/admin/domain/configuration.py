"""The system's configuration: values under names (R1.140, R2.17)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

KEY_PATTERN: Final = r"[a-z][a-z0-9_.-]{0,127}"
VALUE_LIMIT: Final = 10_240  # bytes
DESCRIPTION_LIMIT: Final = 500


@dataclass(frozen=True, slots=True)
class Setting:
    """One value.

    Attributes:
        value: any JSON value.
        updated_by: the administrator who set it; None for what the system came with.
    """

    key: str
    value: Any
    description: str | None
    updated_at: datetime
    updated_by: str | None
