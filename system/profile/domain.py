"""What a profile is: a few facts about one user, and preferences that are merged, not replaced.

Profile · UserDeleted
"""

from __future__ import annotations

import base64
import binascii
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

# R1.149
PHONE_MINIMUM: Final = 10
PHONE_MAXIMUM: Final = 20
PHONE_PATTERN: Final = r"[+]?[0-9\s().\-/]+"
ADDRESS_LIMIT: Final = 500
BIO_LIMIT: Final = 1000
# R1.150, characters.
AVATAR_URL_LIMIT: Final = 2048
AVATAR_PAYLOAD_LIMIT: Final = 2_796_204
# R1.151
THEMES: Final = ("light", "dark", "system")
LANGUAGE_PATTERN: Final = r"[a-z]{2}(-[A-Z]{2})?"
CHANNELS: Final = ("email", "push", "sms")
# R1.101 lists them; each service holds its own, as none may import another.
CURRENCIES: Final = (
    *("USD", "EUR", "GBP", "JPY", "AUD", "CAD", "CHF", "CNY", "INR", "MXN", "BRL", "KRW", "SGD"),
    *("HKD", "NOK", "SEK", "DKK", "NZD", "ZAR", "RUB", "AED", "SAR", "THB", "MYR", "IDR", "PHP"),
    *("VND", "PLN", "CZK", "HUF", "ILS", "TRY", "TWD", "CLP", "COP", "PEN", "ARS", "EGP", "NGN"),
    "KES",
)

# Names the machine's own files add to those of the IANA database.
_NO_ZONES: Final = frozenset({"localtime", "posixrules", "leapseconds", "tzdata.zi"})

_KINDS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "data:image/png;base64,": (b"\x89PNG\r\n\x1a\n",),
    "data:image/jpeg;base64,": (b"\xff\xd8\xff",),
    "data:image/gif;base64,": (b"GIF87a", b"GIF89a"),
    "data:image/webp;base64,": (b"RIFF",),
}
_WEBP: Final = b"WEBP"
# May stand in no URL; a browser would drop or replace them, so nobody sees what was checked.
_FORBIDDEN_IN_URL: Final = frozenset('<>"`\\^{|}')


@dataclass(frozen=True, slots=True)
class Profile:
    """The facts about one user (R1.144).

    Attributes:
        id: of the profile, not of the user.
        preferences: as R1.151, and whatever an imported profile had besides.
    """

    id: str
    user_id: str
    avatar_url: str | None
    phone: str | None
    address: str | None
    bio: str | None
    preferences: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class UserDeleted:
    """A user is gone (R3.27), and so must the profile be (R1.152).

    Attributes:
        user_id: whose profile it was.
    """

    user_id: str


def is_avatar(value: str) -> bool:
    """Say whether this may be an avatar: an https URL, or an image of an allowed kind (R1.150)."""
    if value.startswith("data:"):
        return _is_image(value)
    if len(value) > AVATAR_URL_LIMIT:
        return False
    if any(sign.isspace() or not sign.isprintable() for sign in value):
        return False
    if _FORBIDDEN_IN_URL & set(value):
        return False
    try:
        parts = urlsplit(value)
        # Reading the port checks it.
        return parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_image(value: str) -> bool:
    head, comma, payload = value.partition(",")
    beginnings = _KINDS.get(head + comma)
    if beginnings is None or len(payload) > AVATAR_PAYLOAD_LIMIT:
        return False
    try:
        content = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        return False
    if not content.startswith(beginnings):
        return False
    return beginnings != (b"RIFF",) or content[8:12] == _WEBP


@lru_cache(maxsize=1)
def timezones() -> frozenset[str]:
    """Return every name of the IANA database (R1.151), as this machine has it."""
    return frozenset(zoneinfo.available_timezones() - _NO_ZONES) | {"UTC"}


def merged(preferences: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return preferences with the changes in them; what is not named keeps its value (R1.151)."""
    result = dict(preferences)
    for name, value in changes.items():
        if isinstance(value, Mapping):
            known = result.get(name)
            inner = merged(known if isinstance(known, Mapping) else {}, value)
            if inner:
                result[name] = inner
        else:
            result[name] = value
    return result


def changed(before: Profile, wanted: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return the facts that differ from what the profile says, by attribute name."""
    return {name: value for name, value in wanted.items() if getattr(before, name) != value}
