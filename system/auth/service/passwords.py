"""Changes the password of the user who calls (R1.64, R1.73)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from system.auth.domain.accounts import RevokeReason
from system.auth.ports import Caller, Mirror, PasswordHasher, Store, UserCache
from system.auth.service import facts
from system.auth.service.moments import utc_now
from system.auth.service.revoking import revoke_all, tell_verifiers
from system.auth.service.throttling import LoginGate
from system.platform.http import errors
from system.platform.http.validation import broken
from system.platform.security.tokens import Claims


class PasswordChange:
    """Sets another password and ends every session.

    Args:
        store: auth_db.
        hasher: makes and checks password hashes.
        mirror: copy of session states for the verifiers.
        cache: what is remembered of accounts.
        gate: counts wrong passwords like failed logins.
        now: the time, UTC, in whole milliseconds.
    """

    def __init__(
        self,
        *,
        store: Store,
        hasher: PasswordHasher,
        mirror: Mirror,
        cache: UserCache,
        gate: LoginGate,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._hasher = hasher
        self._mirror = mirror
        self._cache = cache
        self._gate = gate
        self._now = now

    async def change(self, claims: Claims, *, current: str, new: str, caller: Caller) -> None:
        """Put the new password in the place of the current one.

        Args:
            claims: of the access token.
            current: as sent.
            new: good by R1.21.
            caller: who changes.

        Raises:
            ApiError: 400 VALIDATION_ERROR if both are equal; 401 INVALID_PASSWORD; 429
                TOO_MANY_ATTEMPTS or ACCOUNT_LOCKED; 401 TOKEN_REVOKED if the account is gone.
        """
        if new == current:
            raise broken("newPassword", "custom", "Must differ from the current password")
        owner = await self._store.user(claims.user_id)
        if owner is None:
            raise errors.token_revoked()
        new_hash = await self._hasher.hash(new)
        reason = RevokeReason.PASSWORD_CHANGED
        refused: errors.ApiError | None = None
        async with (
            self._gate.turn(owner.email, caller) as subject,
            self._store.transaction() as unit,
        ):
            await unit.hold_throttle(subject.pair)
            user, stored = await unit.lock_credentials(claims.user_id) or (None, None)
            session = await unit.lock_session(claims.session_id)
            now = self._now()
            if user is None or session is None or not session.is_open(now):
                raise errors.token_revoked()
            await self._gate.admit(unit, subject, user, caller)
            if await self._hasher.matches(current, stored):
                await self._gate.succeeded(unit, subject, user, caller)
                await unit.set_password(user.id, new_hash)
                await unit.emit(facts.password_changed(user.id, now))
                closed = await revoke_all(unit, user.id, reason, user.id, now)
            else:
                refused = await self._gate.failed(unit, subject, user, user.email, caller)
        if refused is not None:
            raise refused if refused.status == 429 else invalid_password()
        await tell_verifiers(self._mirror, closed)
        await self._cache.forget(claims.user_id)


def invalid_password() -> errors.ApiError:
    """R1.64."""
    return errors.ApiError(401, "INVALID_PASSWORD", "Current password is incorrect")
