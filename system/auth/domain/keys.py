"""Names and dates of signing keys: what a rotation decides (R1.95-R1.98)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

# R1.98
EXPIRING_WITHIN: Final = timedelta(days=30)
# Clocks may differ by 5 s (R1.25), and another process may sign once more with the old key.
RETIREMENT_MARGIN: Final = timedelta(minutes=1)


class KeyKind(StrEnum):
    """What a key signs (R2.9)."""

    JWT = "jwt"
    REFRESH = "refresh"


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """What may be told of a key (R1.95, R1.99).

    Attributes:
        kind: what it signs.
        kid: its name.
        created_at: UTC.
        expires_at: of the active key when it is due for rotation, of another when it stops to
            verify; None: never.
        is_active: it signs.
        can_verify: tokens signed with it may be accepted.
    """

    kind: KeyKind
    kid: str
    created_at: datetime
    expires_at: datetime | None
    is_active: bool
    can_verify: bool

    def verifies(self, now: datetime) -> bool:
        """Whether tokens signed with it are accepted; an active key is never cut off."""
        return self.can_verify and (
            self.is_active or self.expires_at is None or now < self.expires_at
        )

    def is_due(self, now: datetime) -> bool:
        """Whether it signs and should be rotated soon (R1.98)."""
        return (
            self.is_active
            and self.expires_at is not None
            and self.expires_at - now <= EXPIRING_WITHIN
        )

    def days_left(self, now: datetime) -> int:
        """Whole days until it expires, 0 when that is over."""
        if self.expires_at is None:
            raise ValueError(f"key {self.kid} never expires")
        return max(0, math.ceil((self.expires_at - now) / timedelta(days=1)))


@dataclass(frozen=True, slots=True)
class Rotation:
    """A change of the signing key (R2.10)."""

    kind: KeyKind
    old_kid: str | None
    new_kid: str
    triggered_by: str
    reason: str
    rotated_at: datetime


def new_kid(now: datetime, random: str) -> str:
    """`key-YYYY-MM-DD-<8 hex>` (R1.23)."""
    return f"key-{now:%Y-%m-%d}-{random[:8]}"
