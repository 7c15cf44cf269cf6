"""Devices: what a user signs in from, known by an id that the device chose itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

# R1.67
DEVICE_ID_PATTERN: Final = r"[A-Za-z0-9._-]{1,128}"
_DEVICE_ID: Final = re.compile(DEVICE_ID_PATTERN)


class DeviceType(StrEnum):
    """What a device is (R1.86)."""

    BROWSER = "browser"
    MOBILE = "mobile"
    DESKTOP = "desktop"


@dataclass(frozen=True, slots=True)
class Device:
    """A device of one user (R2.6).

    Attributes:
        id: UUID of the row.
        user_id: whose it is.
        device_id: the device's own id, unique for the user only.
        name: what the user calls it, None until it is named.
        type: browser, unless the device said otherwise.
        user_agent: agent at its last login or registration, if sent.
        last_active_at: last login, registration or refresh, UTC.
        created_at: UTC.
    """

    id: str
    user_id: str
    device_id: str
    name: str | None
    type: DeviceType
    user_agent: str | None
    last_active_at: datetime
    created_at: datetime


def named_device(header: str | None) -> str | None:
    """Return the device id of an `X-Device-ID` header; None if it names no device (R1.67)."""
    if header is None or _DEVICE_ID.fullmatch(header) is None:
        return None
    return header
