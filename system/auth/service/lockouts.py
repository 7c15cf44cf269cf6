"""What administrators see of failed logins, and how they end a lock (R1.83, R1.84)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from system.auth.domain.throttles import Lockout, Scope, key_of, lockout
from system.auth.ports import Caller, Store
from system.auth.service import facts
from system.auth.service.moments import utc_now


class Lockouts:
    """Reads and clears the counters of an account.

    Args:
        store: auth_db.
        now: the time, UTC, in whole milliseconds.
    """

    def __init__(self, store: Store, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._now = now

    async def of(self, email: str) -> tuple[int, Lockout | None]:
        """Return the failures that count against an account and its longest lock."""
        account_key = key_of(Scope.ACCOUNT, email)
        async with self._store.transaction() as unit:
            pairs = await unit.pairs_of(account_key)
            account = (await unit.throttles([account_key])).get(account_key)
        return lockout(list(pairs), account, self._now())

    async def unlock(self, email: str, *, actor_id: str, caller: Caller) -> None:
        """Clear every counter of the account, known or unknown."""
        user = await self._store.user_by_email(email)
        account_key = key_of(Scope.ACCOUNT, email)
        async with self._store.transaction() as unit:
            keys = [pair.key for pair in await unit.pairs_of(account_key)]
            # In the order in which attempts take them: pairs, then the account.
            for key in (*keys, account_key):
                await unit.hold_throttle(key)
            await unit.clear_throttles([*keys, account_key])
            await unit.emit(
                facts.user_unlocked(
                    user.id if user is not None else None, email, caller, actor_id, self._now()
                )
            )
