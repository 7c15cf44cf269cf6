"""What administrators do to accounts, asked for by admin-service (R1.126-R1.137).

Each command is one transaction with its events.  Whoever changes a role, a status or deletes an
account holds the roll of administrators meanwhile, so that of two commands that would together
remove the last one, the second sees what the first has done (R1.135).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from system.auth.domain.accounts import (
    RevokeReason,
    Session,
    User,
    UserRole,
    UserStatus,
    new_account,
)
from system.auth.ports import Mirror, PasswordHasher, Store, Unit, UserCache
from system.auth.service import facts
from system.auth.service.moments import utc_now
from system.auth.service.opening import hash_for, open_account
from system.auth.service.revoking import revoke_all, tell_verifiers
from system.platform.http import errors


class AccountCommands:
    """Creates, changes and deletes accounts.

    Args:
        store: auth_db.
        hasher: makes password hashes.
        mirror: copy of session states for the verifiers.
        cache: what is remembered of accounts.
        now: the time, UTC, in whole milliseconds.
    """

    def __init__(
        self,
        store: Store,
        hasher: PasswordHasher,
        mirror: Mirror,
        cache: UserCache,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._hasher = hasher
        self._mirror = mirror
        self._cache = cache
        self._now = now

    async def create(
        self, *, email: str, password: str, name: str, role: UserRole, actor_id: str | None
    ) -> User:
        """Open an account without signing it in (R1.128).

        Raises:
            ApiError: 409 EMAIL_EXISTS.
        """
        password_hash = await hash_for(self._store, self._hasher, email, password)
        user = new_account(email, name, role, self._now())
        async with self._store.transaction() as unit:
            await open_account(unit, user, password_hash, origin="admin", actor_id=actor_id)
        await self._cache.remember_email(user)
        return user

    async def update(
        self, user_id: str, *, name: str | None, email: str | None, actor_id: str | None
    ) -> User:
        """Change name or e-mail address; what is there already is no change (R1.129, R1.136).

        Raises:
            ApiError: 404 USER_NOT_FOUND; 409 EMAIL_ALREADY_EXISTS.
        """
        async with self._store.transaction() as unit:
            user = await _locked(unit, user_id)
            wanted = replace(
                user,
                name=user.name if name is None else name,
                email=user.email if email is None else email,
            )
            changes = [
                field
                for field in ("name", "email")
                if getattr(wanted, field) != getattr(user, field)
            ]
            if not changes:
                return user
            changed = await unit.change_user(wanted)
            if changed is None:
                raise errors.conflict(
                    "EMAIL_ALREADY_EXISTS", "Another account with this email already exists"
                )
            await unit.emit(facts.user_updated(changed, changes, actor_id))
        await self._cache.forget(user_id)
        return changed

    async def set_role(self, user_id: str, role: UserRole, *, actor_id: str | None) -> User:
        """Give an account another role and end its sessions (R1.130, R1.32).

        Raises:
            ApiError: 404 USER_NOT_FOUND; 403 CANNOT_DEMOTE_LAST_ADMIN or CANNOT_MODIFY_SELF.
        """
        async with self._store.transaction() as unit:
            await unit.hold_admin_roll()
            user = await _locked(unit, user_id)
            if user.role is role:
                return user
            await _guard(unit, user, actor_id, "DEMOTE")
            changed = await _changed(unit, replace(user, role=role))
            await unit.emit(facts.user_role_changed(changed, user.role, actor_id))
            closed = await revoke_all(
                unit, user_id, RevokeReason.ROLE_CHANGED, actor_id, self._now()
            )
        await self._tell(user_id, closed)
        return changed

    async def set_status(
        self, user_id: str, status: UserStatus, *, reason: str | None, actor_id: str | None
    ) -> User:
        """Suspend an account, which ends its sessions, or let it in again (R1.131, R1.32).

        Raises:
            ApiError: 404 USER_NOT_FOUND; 403 CANNOT_SUSPEND_LAST_ADMIN or CANNOT_MODIFY_SELF.
        """
        async with self._store.transaction() as unit:
            await unit.hold_admin_roll()
            user = await _locked(unit, user_id)
            if user.status is status:
                return user
            closed: Sequence[Session] = ()
            if status is UserStatus.SUSPENDED:
                await _guard(unit, user, actor_id, "SUSPEND")
            changed = await _changed(unit, replace(user, status=status))
            await unit.emit(facts.user_status_changed(changed, reason, actor_id))
            if status is UserStatus.SUSPENDED:
                closed = await revoke_all(
                    unit, user_id, RevokeReason.SUSPENDED, actor_id, self._now()
                )
        await self._tell(user_id, closed)
        return changed

    async def delete(self, user_id: str, *, actor_id: str | None) -> None:
        """Remove an account with its sessions and devices (R1.132, R1.137).

        Raises:
            ApiError: 404 USER_NOT_FOUND; 403 CANNOT_DELETE_LAST_ADMIN or CANNOT_MODIFY_SELF.
        """
        async with self._store.transaction() as unit:
            await unit.hold_admin_roll()
            user = await _locked(unit, user_id)
            await _guard(unit, user, actor_id, "DELETE")
            await unit.emit(facts.user_deleted(user, self._now(), actor_id))
            closed = await revoke_all(unit, user_id, RevokeReason.DELETED, actor_id, self._now())
            await unit.delete_user(user_id)
        await self._tell(user_id, closed)

    async def _tell(self, user_id: str, closed: Sequence[Session]) -> None:
        await tell_verifiers(self._mirror, closed)
        await self._cache.forget(user_id)


async def _locked(unit: Unit, user_id: str) -> User:
    user = await unit.lock_user(user_id)
    if user is None:
        raise errors.missing("USER_NOT_FOUND", "User not found")
    return user


async def _changed(unit: Unit, wanted: User) -> User:
    changed = await unit.change_user(wanted)
    if changed is None:
        # The row is locked and keeps its address, so nothing can be in its way.
        raise LookupError(f"user {wanted.id} vanished while it was locked")
    return changed


async def _guard(unit: Unit, user: User, actor_id: str | None, act: str) -> None:
    """Refuse to lose the last active administrator, then what one does to oneself (R1.135)."""
    if (
        user.role is UserRole.ADMIN
        and user.status is UserStatus.ACTIVE
        and not await unit.has_other_active_admin(user.id)
    ):
        raise errors.ApiError(
            403, f"CANNOT_{act}_LAST_ADMIN", f"Cannot {act.lower()} the last active administrator"
        )
    if user.id == actor_id:
        raise errors.ApiError(403, "CANNOT_MODIFY_SELF", f"Cannot {act.lower()} your own account")
