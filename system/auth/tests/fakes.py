"""Working stand-ins for the ports of auth: everything in memory, transactions one after another."""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from system.auth.domain.accounts import (
    RefreshToken,
    RevokeReason,
    Session,
    User,
    UserRole,
    UserStatus,
)
from system.auth.domain.devices import Device, DeviceType
from system.auth.domain.keys import KeyKind, Rotation
from system.auth.domain.throttles import Throttle
from system.auth.ports import Fact, Store, StoredKey, Unit
from system.platform.events import catalogue


@dataclass
class Tables:
    """What a database holds."""

    users: dict[str, User] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    tokens: dict[str, RefreshToken] = field(default_factory=dict)
    devices: dict[tuple[str, str], Device] = field(default_factory=dict)
    throttles: dict[str, Throttle] = field(default_factory=dict)
    pairs: dict[str, str] = field(default_factory=dict)
    clients: dict[tuple[str, str], datetime] = field(default_factory=dict)
    keys: dict[tuple[KeyKind, str], StoredKey] = field(default_factory=dict)
    rotations: list[Rotation] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)


class FakeThrottles:
    """`ports.ThrottleRows` on a copy of the tables."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    async def hold_throttle(self, key: str) -> None:
        pass  # transactions come one after another here

    async def throttles(self, keys: Sequence[str]) -> Mapping[str, Throttle]:
        return {key: self.tables.throttles[key] for key in keys if key in self.tables.throttles}

    async def pairs_of(self, account_key: str) -> Sequence[Throttle]:
        return [
            self.tables.throttles[pair]
            for pair, account in self.tables.pairs.items()
            if account == account_key and pair in self.tables.throttles
        ]

    async def store_throttle(self, throttle: Throttle) -> None:
        self.tables.throttles[throttle.key] = throttle

    async def link_pair(self, pair_key: str, account_key: str) -> None:
        self.tables.pairs[pair_key] = account_key

    async def clear_throttles(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.tables.throttles.pop(key, None)

    async def is_known_client(self, user_id: str, clients: Sequence[str], since: datetime) -> bool:
        noted = (self.tables.clients.get((user_id, client)) for client in clients)
        return any(moment is not None and moment > since for moment in noted)

    async def note_clients(self, user_id: str, clients: Sequence[str], now: datetime) -> None:
        self.tables.clients.update({(user_id, client): now for client in clients})


class FakeKeys:
    """`ports.KeyRows` on a copy of the tables."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    async def hold_ring(self) -> None:
        pass  # transactions come one after another here

    async def signing_keys(self) -> Sequence[StoredKey]:
        return sorted(self.tables.keys.values(), key=lambda key: not key.status.is_active)

    async def add_signing_key(self, key: StoredKey) -> None:
        place = (key.status.kind, key.status.kid)
        assert place not in self.tables.keys
        self.tables.keys[place] = key

    async def activate_key(self, kind: KeyKind, kid: str, retire_at: datetime) -> str | None:
        old_kid = None
        for place, key in list(self.tables.keys.items()):
            status = key.status
            if status.kind is kind and status.is_active:
                old_kid = status.kid
                retired = replace(status, is_active=False, expires_at=retire_at)
                self.tables.keys[place] = replace(key, status=retired)
        key = self.tables.keys[kind, kid]
        self.tables.keys[kind, kid] = replace(key, status=replace(key.status, is_active=True))
        return old_kid

    async def add_rotation(self, rotation: Rotation) -> None:
        self.tables.rotations.insert(0, rotation)


