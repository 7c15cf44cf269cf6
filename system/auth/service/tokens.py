"""Opens sessions and signs their tokens, inside the transaction of whoever asks."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from system.auth.domain.accounts import RefreshToken, Session, User, token_hash
from system.auth.ports import Caller, Unit
from system.platform.http import errors
from system.platform.security.keys import FreshKeys, KeysUnavailable
from system.platform.security.tokens import (
    TokenType,
    issue_access,
    issue_refresh,
    lifetime_seconds,
)


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a refresh gives (R1.61).

    Attributes:
        access_token: signed with the access key.
        refresh_token: signed with the refresh key; the only copy there is.
        expires_in: configured lifetime of access tokens, such as `15m` (R1.27).
    """

    access_token: str
    refresh_token: str
    expires_in: str


class TokenDesk:
    """Issues the tokens of sessions.

    Args:
        keys: of both types of token, kept up to date.
        access_lifetime: such as `15m`.
        refresh_lifetime: such as `7d`; a session lives as long as its newest refresh token.
    """

    def __init__(self, keys: FreshKeys, access_lifetime: str, refresh_lifetime: str) -> None:
        self.keys = keys
        self._expires_in = access_lifetime
        self._access_seconds = lifetime_seconds(access_lifetime)
        self._refresh_seconds = lifetime_seconds(refresh_lifetime)

    async def open_session(
        self, unit: Unit, user: User, caller: Caller, now: datetime
    ) -> tuple[Session, TokenPair]:
        """Write a session with its first refresh token, bound to the caller's device (R1.31)."""
        session = Session(
            id=str(uuid.uuid4()),
            user_id=user.id,
            ip_address=caller.address,
            user_agent=caller.user_agent,
            created_at=now,
            expires_at=self.end(now),
            device_id=caller.device_id,
            last_used_at=now,
        )
        if caller.device_id is not None:
            await unit.note_device(
                user.id,
                caller.device_id,
                name=None,
                type=None,
                user_agent=caller.user_agent,
                now=now,
            )
        await unit.add_session(session)
        return session, await self.issue(unit, user, session.id, now)

    async def issue(self, unit: Unit, user: User, session_id: str, now: datetime) -> TokenPair:
        """Sign a pair and store the refresh token's hash."""
        about = {
            "user_id": user.id,
            "email": user.email,
            "name": user.name,
            "role": str(user.role),
            "session_id": session_id,
        }
        access = issue_access(self.keys.ring, lifetime=self._access_seconds, **about)
        refresh = issue_refresh(self.keys.ring, lifetime=self._refresh_seconds, **about)
        await unit.add_refresh_token(
            RefreshToken(
                token_hash=token_hash(refresh),
                user_id=user.id,
                session_id=session_id,
                expires_at=self.end(now),
            ),
            now,
        )
        return TokenPair(access, refresh, self._expires_in)

    async def ready(self) -> None:
        """See to it that there are keys to sign with; just after the start they may be missing.

        To be called before a transaction begins.

        Raises:
            ApiError: 503 SERVICE_UNAVAILABLE, they cannot be read.
        """
        if not all(self.keys.ring.keys(kind) for kind in TokenType):
            try:
                await self.keys.look()
            except KeysUnavailable as error:
                raise errors.service_unavailable() from error

    def end(self, now: datetime) -> datetime:
        """When a session ends that is used at this moment."""
        return now + timedelta(seconds=self._refresh_seconds)
