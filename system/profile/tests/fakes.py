"""Working stand-ins for the ports of profile: a store in memory, and a cache."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from system.platform.cache.answers import Admit, Answer, Loaded, Loader, Outcome
from system.platform.cache.keys import Entry
from system.profile.domain import Profile

START = datetime(2026, 1, 17, 10, tzinfo=UTC)


class FakeStore:
    """profile_db in memory; transactions take turns and undo themselves on errors."""

    def __init__(self) -> None:
        self.profiles: dict[str, Profile] = {}
        self.gone: set[str] = set()
        self.emitted: list[tuple[str, list[str]]] = []
        self.finds = 0
        self.ticks = 0
        self._turn = asyncio.Lock()

    @property
    def now(self) -> datetime:
        self.ticks += 1
        return START + timedelta(seconds=self.ticks)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[FakeUnit]:
        async with self._turn:
            before = dict(self.profiles), set(self.gone), list(self.emitted)
            try:
                yield FakeUnit(self)
            except BaseException:
                self.profiles, self.gone, self.emitted = before
                raise

    async def find(self, user_id: str) -> Profile | None:
        self.finds += 1
        found = self.profiles.get(user_id)
        await asyncio.sleep(0)  # others may come in between
        return found


class FakeUnit:
    """`ports.Unit` on a `FakeStore`."""

    def __init__(self, store: FakeStore) -> None:
        self._store = store

    async def lock(self, user_id: str) -> Profile | None:
        store = self._store
        if user_id in store.gone:
            return None
        if user_id not in store.profiles:
            now = store.now
            store.profiles[user_id] = Profile(
                f"p{len(store.profiles)}", user_id, None, None, None, None, {}, now, now
            )
        return store.profiles[user_id]

    async def set_facts(self, user_id: str, facts: Mapping[str, str | None]) -> Profile:
        before = self._store.profiles[user_id]
        known = {name: getattr(before, name) for name in ("avatar_url", "phone", "address", "bio")}
        wanted = {**known, **facts}
        return self._put(
            replace(
                before,
                avatar_url=wanted["avatar_url"],
                phone=wanted["phone"],
                address=wanted["address"],
                bio=wanted["bio"],
            )
        )

    async def set_preferences(self, user_id: str, preferences: Mapping[str, Any]) -> Profile:
        return self._put(replace(self._store.profiles[user_id], preferences=dict(preferences)))

    async def emit_updated(self, user_id: str, fields: Sequence[str], at: datetime) -> None:
        self._store.emitted.append((user_id, list(fields)))

    async def delete(self, user_id: str) -> bool:
        self._store.gone.add(user_id)
        return self._store.profiles.pop(user_id, None) is not None

    def _put(self, profile: Profile) -> Profile:
        changed = replace(profile, updated_at=self._store.now)
        self._store.profiles[profile.user_id] = changed
        return changed


class FakeCache:
    """A cache that keeps everything until a tag removes it."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[Loaded, frozenset[str]]] = {}

    async def read(
        self, entry: Entry, load: Loader, *, bypass: bool = False, admit: Admit | None = None
    ) -> Answer:
        if bypass:
            loaded, outcome = await load(), Outcome.BYPASS
        elif entry.key in self.entries:
            loaded, outcome = self.entries[entry.key][0], Outcome.HIT
        else:
            loaded, outcome = await load(), Outcome.MISS
            self.entries[entry.key] = loaded, frozenset((*entry.tags, *loaded.tags))
        return Answer(loaded.body, loaded.note, outcome)

    async def invalidate(self, *tags: str, once: str | None = None) -> None:
        self.entries = {
            key: value for key, value in self.entries.items() if not value[1] & set(tags)
        }
