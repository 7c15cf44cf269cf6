"""Remembers in Redis what `me` answers and where an e-mail address is found (R6.13, R6.22)."""

from __future__ import annotations

from system.auth.domain.accounts import User
from system.auth.ports import Store
from system.platform.cache import keys
from system.platform.cache.answers import Loaded
from system.platform.cache.cache import Cache


class _NoSuchAddress(LookupError):
    """Keeps the cache from storing that an address is unknown (R6.10)."""


class RedisUserCache:
    """`ports.UserCache` on the platform's cache."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def remember_email(self, user: User) -> None:
        async def load() -> Loaded:
            return _id_of(user)

        await self._cache.read(keys.user_id_by_email(user.email), load)

    async def user_id(self, email: str, store: Store) -> str | None:
        async def load() -> Loaded:
            user = await store.user_by_email(email)
            if user is None:
                raise _NoSuchAddress
            return _id_of(user)

        try:
            answer = await self._cache.read(keys.user_id_by_email(email), load)
        except _NoSuchAddress:
            return None
        return answer.body.decode()

    async def forget(self, user_id: str) -> None:
        await self._cache.invalidate(*keys.after_user_change(user_id))


def _id_of(user: User) -> Loaded:
    return Loaded(user.id.encode(), tags=(keys.user_tag(user.id),))
