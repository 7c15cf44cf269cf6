"""Lists every event of the system with the rule its data keeps (R3.22-R3.40)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from system.platform.observability.metrics import OTHER

# A rule returns None for a good value, else what was expected.
Rule = Callable[[Any], str | None]

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME: Final = re.compile(
    r"\d{4}-(0[1-9]|1[0-2])-([0-2]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d"
    r"(\.\d{1,9})?Z"
)
_AMOUNT: Final = re.compile(r"\d{1,10}\.\d{2}")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")


def text(value: Any) -> str | None:
    """Any string."""
    return None if isinstance(value, str) else "a string"


def text_or_null(value: Any) -> str | None:
    """Any string, or null."""
    return None if value is None or isinstance(value, str) else "a string or null"


def filled(value: Any) -> str | None:
    """A string that is not empty."""
    return None if isinstance(value, str) and value else "a string that is not empty"


def uuid(value: Any) -> str | None:
    """A UUID in lower case (R0.4)."""
    return None if isinstance(value, str) and _UUID.fullmatch(value) else "a UUID in lower case"


def uuid_or_null(value: Any) -> str | None:
    """A UUID in lower case, or null."""
    return None if value is None else uuid(value) and "a UUID in lower case or null"


def time(value: Any) -> str | None:
    """A UTC time (R0.4)."""
    good = isinstance(value, str) and _TIME.fullmatch(value)
    return None if good else "a time YYYY-MM-DDTHH:MM:SS.sssZ"


def boolean(value: Any) -> str | None:
    """True or false."""
    return None if isinstance(value, bool) else "a boolean"


def integer(value: Any) -> str | None:
    """A whole number."""
    good = isinstance(value, int) and not isinstance(value, bool)
    return None if good else "an integer"


def texts(value: Any) -> str | None:
    """An array of strings."""
    good = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    return None if good else "an array of strings"


def amount(value: Any) -> str | None:
    """An amount of money, always with two decimals (R1.102)."""
    good = isinstance(value, str) and _AMOUNT.fullmatch(value)
    return None if good else "an amount with two decimals as a string"


def currency(value: Any) -> str | None:
    """Three capital letters."""
    good = isinstance(value, str) and _CURRENCY.fullmatch(value)
    return None if good else "three capital letters"


def one_of(*choices: str) -> Rule:
    """One of the given strings."""

    def rule(value: Any) -> str | None:
        return None if value in choices else "one of " + ", ".join(choices)

    return rule


@dataclass(frozen=True, slots=True)
class Kind:
    """What is agreed about one type of event.

    Attributes:
        publishers: short names of the services that publish it.
        event_type: value of `metadata.eventType`.
        required: rule of each field that `data` must have.
        optional: rule of each field that `data` may have, null allowed.
    """

    publishers: tuple[str, ...]
    event_type: str
    required: Mapping[str, Rule]
    optional: Mapping[str, Rule]


_ROLE: Final = one_of("ADMIN", "CUSTOMER", "VENDOR")
_SNAPSHOT: Final[Mapping[str, Rule]] = {
    "userId": uuid,
    "email": filled,
    "name": text,
    "role": _ROLE,
    "status": one_of("active", "suspended"),
    "emailVerified": boolean,
    "userVersion": integer,
}
_PARTIES: Final[Mapping[str, Rule]] = {
    "paymentId": uuid,
    "senderId": uuid,
    "recipientId": uuid_or_null,
    "amount": amount,
    "currency": currency,
    "status": one_of("pending", "processing", "completed", "failed", "cancelled"),
}
_NONE: Final[Mapping[str, Rule]] = {}

REVOKE_REASONS: Final = (
    "logout",
    "password_changed",
    "role_changed",
    "suspended",
    "deleted",
    "device_revoked",
    "session_revoked",
    "logout_others",
    "token_reuse",
)


def _auth(event_type: str, required: Mapping[str, Rule], **optional: Rule) -> Kind:
    return Kind(("auth",), event_type, required, optional)


def _payment(required: Mapping[str, Rule], **optional: Rule) -> Kind:
    return Kind(("payments",), "payment_lifecycle", {**_PARTIES, **required}, optional)


_FAILED_LOGIN: Final[Mapping[str, Rule]] = {
    "userId": uuid_or_null,
    "email": text,
    "ipAddress": text_or_null,
}
_SEEN: Final[Mapping[str, Rule]] = {
    "userId": uuid,
    "email": filled,
    "sessionId": uuid,
    "ipAddress": text_or_null,
}

KINDS: Final[Mapping[str, Kind]] = {
    "user.created": _auth(
        "user_lifecycle",
        {**_SNAPSHOT, "origin": one_of("registration", "admin", "seed"), "createdAt": time},
    ),
    "user.updated": _auth("user_lifecycle", {**_SNAPSHOT, "changes": texts, "updatedAt": time}),
    "user.role_changed": _auth(
        "user_lifecycle", {**_SNAPSHOT, "oldRole": _ROLE, "newRole": _ROLE, "updatedAt": time}
    ),
    "user.status_changed": _auth(
        "user_lifecycle", {**_SNAPSHOT, "updatedAt": time}, reason=text_or_null
    ),
    "user.deleted": _auth(
        "user_lifecycle",
        {"userId": uuid, "email": filled, "userVersion": integer, "deletedAt": time},
    ),
    "user.login": _auth("user_activity", {**_SEEN, "loginAt": time}, deviceId=text_or_null),
    "user.logout": _auth("user_activity", {**_SEEN, "logoutAt": time}, deviceId=text_or_null),
    "user.login_failed": _auth("user_activity", {**_FAILED_LOGIN, "attemptedAt": time}),
    "user.locked": _auth("user_activity", {**_FAILED_LOGIN, "scope": filled, "lockedUntil": time}),
    "user.unlocked": _auth("user_activity", {**_FAILED_LOGIN, "unlockedAt": time}),
    "user.password_changed": _auth("user_activity", {"userId": uuid, "changedAt": time}),
    "session.revoked": _auth(
        "session_management",
        {
            "userId": uuid,
            "sessionId": uuid,
            "deviceId": text_or_null,
            "reason": one_of(*REVOKE_REASONS),
            "timestamp": time,
        },
    ),
    "token.reuse_detected": _auth(
        "session_management",
        {"userId": uuid, "sessionId": uuid, "ipAddress": text_or_null, "detectedAt": time},
    ),
    "secrets.rotated": _auth(
        "system",
        {
            "kind": filled,
            "oldKid": text_or_null,
            "newKid": filled,
            "reason": text,
            "rotatedAt": time,
        },
    ),
    "payment.created": _payment({"type": filled, "description": text_or_null, "createdAt": time}),
    "payment.updated": _payment(
        {"changes": texts, "updatedAt": time}, previousRecipientId=uuid_or_null
    ),
    "payment.completed": _payment({"completedAt": time}),
    "payment.failed": _payment({"failureReason": text_or_null, "failedAt": time}),
    "payment.cancelled": _payment({"cancelledAt": time}, cancelReason=text_or_null),
    "profile.updated": Kind(
        ("profile",),
        "profile_lifecycle",
        {"userId": uuid, "fields": texts, "updatedAt": time},
        _NONE,
    ),
    "config.updated": Kind(
        ("admin",),
        "system",
        {"key": filled, "updatedBy": text_or_null, "updatedAt": time},
        _NONE,
    ),
}

PROBE: Final = "diagnostics.probe"
# R3.52: understood only while diagnostics are on, so it is no part of KINDS.
PROBE_KIND: Final = Kind(
    ("auth", "payments", "admin", "profile"),
    "system",
    {"nonce": filled, "seq": integer},
    {"failTimes": integer, "failQueue": text},
)

USER_LIFECYCLE: Final = frozenset(
    type for type, kind in KINDS.items() if kind.event_type == "user_lifecycle"
)
PAYMENT_LIFECYCLE: Final = frozenset(
    type for type, kind in KINDS.items() if kind.event_type == "payment_lifecycle"
)
EVENT_TYPES: Final = frozenset(kind.event_type for kind in KINDS.values())


def label(type: str) -> str:
    """How metrics and spans name a type of event: a listed one as it is, else `other` (R7.12)."""
    return type if type in KINDS else OTHER


def faults(kind: Kind, data: Mapping[str, Any]) -> list[str]:
    """Say every way in which `data` breaks the rule of its kind; empty when it keeps it."""
    found = []
    for name, rule in kind.required.items():
        if name not in data:
            found.append(f"data.{name} is missing")
        elif (expected := rule(data[name])) is not None:
            found.append(f"data.{name} is not {expected}")
    for name, rule in kind.optional.items():
        value = data.get(name)
        if value is not None and (expected := rule(value)) is not None:
            found.append(f"data.{name} is not {expected}")
    return found
