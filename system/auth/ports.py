"""What the auth use cases need from the outside: a store with transactions, a hasher, a mirror."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from system.auth.domain.accounts import RefreshToken, RevokeReason, Session, User
from system.auth.domain.devices import Device, DeviceType
from system.auth.domain.keys import KeyKind, KeyStatus, Rotation
from system.auth.domain.throttles import Throttle


@dataclass(frozen=True, slots=True)
class Caller:
    """Who stands at the other end of a request.

    Attributes:
        address: client address (R1.40), None outside a request.
        user_agent: header User-Agent, None if not sent.
        device_id: the device named in X-Device-ID, None if none is (R1.67).
    """

    address: str | None
    user_agent: str | None
    device_id: str | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """An event about to be written to the outbox (3.5).

    Attributes:
        type: `user.created` and the like.
        event_type: group in the metadata, such as `user_lifecycle` (R3.12).
        actor_id: the user who acted, None if there is none (R3.41).
        data: contents by the catalogue.
    """

    type: str
    event_type: str
    actor_id: str | None
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A signing key as it is stored; the secret is kept out of the representation."""

    status: KeyStatus
    secret: bytes = field(repr=False)


class KeyRows(Protocol):
    """Signing keys and their rotations (R2.9, R2.10)."""

    async def hold_ring(self) -> None:
        """Let no one else change which keys sign until the transaction ends."""

    async def signing_keys(self) -> Sequence[StoredKey]:
        """Read all keys, the active one of each kind first."""

    async def add_signing_key(self, key: StoredKey) -> None:
        """Store a key, encrypted."""

    async def activate_key(self, kind: KeyKind, kid: str, retire_at: datetime) -> str | None:
        """Let this key sign and the active one verify until `retire_at`; returns its kid."""

    async def add_rotation(self, rotation: Rotation) -> None:
        """Note a rotation."""


class DeviceRows(Protocol):
    """Devices, inside a transaction that holds their user."""

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
        """Write a device as active now; name and type keep what is known unless given."""

    async def name_device(self, user_id: str, device_id: str, name: str) -> Device | None:
        """Give a device another name; None if the user has no such device."""

    async def bind_session(self, session_id: str, user_id: str, device_id: str) -> None:
        """Bind a session to a device of its user."""

    async def remove_device(self, user_id: str, device_id: str) -> bool:
        """Remove a device; its sessions stay, bound to none. False if there is none."""

    async def remove_other_devices(self, user_id: str, device_id: str) -> None:
        """Remove every device of the user but this one."""

    async def revoke_device_sessions(
        self, user_id: str, device_id: str, reason: RevokeReason, now: datetime
    ) -> Sequence[Session]:
        """Close the open sessions that are bound to a device; returns them."""


class ThrottleRows(Protocol):
    """Counters of failed logins, and clients that signed in (R2.7, R2.8)."""

    async def hold_throttle(self, key: str) -> None:
        """Let no one else hold this counter until the transaction ends; it need not exist.

        Counters are held in this order: pair, account, address.
        """

    async def throttles(self, keys: Sequence[str]) -> Mapping[str, Throttle]:
        """Read the counters that exist, by key."""

    async def pairs_of(self, account_key: str) -> Sequence[Throttle]:
        """Read the counters of all pairs of an account, in the order of their keys."""

    async def store_throttle(self, throttle: Throttle) -> None:
        """Write a counter that is held."""

    async def link_pair(self, pair_key: str, account_key: str) -> None:
        """Note that the counter of a pair belongs to an account."""

    async def clear_throttles(self, keys: Sequence[str]) -> None:
        """Remove counters."""

    async def is_known_client(self, user_id: str, clients: Sequence[str], since: datetime) -> bool:
        """Whether one of these addresses and devices signed in to the account since then."""

    async def note_clients(self, user_id: str, clients: Sequence[str], now: datetime) -> None:
        """Note that these addresses and devices signed in to the account."""