class FakeUnit(FakeThrottles, FakeKeys):
    """`ports.Unit` on a copy of the tables."""

    async def add_user(self, user: User, password_hash: str) -> bool:
        if any(known.email == user.email for known in self.tables.users.values()):
            return False
        self.tables.users[user.id] = user
        self.tables.hashes[user.id] = password_hash
        return True

    async def credentials(self, email: str) -> tuple[User, str] | None:
        found = (user for user in self.tables.users.values() if user.email == email)
        user = next(found, None)
        return None if user is None else (user, self.tables.hashes[user.id])

    async def lock_credentials(self, user_id: str) -> tuple[User, str] | None:
        user = self.tables.users.get(user_id)
        return None if user is None else (user, self.tables.hashes[user_id])

    async def replace_password_hash(self, user_id: str, seen: str, new: str) -> None:
        if self.tables.hashes.get(user_id) == seen:
            self.tables.hashes[user_id] = new

    async def add_session(self, session: Session) -> None:
        self.tables.sessions[session.id] = session

    async def lock_session(self, session_id: str) -> Session | None:
        return self.tables.sessions.get(session_id)

    async def extend_session(
        self, session_id: str, used_at: datetime, expires_at: datetime
    ) -> None:
        found = self.tables.sessions[session_id]
        self.tables.sessions[session_id] = replace(
            found, expires_at=expires_at, last_used_at=used_at
        )

    async def revoke_session(
        self, session_id: str, user_id: str, reason: RevokeReason, now: datetime
    ) -> Session | None:
        found = self.tables.sessions.get(session_id)
        if found is None or found.user_id != user_id or not found.is_open(now):
            return None
        closed = replace(found, revoked_at=now, revoke_reason=reason)
        self.tables.sessions[session_id] = closed
        return closed

    async def revoke_all_sessions(
        self, user_id: str, reason: RevokeReason, now: datetime, *, but: str | None = None
    ) -> Sequence[Session]:
        closed = [
            await self.revoke_session(session.id, user_id, reason, now)
            for session in list(self.tables.sessions.values())
            if session.id != but
        ]
        return [session for session in closed if session is not None]

    async def revoke_device_sessions(
        self, user_id: str, device_id: str, reason: RevokeReason, now: datetime
    ) -> Sequence[Session]:
        closed = [
            await self.revoke_session(session.id, user_id, reason, now)
            for session in list(self.tables.sessions.values())
            if session.device_id == device_id
        ]
        return [session for session in closed if session is not None]

    async def set_password(self, user_id: str, password_hash: str) -> None:
        user = self.tables.users[user_id]
        self.tables.users[user_id] = replace(user, version=user.version + 1)
        self.tables.hashes[user_id] = password_hash

    async def note_device(
        self,
        user_id: str,
        device_id: str,
        *,
        name: str | None,
        type: DeviceType | None,
        user_agent: str | None,
        now: datetime,
    ) -> Device:
        known = self.tables.devices.get((user_id, device_id))
        device = known or Device(
            str(uuid.uuid4()), user_id, device_id, None, DeviceType.BROWSER, None, now, now
        )
        device = replace(
            device,
            name=name or device.name,
            type=type or device.type,
            user_agent=user_agent or device.user_agent,
            last_active_at=now,
        )
        self.tables.devices[user_id, device_id] = device
        return device

    async def name_device(self, user_id: str, device_id: str, name: str) -> Device | None:
        device = self.tables.devices.get((user_id, device_id))
        if device is None:
            return None
        named = self.tables.devices[user_id, device_id] = replace(device, name=name)
        return named

    async def bind_session(self, session_id: str, user_id: str, device_id: str) -> None:
        session = self.tables.sessions[session_id]
        assert (session.user_id, (user_id, device_id) in self.tables.devices) == (user_id, True)
        self.tables.sessions[session_id] = replace(session, device_id=device_id)

    async def remove_device(self, user_id: str, device_id: str) -> bool:
        if self.tables.devices.pop((user_id, device_id), None) is None:
            return False
        for session in list(self.tables.sessions.values()):
            if (session.user_id, session.device_id) == (user_id, device_id):
                self.tables.sessions[session.id] = replace(session, device_id=None)
        return True

    async def remove_other_devices(self, user_id: str, device_id: str) -> None:
        for owner, other in list(self.tables.devices):
            if owner == user_id and other != device_id:
                await self.remove_device(owner, other)

    async def add_refresh_token(self, token: RefreshToken, now: datetime) -> None:
        self.tables.tokens[token.token_hash] = token

    async def refresh_token(self, token_hash: str) -> RefreshToken | None:
        return self.tables.tokens.get(token_hash)

    async def spend_refresh_token(self, token_hash: str, now: datetime) -> None:
        found = self.tables.tokens[token_hash]
        self.tables.tokens[token_hash] = replace(found, spent_at=now)

    async def user(self, user_id: str) -> User | None:
        return self.tables.users.get(user_id)

    async def lock_user(self, user_id: str) -> User | None:
        return self.tables.users.get(user_id)

    async def hold_admin_roll(self) -> None:
        pass  # transactions come one after another here

    async def has_other_active_admin(self, user_id: str) -> bool:
        return any(
            user.role is UserRole.ADMIN and user.status is UserStatus.ACTIVE and user.id != user_id
            for user in self.tables.users.values()
        )

    async def change_user(self, user: User) -> User | None:
        others = (known for known in self.tables.users.values() if known.id != user.id)
        if any(other.email == user.email for other in others):
            return None
        changed = replace(user, version=user.version + 1)
        self.tables.users[user.id] = changed
        return changed

    async def delete_user(self, user_id: str) -> None:
        tables = self.tables
        del tables.users[user_id], tables.hashes[user_id]
        tables.sessions = {
            id: session for id, session in tables.sessions.items() if session.user_id != user_id
        }
        tables.tokens = {
            key: token for key, token in tables.tokens.items() if token.user_id != user_id
        }

    async def emit(self, fact: Fact) -> None:
        kind = catalogue.KINDS[fact.type]
        faults = catalogue.faults(kind, fact.data)
        assert (faults, fact.event_type) == ([], kind.event_type), "the catalogue's rule is broken"
        self.tables.facts.append(fact)


