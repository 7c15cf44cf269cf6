"""Asks auth_db itself whether a session is open: auth-service never trusts its own mirror."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from system.auth.domain.accounts import UserStatus
from system.auth.ports import Store
from system.auth.service.moments import utc_now
from system.platform.http import errors
from system.platform.security.tokens import Claims


class StoreSessionCheck:
    """`SessionCheck` of auth-service (R1.38).

    Args:
        store: auth_db.
        now: the time, UTC.
    """

    def __init__(self, store: Store, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._now = now

    async def ensure_open(self, claims: Claims) -> None:
        """See `SessionCheck.ensure_open`; a database that is down is 503."""
        found = await self._store.session(claims.session_id)
        if found is None:
            raise errors.token_revoked()
        session, user = found
        if (
            user.id != claims.user_id
            or user.status is not UserStatus.ACTIVE
            or not session.is_open(self._now())
        ):
            raise errors.token_revoked()

    async def close(self) -> None:
        """Nothing to release: the database belongs to the caller."""
