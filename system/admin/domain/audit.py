"""Which event becomes which audit row (R3.43), and what a row holds (R1.142).

Occurrence · AuditEntry · AuditRow
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final


class Action(StrEnum):
    """What an audit row says was done (R1.141)."""

    ACCOUNT_LOCKED = "ACCOUNT_LOCKED"
    ACCOUNT_UNLOCKED = "ACCOUNT_UNLOCKED"
    PAYMENT_CANCELLED = "PAYMENT_CANCELLED"
    PAYMENT_COMPLETED = "PAYMENT_COMPLETED"
    PAYMENT_CREATED = "PAYMENT_CREATED"
    PAYMENT_FAILED = "PAYMENT_FAILED"
    PAYMENT_UPDATED = "PAYMENT_UPDATED"
    PROFILE_UPDATED = "PROFILE_UPDATED"
    SECRETS_ROTATED = "SECRETS_ROTATED"
    SESSION_REVOKED = "SESSION_REVOKED"
    SYSTEM_CONFIG_CHANGED = "SYSTEM_CONFIG_CHANGED"
    TOKEN_REUSE_DETECTED = "TOKEN_REUSE_DETECTED"
    USER_CREATED = "USER_CREATED"
    USER_DELETED = "USER_DELETED"
    USER_LOGIN = "USER_LOGIN"
    USER_LOGIN_FAILED = "USER_LOGIN_FAILED"
    USER_LOGOUT = "USER_LOGOUT"
    USER_PASSWORD_CHANGED = "USER_PASSWORD_CHANGED"
    USER_REGISTERED = "USER_REGISTERED"
    USER_ROLE_CHANGED = "USER_ROLE_CHANGED"
    USER_STATUS_CHANGED = "USER_STATUS_CHANGED"
    USER_UPDATED = "USER_UPDATED"


class Resource(StrEnum):
    """What an audit row is about (R1.138)."""

    USER = "user"
    PAYMENT = "payment"
    SYSTEM_CONFIG = "system_config"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Occurrence:
    """An event, as far as this domain cares.

    Attributes:
        event_id: of the event.
        type: such as `payment.created`.
        source: the publisher, such as `payments-service`.
        at: when it happened, aware.
        data: what happened.
        metadata: who caused it, from where.
    """

    event_id: str
    type: str
    source: str
    at: datetime
    data: Mapping[str, Any]
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row to be written (R1.142).

    Attributes:
        event_id: unique; the second delivery of an event writes nothing.
        actor_id: who acted; None if nobody or an unknown account did.
    """

    event_id: str
    actor_id: str | None
    action: Action
    resource: Resource
    resource_id: str
    details: Mapping[str, Any]
    ip_address: str | None
    user_agent: str | None
    correlation_id: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row as it is read; name and address come from the copy of users."""

    id: str
    user_id: str | None
    user_name: str | None
    user_email: str | None
    action: str
    resource_type: str | None
    resource_id: str | None
    details: Any
    ip_address: str | None
    user_agent: str | None
    correlation_id: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which rows are asked for; None means all."""

    action: str | None = None
    user_id: str | None = None
    resource_type: str | None = None
    start: datetime | None = None
    end: datetime | None = None


# R3.43.  The name of the field that holds the resource's id stands last.
_ROWS: Final[Mapping[str, tuple[Action, Resource, str]]] = {
    "user.updated": (Action.USER_UPDATED, Resource.USER, "userId"),
    "user.deleted": (Action.USER_DELETED, Resource.USER, "userId"),
    "user.role_changed": (Action.USER_ROLE_CHANGED, Resource.USER, "userId"),
    "user.status_changed": (Action.USER_STATUS_CHANGED, Resource.USER, "userId"),
    "user.password_changed": (Action.USER_PASSWORD_CHANGED, Resource.USER, "userId"),
    "user.login": (Action.USER_LOGIN, Resource.USER, "userId"),
    "user.logout": (Action.USER_LOGOUT, Resource.USER, "userId"),
    "user.login_failed": (Action.USER_LOGIN_FAILED, Resource.USER, "userId"),
    "user.locked": (Action.ACCOUNT_LOCKED, Resource.USER, "userId"),
    "user.unlocked": (Action.ACCOUNT_UNLOCKED, Resource.USER, "userId"),
    "session.revoked": (Action.SESSION_REVOKED, Resource.SESSION, "sessionId"),
    "token.reuse_detected": (Action.TOKEN_REUSE_DETECTED, Resource.SESSION, "sessionId"),
    "secrets.rotated": (Action.SECRETS_ROTATED, Resource.SYSTEM_CONFIG, "newKid"),
    "payment.created": (Action.PAYMENT_CREATED, Resource.PAYMENT, "paymentId"),
    "payment.updated": (Action.PAYMENT_UPDATED, Resource.PAYMENT, "paymentId"),
    "payment.completed": (Action.PAYMENT_COMPLETED, Resource.PAYMENT, "paymentId"),
    "payment.failed": (Action.PAYMENT_FAILED, Resource.PAYMENT, "paymentId"),
    "payment.cancelled": (Action.PAYMENT_CANCELLED, Resource.PAYMENT, "paymentId"),
    "profile.updated": (Action.PROFILE_UPDATED, Resource.USER, "userId"),
    "config.updated": (Action.SYSTEM_CONFIG_CHANGED, Resource.SYSTEM_CONFIG, "key"),
}
AUDITED: Final = frozenset({*_ROWS, "user.created"})
_REGISTRATION: Final = "registration"
_LOGOUT: Final = "logout"


def audit_entry(happened: Occurrence) -> AuditEntry | None:
    """Return the audit row of an event, or None if it leaves none (R3.43)."""
    data = happened.data
    if happened.type == "user.created":
        registered = data.get("origin") == _REGISTRATION
        action = Action.USER_REGISTERED if registered else Action.USER_CREATED
        resource, id_field = Resource.USER, "userId"
    elif happened.type == "session.revoked" and data.get("reason") == _LOGOUT:
        return None  # the logout has a row of its own
    elif happened.type in _ROWS:
        action, resource, id_field = _ROWS[happened.type]
    else:
        return None
    metadata = happened.metadata
    return AuditEntry(
        event_id=happened.event_id,
        actor_id=metadata.get("actorId") or None,
        action=action,
        resource=resource,
        resource_id=data.get(id_field) or _email_hash(data.get("email")),
        details={**data, "source": happened.source.replace("-", "_") + "_event"},
        ip_address=metadata.get("ipAddress"),
        user_agent=metadata.get("userAgent"),
        correlation_id=metadata.get("correlationId"),
        at=happened.at,
    )


def _email_hash(email: object) -> str:
    """Stand in for the id of an account that does not exist (R3.43)."""
    return hashlib.sha256(str(email or "").strip().lower().encode()).hexdigest()
