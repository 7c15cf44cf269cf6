"""The copy of users (R2.15): what it holds, when an event changes it, how it is asked (R1.126).

User · UserQuery
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from system.admin.domain.audit import Occurrence


class Role(StrEnum):
    """What a user may do."""

    ADMIN = "ADMIN"
    CUSTOMER = "CUSTOMER"
    VENDOR = "VENDOR"


class Status(StrEnum):
    """Whether a user may sign in."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class Sort(StrEnum):
    """What a list of users is ordered by."""

    CREATED_AT = "createdAt"
    EMAIL = "email"
    NAME = "name"
    ROLE = "role"


@dataclass(frozen=True, slots=True)
class User:
    """A user as auth-service last told it.

    Attributes:
        version: `userVersion`; grows with each change (R2.21).
        created_at: when the account was made; None if the event does not say.
        updated_at: when auth-service last changed it.
    """

    id: str
    email: str
    name: str
    role: str
    status: str
    email_verified: bool
    version: int
    created_at: datetime | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class UserQuery:
    """A page of users that somebody asks for.

    Attributes:
        page: from 1.
        limit: rows of a page.
        sort: ties go the same way by id.
        descending: direction.
        role: only this one.
        status: only this one.
        search: part of e-mail or name in any case, to be taken literally.
    """

    page: int = 1
    limit: int = 10
    sort: Sort = Sort.CREATED_AT
    descending: bool = True
    role: Role | None = None
    status: Status | None = None
    search: str | None = None


# Events that carry a whole user (R3.22).
SNAPSHOTS: Final = frozenset(
    {"user.created", "user.updated", "user.role_changed", "user.status_changed"}
)
USER_DELETED: Final = "user.deleted"
# Ids are never given twice, so a deletion is the last word whatever version its event has.
LAST_VERSION: Final = 2**31 - 1


def user_of(happened: Occurrence) -> User:
    """Read the snapshot of an event of `SNAPSHOTS`."""
    data: Mapping[str, Any] = happened.data
    created_at, updated_at = data.get("createdAt"), data.get("updatedAt")
    return User(
        id=data["userId"],
        email=data["email"].strip().lower(),
        name=data["name"],
        role=data["role"],
        status=data["status"],
        email_verified=data["emailVerified"],
        version=data["userVersion"],
        created_at=None if created_at is None else datetime.fromisoformat(created_at),
        updated_at=datetime.fromisoformat(updated_at or created_at or happened.at.isoformat()),
    )


def is_news(version: int, known: int | None) -> bool:
    """Say whether something of this version changes a copy of the known one (R2.21)."""
    return known is None or version > known