class Unit(DeviceRows, ThrottleRows, KeyRows, Protocol):
    """One transaction on auth_db; leaving its block commits, an error rolls back.

    Locks are taken in one order, or two transactions would wait for each other: the counter of a
    pair, the user, a session, its refresh tokens, the other counters.
    """

    async def add_user(self, user: User, password_hash: str) -> bool:
        """Insert an account; False if its e-mail is taken."""

    async def credentials(self, email: str) -> tuple[User, str] | None:
        """Read an account and its password hash by its normal e-mail address.

        It is kept from changing until the transaction ends, as by `user`.
        """

    async def lock_credentials(self, user_id: str) -> tuple[User, str] | None:
        """Read an account and its password hash as the only one who holds it."""

    async def replace_password_hash(self, user_id: str, seen: str, new: str) -> None:
        """Store a newer hash of the same password, unless the hash is no longer the one seen."""

    async def set_password(self, user_id: str, password_hash: str) -> None:
        """Store the hash of another password and raise the version of the account."""

    async def add_session(self, session: Session) -> None:
        """Insert a session, bound to the device of its user that it names."""

    async def lock_session(self, session_id: str) -> Session | None:
        """Read a session and keep others from changing it until the transaction ends."""

    async def extend_session(
        self, session_id: str, used_at: datetime, expires_at: datetime
    ) -> None:
        """Note a use of the session, and with it of its device, and the session's new end."""

    async def revoke_session(
        self, session_id: str, user_id: str, reason: RevokeReason, now: datetime
    ) -> Session | None:
        """Close this session of this user; None if there is no such open session."""

    async def revoke_all_sessions(
        self, user_id: str, reason: RevokeReason, now: datetime, *, but: str | None = None
    ) -> Sequence[Session]:
        """Close all open sessions of the user, one perhaps excepted; returns those closed."""

    async def add_refresh_token(self, token: RefreshToken, now: datetime) -> None:
        """Store a refresh token by its hash."""

    async def refresh_token(self, token_hash: str) -> RefreshToken | None:
        """Read a stored refresh token."""

    async def spend_refresh_token(self, token_hash: str, now: datetime) -> None:
        """Mark a refresh token as exchanged."""

    async def user(self, user_id: str) -> User | None:
        """Read an account and keep it from changing until the transaction ends."""

    async def lock_user(self, user_id: str) -> User | None:
        """Read an account as the only one who holds it, before several of its sessions change."""

    async def hold_admin_roll(self) -> None:
        """Let no one else change roles, statuses or delete accounts until the transaction ends.

        Taken before any other lock.
        """

    async def has_other_active_admin(self, user_id: str) -> bool:
        """Whether an active administrator besides this account exists; the roll is held."""

    async def change_user(self, user: User) -> User | None:
        """Store name, e-mail, role and status of a locked account, and raise its version.

        Returns:
            The account as it is now; None if its e-mail belongs to another account.
        """

    async def delete_user(self, user_id: str) -> None:
        """Remove an account and all that hangs on it."""

    async def emit(self, fact: Fact) -> None:
        """Write an event to the outbox, to be published after the commit (R3.16)."""


class Store(Protocol):
    """auth_db."""

    def transaction(self) -> AbstractAsyncContextManager[Unit]:
        """Open a transaction."""

    async def user(self, user_id: str) -> User | None:
        """Read an account by id."""

    async def user_by_email(self, email: str) -> User | None:
        """Read an account by its normal e-mail address."""

    async def devices(self, user_id: str) -> Sequence[Device]:
        """Read the devices of a user, the latest activity first."""

    async def open_sessions(self, user_id: str, now: datetime) -> Sequence[Session]:
        """Read the open sessions of a user, the latest use first."""

    async def users(self, *, after: str, limit: int) -> Sequence[User]:
        """Read accounts in the order of their ids, those greater than `after`."""

    async def signing_keys(self) -> Sequence[StoredKey]:
        """Read all signing keys, the active one of each kind first."""

    async def rotations(self) -> Sequence[Rotation]:
        """Read all rotations of keys, the latest first."""

    async def session(self, session_id: str) -> tuple[Session, User] | None:
        """Read a session and its user."""


class PasswordHasher(Protocol):
    """Makes and checks password hashes, off the event loop (R1.66)."""

    async def hash(self, password: str) -> str:
        """Return a new hash of the password."""

    async def matches(self, password: str, stored: str | None) -> bool:
        """Check a password; with None it takes as long and is False (R1.82)."""

    def outdated(self, stored: str) -> bool:
        """Whether the hash should be replaced by one of today's parameters (R1.66)."""


class Mirror(Protocol):
    """The copy of session states that verifiers read (R1.38); never fails its caller."""

    @property
    def epoch(self) -> str | None:
        """The word that makes "open" entries count; None while the mirror is out of reach."""

    async def opened(self, session_id: str, epoch: str | None) -> None:
        """Note an open session, read from the store after `epoch` was taken."""

    async def revoked(self, session_ids: Sequence[str]) -> None:
        """Note closed sessions; if that fails, make all older "open" entries worthless soon."""


class UserCache(Protocol):
    """What is remembered of accounts beside the store; never fails its caller."""

    async def remember_email(self, user: User) -> None:
        """Note under which id this e-mail address is found (R6.22)."""

    async def user_id(self, email: str, store: Store) -> str | None:
        """Return the id last found for this address, asking the store if none is known."""

    async def forget(self, user_id: str) -> None:
        """Drop all that is remembered of this account, after it changed (R6.5)."""