class FakeStore:
    """`ports.Store` in memory; a failed transaction leaves nothing behind.

    Attributes:
        tables: what is committed.
        most_at_once: the most transactions that were wanted at the same time.
    """

    def __init__(self) -> None:
        self.tables = Tables()
        self.most_at_once = 0
        self._wanted = 0
        self._turn = asyncio.Lock()

    def transaction(self) -> AbstractAsyncContextManager[Unit]:
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Unit]:
        self._wanted += 1
        self.most_at_once = max(self.most_at_once, self._wanted)
        try:
            async with self._in_turn() as unit:
                yield unit
        finally:
            self._wanted -= 1

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[Unit]:
        async with self._turn:
            draft = copy.deepcopy(self.tables)
            await asyncio.sleep(0)
            yield FakeUnit(draft)
            self.tables = draft

    async def user(self, user_id: str) -> User | None:
        return self.tables.users.get(user_id)

    async def user_by_email(self, email: str) -> User | None:
        return next((user for user in self.tables.users.values() if user.email == email), None)

    async def devices(self, user_id: str) -> Sequence[Device]:
        own = [device for device in self.tables.devices.values() if device.user_id == user_id]
        return sorted(own, key=lambda device: device.last_active_at, reverse=True)

    async def open_sessions(self, user_id: str, now: datetime) -> Sequence[Session]:
        return [
            session
            for session in self.tables.sessions.values()
            if session.user_id == user_id and session.is_open(now)
        ]

    async def users(self, *, after: str, limit: int) -> Sequence[User]:
        ids = sorted(user_id for user_id in self.tables.users if user_id > after)[:limit]
        return [self.tables.users[user_id] for user_id in ids]

    async def signing_keys(self) -> Sequence[StoredKey]:
        return await FakeKeys(self.tables).signing_keys()

    async def rotations(self) -> Sequence[Rotation]:
        return self.tables.rotations

    async def session(self, session_id: str) -> tuple[Session, User] | None:
        session = self.tables.sessions.get(session_id)
        return None if session is None else (session, self.tables.users[session.user_id])


@dataclass
class FakeHasher:
    """`ports.PasswordHasher` that hashes by writing the password after a word."""

    word: str = "new"
    work: int = 0
    checking: asyncio.Event = field(default_factory=asyncio.Event)

    async def hash(self, password: str) -> str:
        self.work += 1
        return f"{self.word}:{password}"

    async def matches(self, password: str, stored: str | None) -> bool:
        self.work += 1
        self.checking.set()
        await asyncio.sleep(0)
        return stored is not None and stored.partition(":")[2] == password

    def outdated(self, stored: str) -> bool:
        return not stored.startswith(self.word)


@dataclass
class FakeMirror:
    """`ports.Mirror` that keeps the last word about each session."""

    epoch: str | None = "e1"
    states: dict[str, str] = field(default_factory=dict)

    async def opened(self, session_id: str, epoch: str | None) -> None:
        self.states.setdefault(session_id, f"open {epoch}")

    async def revoked(self, session_ids: Sequence[str]) -> None:
        self.states.update(dict.fromkeys(session_ids, "revoked"))


@dataclass
class FakeEmails:
    """`ports.UserCache` in memory."""

    emails: dict[str, str] = field(default_factory=dict)

    async def remember_email(self, user: User) -> None:
        self.emails[user.email] = user.id

    async def user_id(self, email: str, store: Store) -> str | None:
        return self.emails.get(email)

    async def forget(self, user_id: str) -> None:
        self.emails = {email: known for email, known in self.emails.items() if known != user_id}


@dataclass
class Clock:
    """A clock in whole milliseconds that moves when told."""

    now: datetime = field(default_factory=lambda: datetime(2026, 1, 17, 10, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        """Move on."""
        self.now += timedelta(seconds=seconds)
