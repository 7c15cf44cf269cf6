"""What the profile service needs of the world: its database, and the cache in front of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol

from system.platform.cache.answers import Admit, Answer, Loader
from system.platform.cache.keys import Entry
from system.profile.domain import Profile


class Unit(Protocol):
    """One transaction on profile_db; leaving its block commits, an error rolls back."""

    async def lock(self, user_id: str) -> Profile | None:
        """Read the profile, made if it is the first time, and keep others from changing it.

        Returns:
            None if the user was deleted: a profile must not outlive its user.
        """

    async def set_facts(self, user_id: str, facts: Mapping[str, str | None]) -> Profile:
        """Change some of `avatar_url`, `phone`, `address`, `bio` of a locked profile."""

    async def set_preferences(self, user_id: str, preferences: Mapping[str, Any]) -> Profile:
        """Replace the preferences of a locked profile."""

    async def emit_updated(self, user_id: str, fields: Sequence[str], at: datetime) -> None:
        """Write `profile.updated` to the outbox (R3.39).

        Args:
            fields: names of what changed, as the profile object has them.
        """

    async def delete(self, user_id: str) -> bool:
        """Remove the profile of a user for good; False if there was none."""


class Store(Protocol):
    """profile_db."""

    def transaction(self) -> AbstractAsyncContextManager[Unit]:
        """Open a transaction."""

    async def find(self, user_id: str) -> Profile | None:
        """Read the profile of a user; None if there is none yet."""


class ReadThrough(Protocol):
    """The cache (section 6)."""

    async def read(
        self, entry: Entry, load: Loader, *, bypass: bool = False, admit: Admit | None = None
    ) -> Answer:
        """Answer from the cache, or load and store."""

    async def invalidate(self, *tags: str, once: str | None = None) -> None:
        """Remove all entries with one of the tags."""
