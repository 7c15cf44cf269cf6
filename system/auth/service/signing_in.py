"""The use cases around a session: register, log in, refresh, log out.

Each one is a transaction that holds the change together with its events (R3.16); the mirror of
session states is told after the commit and before the answer, so that a revocation is in force
when its caller hears of it (R1.32).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from system.auth.domain.accounts import (
    RefreshVerdict,
    RevokeReason,
    User,
    UserRole,
    UserStatus,
    judge_refresh,
    new_account,
    token_hash,
)
from system.auth.ports import Caller, Mirror, PasswordHasher, Store, Unit, UserCache
from system.auth.service import facts
from system.auth.service.moments import utc_now
from system.auth.service.opening import hash_for, open_account
from system.auth.service.revoking import emit_revoked, tell_verifiers
from system.auth.service.throttling import LoginGate
from system.auth.service.tokens import TokenDesk, TokenPair
from system.auth.service.turns import Turns
from system.platform.http import errors
from system.platform.security.tokens import Claims, TokenType


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What registration and login give (R1.58)."""

    user: User
    tokens: TokenPair


class SigningIn:
    """Registers, signs in and out, and rotates tokens.

    Args:
        store: auth_db.
        hasher: makes and checks password hashes.
        mirror: copy of session states for the verifiers.
        cache: what is remembered of accounts.
        desk: opens sessions and issues their tokens.
        gate: refuses attempts after too many failures.
        now: the time, UTC, in whole milliseconds.
    """

    def __init__(
        self,
        *,
        store: Store,
        hasher: PasswordHasher,
        mirror: Mirror,
        cache: UserCache,
        desk: TokenDesk,
        gate: LoginGate,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._hasher = hasher
        self._mirror = mirror
        self._cache = cache
        self._desk = desk
        self._gate = gate
        self._now = now
        # A token replayed many times at once would else take all connections from everybody.
        self._turns = Turns()

    async def register(self, *, email: str, password: str, name: str, caller: Caller) -> SignedIn:
        """Open an account as CUSTOMER and sign it in (R1.59, R1.65).

        Args:
            email: in normal form (R1.20).
            password: good by R1.21.
            name: cleaned (R1.19).
            caller: who registers.

        Raises:
            ApiError: 409 EMAIL_EXISTS.
        """
        await self._desk.ready()
        password_hash = await hash_for(self._store, self._hasher, email, password)
        now, epoch = self._now(), self._mirror.epoch
        user = new_account(email, name, UserRole.CUSTOMER, now)
        async with self._store.transaction() as unit:
            await open_account(unit, user, password_hash, origin="registration", actor_id=user.id)
            session, tokens = await self._desk.open_session(unit, user, caller, now)
        await self._mirror.opened(session.id, epoch)
        await self._cache.remember_email(user)
        return SignedIn(user, tokens)

    async def login(self, *, email: str, password: str, caller: Caller) -> SignedIn:
        """Open a session for whoever knows the password (R1.60, R1.67).

        An unknown address takes the same steps as a wrong password, hashing included, and gets
        the same answer (R1.68, R1.82).

        Raises:
            ApiError: 401 INVALID_CREDENTIALS; 403 ACCOUNT_SUSPENDED, only after a right password;
                429 TOO_MANY_ATTEMPTS or ACCOUNT_LOCKED, before the password is looked at (R1.75).
        """
        epoch = self._mirror.epoch
        answer: SignedIn | None = None
        await self._desk.ready()
        async with (
            self._gate.turn(email, caller) as subject,
            self._store.transaction() as unit,
        ):
            await unit.hold_throttle(subject.pair)
            # Held until the end: a new password, role or status revokes all sessions, and this
            # one must not slip in behind it.
            user, stored = await unit.credentials(email) or (None, None)
            await self._gate.admit(unit, subject, user, caller)
            right = await self._hasher.matches(password, stored)
            if user is None or stored is None or not right:
                refused = await self._gate.failed(unit, subject, user, email, caller)
            elif user.status is not UserStatus.ACTIVE:
                refused = errors.account_suspended()
            else:
                now = self._now()
                await self._gate.succeeded(unit, subject, user, caller)
                session, tokens = await self._desk.open_session(unit, user, caller, now)
                await unit.emit(facts.user_login(user, session, caller, now))
                answer = SignedIn(user, tokens)
        if answer is None or stored is None:
            raise refused
        await self._mirror.opened(session.id, epoch)
        if self._hasher.outdated(stored):
            await self._renew_hash(answer.user, password, stored)
        await self._cache.remember_email(answer.user)
        return answer

    async def _renew_hash(self, user: User, password: str, stored: str) -> None:
        """Hash the password anew (R1.66), on its own: others may hold the account meanwhile."""
        newer = await self._hasher.hash(password)
        async with self._store.transaction() as unit:
            await unit.replace_password_hash(user.id, stored, newer)
        await self._cache.forget(user.id)

    async def refresh(self, token: str, caller: Caller) -> TokenPair:
        """Exchange a refresh token for a new pair (R1.34, R1.35, R1.69).

        Raises:
            ApiError: 401 TOKEN_INVALID, TOKEN_EXPIRED, TOKEN_REVOKED or TOKEN_REUSE_DETECTED.
        """
        presented_at = self._now()
        claims = await self._desk.keys.verify(token, TokenType.REFRESH)
        digest = token_hash(token)
        epoch = self._mirror.epoch
        tokens: TokenPair | None = None
        async with self._turns.of(claims.session_id), self._store.transaction() as unit:
            # This lock makes uses of one family take turns, whichever process they come to.
            user = await unit.user(claims.user_id)
            session = await unit.lock_session(claims.session_id)
            stored = await unit.refresh_token(digest)
            if session is not None and session.user_id != claims.user_id:
                session = None
            if stored is not None and stored.session_id != claims.session_id:
                stored = None
            now = self._now()
            verdict = judge_refresh(user, session, stored, presented_at=presented_at, now=now)
            if verdict is RefreshVerdict.ROTATE and user is not None:
                await unit.spend_refresh_token(digest, now)
                tokens = await self._desk.issue(unit, user, claims.session_id, now)
                await unit.extend_session(claims.session_id, now, self._desk.end(now))
            elif verdict is RefreshVerdict.REUSED:
                await self._revoke_family(unit, claims, caller, now)
        if tokens is not None:
            await self._mirror.opened(claims.session_id, epoch)
            return tokens
        if verdict is RefreshVerdict.REUSED:
            await self._mirror.revoked([claims.session_id])
            raise errors.token_reuse_detected()
        if verdict is RefreshVerdict.UNKNOWN:
            raise errors.token_invalid()
        raise errors.token_revoked()

    async def logout(
        self, *, claims: Claims, refresh_token: str | None, everywhere: bool, caller: Caller
    ) -> None:
        """Revoke the calling session, and others of the same user on request (R1.70).

        Args:
            claims: of the access token.
            refresh_token: its session is revoked too, if it belongs to the same user.
            everywhere: revoke all sessions of the user.
            caller: who logs out.

        Raises:
            ApiError: 401 TOKEN_REVOKED if the calling session was revoked meanwhile.
        """
        now = self._now()
        async with self._store.transaction() as unit:
            reason = RevokeReason.LOGOUT
            user = await unit.lock_user(claims.user_id)
            own = await unit.revoke_session(claims.session_id, claims.user_id, reason, now)
            if own is None or user is None:
                raise errors.token_revoked()
            closed = [own]
            if everywhere:
                closed += await unit.revoke_all_sessions(user.id, reason, now)
            elif refresh_token is not None:
                stored = await unit.refresh_token(token_hash(refresh_token))
                if stored is not None:
                    other = await unit.revoke_session(stored.session_id, user.id, reason, now)
                    closed += [other] if other is not None else []
            await unit.emit(facts.user_logout(user, own, caller, now))
            await emit_revoked(unit, closed, reason, user.id, now)
        await tell_verifiers(self._mirror, closed)

    async def _revoke_family(
        self, unit: Unit, claims: Claims, caller: Caller, now: datetime
    ) -> None:
        reason = RevokeReason.TOKEN_REUSE
        session = await unit.revoke_session(claims.session_id, claims.user_id, reason, now)
        if session is None:
            return  # another use of the same token has just done it, events included
        await unit.emit(facts.token_reuse_detected(claims.user_id, claims.session_id, caller, now))
        await emit_revoked(unit, [session], reason, claims.user_id, now)
