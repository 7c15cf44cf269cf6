"""Who is who, and whether a session is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, Final

from system.auth.domain.accounts import Session, User, UserStatus
from system.auth.ports import Mirror, Store, UserCache
from system.auth.service.moments import utc_now

MIRRORING_S: Final = 0.02


class AccountReads:
    """Reads accounts and the states of sessions.

    Args:
        store: auth_db.
        mirror: copy of session states for the verifiers.
        cache: what is remembered of accounts.
        now: the time, UTC, in whole milliseconds.
    """

    def __init__(
        self,
        store: Store,
        mirror: Mirror,
        cache: UserCache,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._mirror = mirror
        self._cache = cache
        self._now = now
        self._writing: set[asyncio.Task[None]] = set()  # a task that nobody holds may vanish

    async def user(self, user_id: str) -> User | None:
        """Return an account by id."""
        return await self._store.user(user_id)

    async def user_by_email(self, email: str) -> User | None:
        """Return an account by its normal e-mail address (R6.22)."""
        user_id = await self._cache.user_id(email, self._store)
        user = await self._store.user(user_id) if user_id is not None else None
        # What the cache says is a hint only; the account says which address it has.
        if user is not None and user.email == email:
            return user
        return await self._store.user_by_email(email)

    async def users(self, *, after: str, limit: int) -> Sequence[User]:
        """Return up to `limit` accounts with ids greater than `after`, in the order of ids."""
        return await self._store.users(after=after, limit=limit)

    async def session_state(self, session_id: str) -> tuple[Session, bool] | None:
        """Return a session and whether its tokens count, and bring the mirror up to date.

        None: there is no such session.
        """
        epoch = self._mirror.epoch
        found = await self._store.session(session_id)
        if found is None:
            return None
        session, user = found
        is_open = session.is_open(self._now()) and user.status is UserStatus.ACTIVE
        if is_open:
            await self._briefly(self._mirror.opened(session_id, epoch))
        elif session.revoked_at is not None:
            await self._briefly(self._mirror.revoked([session_id]))
        return session, is_open

    async def _briefly(self, mirroring: Coroutine[Any, Any, None]) -> None:
        """Let the mirror be written; whoever asked waits for it only as long as it usually takes.

        The answer is the store's and does not need the mirror, and who asks is a verifier that
        has perhaps waited for a silent Redis already (R6.9).
        """
        writing = asyncio.create_task(mirroring)
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        await asyncio.wait({writing}, timeout=MIRRORING_S)
