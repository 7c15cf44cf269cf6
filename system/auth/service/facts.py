"""The events of auth, made from what happened (3.5)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from system.auth.domain.accounts import RevokeReason, Session, User, UserRole
from system.auth.domain.keys import Rotation
from system.auth.domain.throttles import Scope
from system.auth.ports import Caller, Fact
from system.platform.moments import timestamp


def snapshot(user: User) -> dict[str, Any]:
    """The user snapshot of life-cycle events (R3.22)."""
    return {
        "userId": user.id,
        "email": user.email,
        "name": user.name,
        "role": str(user.role),
        "status": str(user.status),
        "emailVerified": user.email_verified,
        "userVersion": user.version,
    }


def user_created(user: User, *, origin: str, actor_id: str | None) -> Fact:
    """The event of a new account (R3.23)."""
    data = {**snapshot(user), "origin": origin, "createdAt": timestamp(user.created_at)}
    return Fact("user.created", "user_lifecycle", actor_id, data)


def user_updated(user: User, changes: Sequence[str], actor_id: str | None) -> Fact:
    """The event of another name or e-mail address (R3.24); `changes` names the fields."""
    data = {**snapshot(user), "changes": list(changes), "updatedAt": timestamp(user.updated_at)}
    return Fact("user.updated", "user_lifecycle", actor_id, data)


def user_role_changed(user: User, former: UserRole, actor_id: str | None) -> Fact:
    """The event of another role (R3.25)."""
    data = {
        **snapshot(user),
        "oldRole": str(former),
        "newRole": str(user.role),
        "updatedAt": timestamp(user.updated_at),
    }
    return Fact("user.role_changed", "user_lifecycle", actor_id, data)


def user_status_changed(user: User, reason: str | None, actor_id: str | None) -> Fact:
    """The event of a suspension or its end (R3.26)."""
    data = {**snapshot(user), "updatedAt": timestamp(user.updated_at)}
    if reason is not None:
        data["reason"] = reason
    return Fact("user.status_changed", "user_lifecycle", actor_id, data)


def user_deleted(user: User, now: datetime, actor_id: str | None) -> Fact:
    """The event of a deletion; it counts as one more version of the account (R3.27)."""
    data = {
        "userId": user.id,
        "email": user.email,
        "userVersion": user.version + 1,
        "deletedAt": timestamp(now),
    }
    return Fact("user.deleted", "user_lifecycle", actor_id, data)


def user_login(user: User, session: Session, caller: Caller, now: datetime) -> Fact:
    """R3.28."""
    return _signed("user.login", "loginAt", user, session, caller, now)


def user_logout(user: User, session: Session, caller: Caller, now: datetime) -> Fact:
    """R3.28."""
    return _signed("user.logout", "logoutAt", user, session, caller, now)


def login_failed(user_id: str | None, email: str, caller: Caller, now: datetime) -> Fact:
    """The event of a wrong password or an unknown address (R3.29)."""
    data = {
        "userId": user_id,
        "email": email,
        "ipAddress": caller.address,
        "attemptedAt": timestamp(now),
    }
    return Fact("user.login_failed", "user_activity", user_id, data)


def user_locked(
    user_id: str | None, email: str, caller: Caller, scope: Scope, until: datetime
) -> Fact:
    """The event of a lock of a pair or a guard of an account (R3.29)."""
    data = {
        "userId": user_id,
        "email": email,
        "ipAddress": caller.address,
        "scope": str(scope),
        "lockedUntil": timestamp(until),
    }
    return Fact("user.locked", "user_activity", user_id, data)


def user_unlocked(
    user_id: str | None, email: str, caller: Caller, actor_id: str, now: datetime
) -> Fact:
    """The event of an administrator's unlocking (R3.29)."""
    data = {
        "userId": user_id,
        "email": email,
        "ipAddress": caller.address,
        "unlockedAt": timestamp(now),
    }
    return Fact("user.unlocked", "user_activity", actor_id, data)


def password_changed(user_id: str, now: datetime) -> Fact:
    """R3.30."""
    data = {"userId": user_id, "changedAt": timestamp(now)}
    return Fact("user.password_changed", "user_activity", user_id, data)


def session_revoked(
    session: Session, reason: RevokeReason, actor_id: str | None, now: datetime
) -> Fact:
    """R3.31."""
    data = {
        "userId": session.user_id,
        "sessionId": session.id,
        "deviceId": session.device_id,
        "reason": str(reason),
        "timestamp": timestamp(now),
    }
    return Fact("session.revoked", "session_management", actor_id, data)


def token_reuse_detected(user_id: str, session_id: str, caller: Caller, now: datetime) -> Fact:
    """R3.32."""
    data = {
        "userId": user_id,
        "sessionId": session_id,
        "ipAddress": caller.address,
        "detectedAt": timestamp(now),
    }
    return Fact("token.reuse_detected", "session_management", user_id, data)


def _signed(
    event: str, moment: str, user: User, session: Session, caller: Caller, now: datetime
) -> Fact:
    data = {
        "userId": user.id,
        "email": user.email,
        "sessionId": session.id,
        "ipAddress": caller.address,
        moment: timestamp(now),
    }
    if session.device_id is not None:
        data["deviceId"] = session.device_id
    return Fact(event, "user_activity", user.id, data)


def secrets_rotated(rotation: Rotation) -> Fact:
    """R3.33."""
    data = {
        "kind": str(rotation.kind),
        "oldKid": rotation.old_kid,
        "newKid": rotation.new_kid,
        "reason": rotation.reason,
        "rotatedAt": timestamp(rotation.rotated_at),
    }
    return Fact("secrets.rotated", "system", rotation.triggered_by, data)
