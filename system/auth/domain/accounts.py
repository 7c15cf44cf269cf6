"""Users, their sessions and the refresh tokens of a session: facts and the rules between them.

Standard library only.  Rule numbers are the contract's.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class UserRole(StrEnum):
    """What a user may do (R1.24)."""

    ADMIN = "ADMIN"
    CUSTOMER = "CUSTOMER"
    VENDOR = "VENDOR"


class UserStatus(StrEnum):
    """Whether a user may sign in (R1.125)."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class RevokeReason(StrEnum):
    """Why a session ended (R3.31)."""

    LOGOUT = "logout"
    PASSWORD_CHANGED = "password_changed"
    ROLE_CHANGED = "role_changed"
    SUSPENDED = "suspended"
    DELETED = "deleted"
    DEVICE_REVOKED = "device_revoked"
    SESSION_REVOKED = "session_revoked"
    LOGOUT_OTHERS = "logout_others"
    TOKEN_REUSE = "token_reuse"


@dataclass(frozen=True, slots=True)
class User:
    """An account (R2.3), without its password hash, which only signing in needs.

    Attributes:
        id: UUID in lower case.
        email: lower-cased address (R1.20).
        name: cleaned display name (R1.19).
        role: ADMIN, CUSTOMER or VENDOR.
        status: active or suspended.
        email_verified: whether the address was proven.
        version: raised by each change; orders the copies of other services (R2.21).
        created_at: UTC.
        updated_at: UTC.
    """

    id: str
    email: str
    name: str
    role: UserRole
    status: UserStatus
    email_verified: bool
    version: int
    created_at: datetime
    updated_at: datetime


def new_account(
    email: str, name: str, role: UserRole, now: datetime, *, email_verified: bool = False
) -> User:
    """Return an account as it begins: active, of version 1, with an id of its own."""
    return User(
        id=str(uuid.uuid4()),
        email=email,
        name=name,
        role=role,
        status=UserStatus.ACTIVE,
        email_verified=email_verified,
        version=1,
        created_at=now,
        updated_at=now,
    )


@dataclass(frozen=True, slots=True)
class Session:
    """A login that lasts (R2.4).

    Attributes:
        id: claim `sid` of its tokens.
        user_id: whose it is.
        ip_address: client address at its opening (R1.40), if known.
        user_agent: agent at its opening, if sent.
        created_at: UTC.
        expires_at: end of its newest refresh token, UTC.
        device_id: the device's own id, None if it is bound to none.
        device_name: what its user calls the device, if it has a name.
        last_used_at: its opening or its last refresh, UTC.
        revoked_at: when it was revoked, None while open.
        revoke_reason: why.
    """

    id: str
    user_id: str
    ip_address: str | None
    user_agent: str | None
    created_at: datetime
    expires_at: datetime
    device_id: str | None = None
    device_name: str | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    revoke_reason: RevokeReason | None = None

    def is_open(self, now: datetime) -> bool:
        """Whether tokens of this session count at that moment."""
        return self.revoked_at is None and now < self.expires_at


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A stored refresh token, known by its hash only (R1.36, R2.5).

    Attributes:
        token_hash: SHA-256 of the token, 64 hex digits.
        user_id: whose it is.
        session_id: its family.
        expires_at: UTC.
        spent_at: when it was exchanged for the next one, None if it was not.
    """

    token_hash: str
    user_id: str
    session_id: str
    expires_at: datetime
    spent_at: datetime | None = None


class RefreshVerdict(StrEnum):
    """What a well-signed, timely refresh token is worth (R1.69)."""

    ROTATE = "rotate"
    REVOKED = "revoked"
    REUSED = "reused"
    UNKNOWN = "unknown"


def token_hash(token: str) -> str:
    """SHA-256 of a token in hex, the only form in which it is stored (R1.36)."""
    return hashlib.sha256(token.encode()).hexdigest()


def judge_refresh(
    user: User | None,
    session: Session | None,
    token: RefreshToken | None,
    *,
    presented_at: datetime,
    now: datetime,
) -> RefreshVerdict:
    """Judge a refresh token in the order of R1.69: session and user, then spent, then unknown.

    Of several simultaneous uses one wins and all others count as reuse (R1.35), also those that
    get their turn after the first loser had the family revoked.  They are told from later uses by
    the moment at which they were presented.

    Args:
        user: owner of the session, None if gone.
        session: session named by the token, None if there is none.
        token: the stored token of that session, None if it was never stored.
        presented_at: when the request arrived, UTC.
        now: UTC.
    """
    if user is None or session is None or user.status is not UserStatus.ACTIVE:
        return RefreshVerdict.REVOKED
    if not session.is_open(now):
        raced = (
            session.revoke_reason is RevokeReason.TOKEN_REUSE
            and session.revoked_at is not None
            and presented_at <= session.revoked_at
            and token is not None
            and token.spent_at is not None
        )
        return RefreshVerdict.REUSED if raced else RefreshVerdict.REVOKED
    if token is None:
        return RefreshVerdict.UNKNOWN
    if token.spent_at is not None:
        return RefreshVerdict.REUSED
    return RefreshVerdict.ROTATE
