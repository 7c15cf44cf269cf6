"""Working stand-ins for the ports of admin: a store in memory, and auth-service."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from system.admin.domain.audit import AuditEntry, AuditFilter, AuditRow
from system.admin.domain.configuration import Setting
from system.admin.domain.users import Role, User, UserQuery
from system.admin.ports import Actor
from system.platform.http import errors

START = datetime(2026, 1, 17, 10, tzinfo=UTC)


def a_user(number: int, **changes: Any) -> User:
    """Return a user; equal numbers give equal users."""
    user = User(
        id=str(uuid.UUID(int=number)),
        email=f"user{number}@x.test",
        name=f"User {number}",
        role="CUSTOMER",
        status="active",
        email_verified=False,
        version=1,
        created_at=START,
        updated_at=START,
    )
    return replace(user, **changes)


class FakeStore:
    """admin_db in memory; transactions take turns and undo themselves on errors."""

    def __init__(self) -> None:
        self.rows: dict[str, AuditEntry] = {}
        self.users_by_id: dict[str, User] = {}
        self.gone: dict[str, int] = {}
        self.config: dict[str, Setting] = {}
        self.emitted: list[tuple[str, str]] = []
        self.asked: list[UserQuery] = []
        self.away = False
        self.ticks = 0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[FakeUnit]:
        self._be_there()
        async with self._turn:
            before = dict(self.rows), dict(self.users_by_id), dict(self.gone)
            before_too = dict(self.config), list(self.emitted)
            try:
                yield FakeUnit(self)
            except BaseException:
                self.rows, self.users_by_id, self.gone = before
                self.config, self.emitted = before_too
                raise

    async def users(self, query: UserQuery) -> tuple[Sequence[User], int]:
        self._be_there()
        self.asked.append(query)
        return list(self.users_by_id.values()), len(self.users_by_id)

    async def user(self, user_id: str) -> User | None:
        self._be_there()
        return self.users_by_id.get(user_id)

    async def user_ids(self) -> Collection[str]:
        self._be_there()
        return list(self.users_by_id)

    async def settings(self) -> Sequence[Setting]:
        return [self.config[key] for key in sorted(self.config)]

    async def setting(self, key: str) -> Setting | None:
        return self.config.get(key)

    def _be_there(self) -> None:
        if self.away:
            raise errors.service_unavailable()


class FakeUnit:
    """`ports.Unit` on a `FakeStore`."""

    def __init__(self, store: FakeStore) -> None:
        self._store = store

    async def add_audit_row(self, entry: AuditEntry) -> None:
        self._store.rows.setdefault(entry.event_id, entry)

    async def lock_copy(self) -> None:
        return None  # transactions take turns anyway

    async def known_version(self, user_id: str) -> int | None:
        user = self._store.users_by_id.get(user_id)
        return user.version if user else self._store.gone.get(user_id)

    async def put_user(self, user: User) -> None:
        self._store.users_by_id[user.id] = user

    async def put_users(self, users: Sequence[User]) -> None:
        for user in users:
            known = await self.known_version(user.id)
            if known is None or known < user.version:
                await self.put_user(user)

    async def delete_user(self, user_id: str, version: int) -> None:
        self._store.users_by_id.pop(user_id, None)
        self._store.gone[user_id] = version

    async def drop_user(self, user_id: str) -> None:
        self._store.users_by_id.pop(user_id, None)

    async def put_setting(
        self, key: str, value: Any, description: str | None, updated_by: str
    ) -> Setting:
        self._store.ticks += 1
        at = START + timedelta(seconds=self._store.ticks)
        setting = Setting(key, value, description, at, updated_by)
        self._store.config[key] = setting
        return setting

    async def emit_config_updated(self, key: str, updated_by: str, at: datetime) -> None:
        self._store.emitted.append((key, updated_by))


class FakeAuditLog:
    """`ports.AuditLog` that gives what it was made with, and remembers what it was asked."""

    def __init__(self, rows: Sequence[AuditRow], total: int) -> None:
        self._rows = rows
        self._total = total
        self.asked: tuple[AuditFilter, int, int] | None = None

    async def page(
        self, wanted: AuditFilter, *, limit: int, offset: int
    ) -> tuple[Sequence[AuditRow], int]:
        self.asked = (wanted, limit, offset)
        return self._rows, self._total


class FakeAccounts:
    """auth-service as far as administrators command it; raises what it is told to."""

    PAGE = 3

    def __init__(self, *users: User) -> None:
        self.users = {user.id: user for user in users}
        self.refusal: errors.ApiError | None = None
        self.commands: list[tuple[str, Actor, Any]] = []
        self.on_page: list[Any] = []
        self.pages = 0

    async def create(
        self, actor: Actor, *, email: str, password: str, name: str, role: Role
    ) -> User:
        self._told("create", actor, (email, password, name, role))
        user = a_user(len(self.users) + 1000, email=email, name=name, role=role.value)
        self.users[user.id] = user
        return user

    async def change(self, actor: Actor, user_id: str, changes: Mapping[str, str]) -> User:
        self._told("change", actor, (user_id, dict(changes)))
        return self._changed(user_id, **changes)

    async def set_role(self, actor: Actor, user_id: str, role: Role) -> User:
        self._told("set_role", actor, (user_id, role))
        return self._changed(user_id, role=role.value)

    async def set_active(
        self, actor: Actor, user_id: str, active: bool, reason: str | None
    ) -> User:
        self._told("set_active", actor, (user_id, active, reason))
        return self._changed(user_id, status="active" if active else "suspended")

    async def delete(self, actor: Actor, user_id: str) -> None:
        self._told("delete", actor, user_id)
        self._known(user_id)
        del self.users[user_id]

    async def page(self, after: str | None) -> Sequence[User]:
        self._may_refuse()
        self.pages += 1
        later = sorted(user_id for user_id in self.users if after is None or user_id > after)
        page = [self.users[user_id] for user_id in later[: self.PAGE]]
        if self.on_page:
            self.on_page.pop(0)()
        return page

    async def find(self, user_id: str) -> User | None:
        self._may_refuse()
        return self.users.get(user_id)

    def _told(self, command: str, actor: Actor, content: Any) -> None:
        self._may_refuse()
        self.commands.append((command, actor, content))

    def _may_refuse(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def _known(self, user_id: str) -> User:
        if user_id not in self.users:
            raise errors.missing("USER_NOT_FOUND", "User not found")
        return self.users[user_id]

    def _changed(self, user_id: str, **changes: Any) -> User:
        user = self._known(user_id)
        later = user.updated_at + timedelta(seconds=1)
        changed = replace(user, version=user.version + 1, updated_at=later, **changes)
        self.users[user_id] = changed
        return changed
