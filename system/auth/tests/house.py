"""An auth service with everything around it faked by the real ports, for tests to live in."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from system.auth.adapters.session_check import StoreSessionCheck
from system.auth.domain.keys import KeyKind
from system.auth.ports import Caller
from system.auth.service.accounts import AccountCommands
from system.auth.service.keys import KeyKeeper
from system.auth.service.lockouts import Lockouts
from system.auth.service.own_sessions import OwnSessions
from system.auth.service.passwords import PasswordChange
from system.auth.service.reading import AccountReads
from system.auth.service.signing_in import SignedIn, SigningIn
from system.auth.service.throttling import LoginGate
from system.auth.service.tokens import TokenDesk
from system.auth.tests.fakes import Clock, FakeEmails, FakeHasher, FakeMirror, FakeStore
from system.platform.http.errors import ApiError
from system.platform.security.tokens import (
    Claims,
    KeyRing,
    SigningKey,
    verify,
)

CALLER = Caller("203.0.113.7", "agent")
EXEMPT = Caller("127.0.0.2", "load")
PASSWORD = "Correct horse 1!"


class House:
    """An auth service and everything it stands on."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = FakeStore()
        self.hasher = FakeHasher()
        self.mirror = FakeMirror()
        self.emails = FakeEmails()
        self.ring = KeyRing({}, clock=lambda: self.clock().timestamp())
        self.spreads = 0
        self.keeper = self.new_keeper(self.ring)
        self.desk = TokenDesk(self.keeper.fresh, "15m", "7d")
        self.gate = LoginGate(lambda address: address == EXEMPT.address, self.clock)
        self.service = SigningIn(
            store=self.store,
            hasher=self.hasher,
            mirror=self.mirror,
            cache=self.emails,
            desk=self.desk,
            gate=self.gate,
            now=self.clock,
        )
        self.passwords = PasswordChange(
            store=self.store,
            hasher=self.hasher,
            mirror=self.mirror,
            cache=self.emails,
            gate=self.gate,
            now=self.clock,
        )
        self.lockouts = Lockouts(self.store, self.clock)
        self.own = OwnSessions(self.store, self.mirror, self.clock)
        self.reads = AccountReads(self.store, self.mirror, self.emails, self.clock)
        self.accounts = AccountCommands(
            self.store, self.hasher, self.mirror, self.emails, self.clock
        )

    def new_keeper(self, ring: KeyRing, secret: bytes = b"a") -> KeyKeeper:
        """The keeper of a process on this store, with keys of the environment made of `secret`."""

        async def spread() -> None:
            self.spreads += 1

        return KeyKeeper(
            self.store,
            {
                KeyKind.JWT: [SigningKey("a", secret * 40, is_active=True)],
                KeyKind.REFRESH: [SigningKey("r", secret * 41, is_active=True)],
            },
            {KeyKind.JWT: timedelta(minutes=15), KeyKind.REFRESH: timedelta(days=7)},
            ring=ring,
            spread=spread,
            now=self.clock,
        )

    async def register(self, email: str = "c@x.test") -> SignedIn:
        return await self.service.register(email=email, password=PASSWORD, name="C", caller=CALLER)

    async def login(
        self, email: str = "c@x.test", password: str = PASSWORD, caller: Caller = CALLER
    ) -> SignedIn:
        return await self.service.login(email=email, password=password, caller=caller)

    async def refresh(self, token: str) -> str:
        """Refresh; give the new refresh token or the code of the refusal."""
        try:
            return (await self.service.refresh(token, CALLER)).refresh_token
        except ApiError as refusal:
            return refusal.code

    def claims(self, signed: SignedIn) -> Claims:
        return verify(signed.tokens.access_token, self.ring)

    async def state(self, signed: SignedIn) -> str:
        try:
            await StoreSessionCheck(self.store, self.clock).ensure_open(self.claims(signed))
        except ApiError as refusal:
            return refusal.code
        return "open"

    def events(self) -> list[str]:
        return [fact.type for fact in self.store.tables.facts]

    def change_user(self, signed: SignedIn, **changes: object) -> None:
        user = self.store.tables.users[signed.user.id]
        changed = dataclasses.replace(user, version=user.version + 1, **changes)  # type: ignore[arg-type]  # any field
        self.store.tables.users[user.id] = changed
