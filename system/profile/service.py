"""The use cases of profiles: read, change, merge preferences, forget a deleted user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from system.platform.cache import keys
from system.platform.cache.answers import Answer, Loaded
from system.platform.http import errors
from system.platform.moments import timestamp
from system.profile import domain
from system.profile.domain import Profile, UserDeleted
from system.profile.ports import ReadThrough, Store, Unit

_encode: Final = msgspec.json.Encoder().encode
# What the outside calls the facts (R1.144).
NAMES: Final[Mapping[str, str]] = {
    "avatar_url": "avatarUrl",
    "phone": "phone",
    "address": "address",
    "bio": "bio",
}
PREFERENCES: Final = "preferences"
NOTHING: Final[Mapping[str, Any]] = {}


class Profiles:
    """The profiles of all users, each seen and changed by its own user only.

    Args:
        store: profile_db.
        cache: keeps answers.
    """

    def __init__(self, store: Store, cache: ReadThrough) -> None:
        self._store = store
        self._cache = cache

    async def read(self, user_id: str, *, fresh: bool) -> Answer:
        """Return the profile, made on the first read (R1.145).

        Args:
            fresh: from the database (R6.3).

        Raises:
            ApiError: 401 TOKEN_REVOKED, the user was deleted.
        """

        async def load() -> Loaded:
            return Loaded(_encode(profile_json(await self._present(user_id))))

        return await self._cache.read(keys.profile(user_id), load, bypass=fresh)

    async def read_preferences(self, user_id: str, *, fresh: bool) -> Answer:
        """Return the preferences alone (R1.147).

        Raises:
            ApiError: 401 TOKEN_REVOKED, the user was deleted.
        """

        async def load() -> Loaded:
            return Loaded(_encode((await self._present(user_id)).preferences))

        return await self._cache.read(keys.preferences(user_id), load, bypass=fresh)

    async def change(
        self,
        user_id: str,
        wanted: Mapping[str, str | None] = NOTHING,
        preferences: Mapping[str, Any] = NOTHING,
    ) -> Profile:
        """Set facts (R1.146) and merge preferences (R1.148, R1.151): all of it, or nothing.

        What is so already is no change and emits nothing (R1.152).

        Args:
            wanted: facts by attribute of `Profile`; None clears.
            preferences: what becomes of some of them.

        Raises:
            ApiError: 401 TOKEN_REVOKED, the user was deleted.
        """
        async with self._store.transaction() as unit:
            before = after = await _locked(unit, user_id)
            facts = domain.changed(before, wanted)
            fields = [NAMES[name] for name in NAMES if name in facts]
            if facts:
                after = await unit.set_facts(user_id, facts)
            merged = domain.merged(before.preferences, preferences)
            if merged != before.preferences:
                after = await unit.set_preferences(user_id, merged)
                fields.append(PREFERENCES)
            if not fields:
                return before
            await unit.emit_updated(user_id, fields, after.updated_at)
        await self._cache.invalidate(*keys.after_user_change(user_id))
        return after

    async def _present(self, user_id: str) -> Profile:
        found = await self._store.find(user_id)
        if found is not None:
            return found
        async with self._store.transaction() as unit:
            return await _locked(unit, user_id)


async def forget_user(event: UserDeleted, unit: Unit) -> None:
    """Delete the profile of a deleted user (R1.152); a user without one is no fault."""
    await unit.delete(event.user_id)


def profile_json(profile: Profile) -> dict[str, Any]:
    """The profile object (R1.144)."""
    return {
        "id": profile.id,
        "userId": profile.user_id,
        "avatarUrl": profile.avatar_url,
        "phone": profile.phone,
        "address": profile.address,
        "bio": profile.bio,
        "preferences": profile.preferences,
        "createdAt": timestamp(profile.created_at),
        "updatedAt": timestamp(profile.updated_at),
    }


async def _locked(unit: Unit, user_id: str) -> Profile:
    profile = await unit.lock(user_id)
    if profile is None:
        # The token was good a moment ago; its user has been deleted since.
        raise errors.token_revoked()
    return profile
