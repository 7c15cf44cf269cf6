"""Counts failed logins and says who must wait (R1.75-R1.81).

    scope     subject                   limit  then
    pair      e-mail, client address    5      locked for 15 min; before that a growing wait
    account   e-mail                    50     guarded for 15 min: known clients only
    address   client address            50     refused for 15 min

Failures count together for 15 min from the first; when a lock is over, counting begins anew.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

WINDOW: Final = timedelta(minutes=15)
LOCK: Final = timedelta(minutes=15)
# R1.79
KNOWN_FOR: Final = timedelta(days=30)
LONGEST_WAIT_S: Final = 60
# R1.78: told when this many attempts remain, or fewer.
_REMAINING_TOLD: Final = 2


class Scope(StrEnum):
    """What a counter is about (R2.7)."""

    PAIR = "pair"
    ACCOUNT = "account"
    ADDRESS = "address"


LIMITS: Final = {Scope.PAIR: 5, Scope.ACCOUNT: 50, Scope.ADDRESS: 50}


@dataclass(frozen=True, slots=True)
class Throttle:
    """A counter of failed logins (R2.7).

    Attributes:
        key: hash of scope and subject.
        scope: pair, account or address.
        failures: since `first_failure_at`.
        first_failure_at: UTC.
        last_failure_at: UTC.
        locked_until: end of the lock, if the limit was reached.
        next_try_at: before this moment a pair's attempts are refused.
    """

    key: str
    scope: Scope
    failures: int
    first_failure_at: datetime
    last_failure_at: datetime
    locked_until: datetime | None = None
    next_try_at: datetime | None = None

    def is_locked(self, now: datetime) -> bool:
        """Whether the lock is in force."""
        return self.locked_until is not None and now < self.locked_until

    def counts(self, now: datetime) -> bool:
        """Whether the next failure is added to these."""
        if self.locked_until is not None:
            return now < self.locked_until
        return now - self.first_failure_at < WINDOW

    @property
    def remaining(self) -> int:
        """Attempts left before the lock."""
        return max(0, LIMITS[self.scope] - self.failures)


@dataclass(frozen=True, slots=True)
class Subject:
    """The three counters an attempt falls under, by key; no address, no counter of addresses."""

    pair: str
    account: str
    address: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What the counters of an attempt say before it."""

    pair: Throttle | None
    account: Throttle | None
    address: Throttle | None


class Barrier(StrEnum):
    """Why an attempt is not looked at."""

    LOCKED = "locked"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An attempt that is not looked at, and until when."""

    barrier: Barrier
    until: datetime

    def wait_seconds(self, now: datetime) -> int:
        """Whole seconds to wait, at least one."""
        return max(1, math.ceil((self.until - now).total_seconds()))


def key_of(scope: Scope, *subject: str) -> str:
    """SHA-256 of scope and subject in hex; an unknown e-mail is not stored in clear (R2.7)."""
    return hashlib.sha256("\0".join((scope, *subject)).encode()).hexdigest()


def subject_of(email: str, address: str | None) -> Subject:
    """Return the keys of an attempt on this account from this address (R1.75)."""
    return Subject(
        pair=key_of(Scope.PAIR, email, address or ""),
        account=key_of(Scope.ACCOUNT, email),
        address=key_of(Scope.ADDRESS, address) if address is not None else None,
    )


def refusal(standing: Standing, now: datetime, *, known: bool) -> Refusal | None:
    """Say whether an attempt is refused before its password is looked at.

    Args:
        standing: the counters.
        now: UTC.
        known: the address or device has signed in to this account lately (R1.79).
    """
    locks = [standing.pair]
    if not known:
        locks.append(standing.account)
    ends = [lock.locked_until for lock in locks if lock is not None and lock.is_locked(now)]
    if until := max((end for end in ends if end is not None), default=None):
        return Refusal(Barrier.LOCKED, until)
    address, pair = standing.address, standing.pair
    if address is not None and address.is_locked(now) and address.locked_until is not None:
        return Refusal(Barrier.WAIT, address.locked_until)
    if pair is not None and pair.next_try_at is not None and now < pair.next_try_at:
        return Refusal(Barrier.WAIT, pair.next_try_at)
    return None


def after_failure(throttle: Throttle | None, key: str, scope: Scope, now: datetime) -> Throttle:
    """Return the counter with one more failure."""
    if throttle is None or not throttle.counts(now):
        return Throttle(key, scope, 1, now, now)
    counted = replace(throttle, failures=throttle.failures + 1, last_failure_at=now)
    if counted.locked_until is None and counted.failures >= LIMITS[scope]:
        # A lock in force is not prolonged by what is still let through to its account.
        return replace(counted, locked_until=now + LOCK, next_try_at=None)
    if scope is Scope.PAIR:
        wait = min(LONGEST_WAIT_S, 2 ** (counted.failures - 2))
        return replace(counted, next_try_at=now + timedelta(seconds=wait))
    return counted


def remaining_to_tell(pair: Throttle) -> int | None:
    """Attempts left, if they are few enough to be told (R1.78)."""
    return pair.remaining if 0 < pair.remaining <= _REMAINING_TOLD else None


@dataclass(frozen=True, slots=True)
class Lockout:
    """Why and how long an account is locked for somebody (R1.83)."""

    scope: Scope
    locked_at: datetime
    unlock_at: datetime
    failures: int


def lockout(
    pairs: list[Throttle], account: Throttle | None, now: datetime
) -> tuple[int, Lockout | None]:
    """Return the failures that count against an account and its longest lock, if there is one."""
    live = [pair for pair in pairs if pair.counts(now)]
    found = [*live, account] if account is not None else live
    locks = [
        Lockout(lock.scope, lock.locked_until - LOCK, lock.locked_until, lock.failures)
        for lock in found
        if lock.is_locked(now) and lock.locked_until is not None
    ]
    return sum(pair.failures for pair in live), max(
        locks, key=lambda lock: lock.unlock_at, default=None
    )
