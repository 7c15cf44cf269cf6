"""Keeps the key ring in auth_db and rotates it (R1.30, R1.95-R1.98).

A new key is stored first as one that only verifies; when every process has had the time to read it
(`PROPAGATION_S`), it begins to sign.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from system.auth.domain.keys import (
    RETIREMENT_MARGIN,
    KeyKind,
    KeyStatus,
    Rotation,
    new_kid,
)
from system.auth.ports import Store, StoredKey
from system.auth.service import facts
from system.auth.service.moments import utc_now
from system.platform.http import errors
from system.platform.security.keys import PROPAGATION_S, FreshKeys, Keys, KeysUnavailable
from system.platform.security.tokens import KeyRing, SigningKey, TokenType

TOKEN_TYPES: Final = {KeyKind.JWT: TokenType.ACCESS, KeyKind.REFRESH: TokenType.REFRESH}
_SECRET_BYTES: Final = 48


async def propagation() -> None:
    """Wait until every process has looked for keys."""
    await asyncio.sleep(PROPAGATION_S)


class KeyKeeper:
    """The ring of auth-service: what is stored counts, the environment only at the first start.

    Args:
        store: auth_db.
        environment: the keys of each kind that enter the ring at the first start.
        lifetimes: of the tokens of each kind; so long an old key still verifies.
        spread: waits until a stored key is known to every process.
        now: the time, UTC, in whole milliseconds.

    Attributes:
        fresh: the ring in force in this process; empty until the stored one could be read.
    """

    def __init__(
        self,
        store: Store,
        environment: Mapping[KeyKind, Sequence[SigningKey]],
        lifetimes: Mapping[KeyKind, timedelta],
        *,
        ring: KeyRing,
        spread: Callable[[], Awaitable[None]] = propagation,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._environment = environment
        self._lifetimes = lifetimes
        self._spread = spread
        self._now = now
        self.fresh = FreshKeys(ring, self._fetch)

    async def status(self) -> Sequence[KeyStatus]:
        """Return all keys without their secrets: the active one of each kind first."""
        return [key.status for key in await self._stored()]

    async def rotations(self) -> Sequence[Rotation]:
        """Return all rotations, the latest first."""
        return await self._store.rotations()

    async def expiring(self) -> Sequence[tuple[KeyStatus, int]]:
        """Return the signing keys that expire within 30 days, with the days that are left."""
        now = self._now()
        return [
            (status, status.days_left(now)) for status in await self.status() if status.is_due(now)
        ]

    async def rotate(
        self,
        kinds: Sequence[KeyKind],
        *,
        reason: str,
        expires_in_days: int | None,
        actor_id: str,
    ) -> dict[KeyKind, str]:
        """Let a new key of each kind sign from now on; return their kids (R1.96).

        Old keys verify until the last token signed with them has expired.  Of two rotations at
        once the one that ends later decides.
        """
        await self._stored()  # so that the keys of the environment are there to be retired
        made_at = self._now()
        expires_at = None
        if expires_in_days is not None:
            expires_at = made_at + timedelta(days=expires_in_days)
        kids = {kind: new_kid(made_at, secrets.token_hex(4)) for kind in kinds}
        async with self._store.transaction() as unit:
            for kind, kid in kids.items():
                status = KeyStatus(kind, kid, made_at, expires_at, False, True)
                secret = secrets.token_urlsafe(_SECRET_BYTES).encode()
                await unit.add_signing_key(StoredKey(status, secret))
        await self._spread()
        async with self._store.transaction() as unit:
            await unit.hold_ring()
            for kind, kid in kids.items():
                now = self._now()
                retire_at = now + self._lifetimes[kind] + RETIREMENT_MARGIN
                old_kid = await unit.activate_key(kind, kid, retire_at)
                rotation = Rotation(kind, old_kid, kid, actor_id, reason, now)
                await unit.add_rotation(rotation)
                await unit.emit(facts.secrets_rotated(rotation))
        with contextlib.suppress(KeysUnavailable):  # then the next look by the clock brings them
            await self.fresh.look()
        return kids

    async def _fetch(self) -> Keys:
        try:
            stored = await self._stored()
        except errors.ApiError as error:
            raise KeysUnavailable("auth_db is not reachable") from error
        except ValueError as error:
            raise KeysUnavailable(f"a stored key {error}") from error
        now = self._now()
        keys: dict[TokenType, list[SigningKey]] = {kind: [] for kind in TokenType}
        for key in stored:
            if key.status.verifies(now) or key.status.is_active:
                keys[TOKEN_TYPES[key.status.kind]].append(_signing_key(key))
        return {kind: tuple(found) for kind, found in keys.items()}

    async def _stored(self) -> Sequence[StoredKey]:
        """Read the ring; at the first start put the keys of the environment into it."""
        stored = await self._store.signing_keys()
        if _kinds(stored) == set(KeyKind):
            return stored
        async with self._store.transaction() as unit:
            await unit.hold_ring()  # another process may be starting for the first time, too
            there = _kinds(await unit.signing_keys())
            for kind in KeyKind:
                for key in self._environment[kind] if kind not in there else ():
                    await unit.add_signing_key(_stored_key(kind, key, self._now()))
            return await unit.signing_keys()


def _kinds(stored: Sequence[StoredKey]) -> set[KeyKind]:
    return {key.status.kind for key in stored}


def _stored_key(kind: KeyKind, key: SigningKey, now: datetime) -> StoredKey:
    status = KeyStatus(
        kind, key.kid, key.created_at or now, key.expires_at, key.is_active, key.can_verify
    )
    return StoredKey(status, key.secret)


def _signing_key(key: StoredKey) -> SigningKey:
    status = key.status
    return SigningKey(
        kid=status.kid,
        secret=key.secret,
        is_active=status.is_active,
        can_verify=status.can_verify,
        created_at=status.created_at,
        # A date of the active key asks for a rotation; to stop signing would lock everybody out.
        expires_at=None if status.is_active else status.expires_at,
    )
