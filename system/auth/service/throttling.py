"""Admits attempts to log in, one at a time for each pair, and counts those that fail (R1.75-R1.81).

The counters of a pair are held by a lock in auth_db from before they are read until the outcome is
written, so that they are exact whatever number of processes there is.  Attempts of one process
queue up here before they take a database connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from system.auth.domain.accounts import User
from system.auth.domain.throttles import (
    KNOWN_FOR,
    Barrier,
    Refusal,
    Scope,
    Standing,
    Subject,
    after_failure,
    refusal,
    remaining_to_tell,
    subject_of,
)
from system.auth.ports import Caller, Unit
from system.auth.service import facts
from system.auth.service.moments import utc_now
from system.auth.service.turns import Turns
from system.platform.http import errors
from system.platform.http.client_address import normal_address
from system.platform.moments import timestamp

# Each attempt holds a database connection while its password is hashed; the others of the pool
# stay free for everybody else.
PLACES: Final = 4


class LoginGate:
    """Judges attempts by the counters, and keeps the counters.

    Args:
        exempt: whether a client address passes R1.80 freely (R1.44).
        now: the time, UTC, in whole milliseconds.
    """

    def __init__(
        self, exempt: Callable[[str | None], bool], now: Callable[[], datetime] = utc_now
    ) -> None:
        self._exempt = exempt
        self._now = now
        self._turns = Turns(PLACES)

    @asynccontextmanager
    async def turn(self, email: str, caller: Caller) -> AsyncIterator[Subject]:
        """Wait until no other attempt of this pair is under way here; give the counters' keys.

        Raises:
            ApiError: 503 SERVICE_UNAVAILABLE, the turn did not come.
        """
        address = caller.address
        subject = subject_of(email, address)
        if self._exempt(address):
            subject = Subject(subject.pair, subject.account, None)
        async with self._turns.of(subject.pair):
            yield subject

    async def admit(self, unit: Unit, subject: Subject, user: User | None, caller: Caller) -> None:
        """Let the attempt pass to its password, unless a counter is against it.

        The pair must be held (`unit.hold_throttle`).

        Raises:
            ApiError: 429 TOO_MANY_ATTEMPTS or ACCOUNT_LOCKED.
        """
        now = self._now()
        found = await unit.throttles(_keys(subject))
        standing = Standing(
            found.get(subject.pair),
            found.get(subject.account),
            found.get(subject.address) if subject.address is not None else None,
        )
        known = False
        if user is not None and standing.account is not None and standing.account.is_locked(now):
            known = await unit.is_known_client(user.id, _clients(caller), now - KNOWN_FOR)
        refused = refusal(standing, now, known=known)
        if refused is not None:
            raise _too_many(refused, now)

    async def failed(
        self, unit: Unit, subject: Subject, user: User | None, email: str, caller: Caller
    ) -> errors.ApiError:
        """Count a wrong password and write its events.

        Returns:
            429 ACCOUNT_LOCKED if this failure locked the pair, else 401 INVALID_CREDENTIALS.
        """
        now = self._now()
        user_id = user.id if user is not None else None
        # Always account before address: two attempts must not wait for each other.
        for key in _keys(subject)[1:]:
            await unit.hold_throttle(key)
        before = await unit.throttles(_keys(subject))
        scopes = {subject.pair: Scope.PAIR, subject.account: Scope.ACCOUNT}
        if subject.address is not None:
            scopes[subject.address] = Scope.ADDRESS
        after = {
            key: after_failure(before.get(key), key, scope, now) for key, scope in scopes.items()
        }
        for throttle in after.values():
            await unit.store_throttle(throttle)
        await unit.link_pair(subject.pair, subject.account)
        await unit.emit(facts.login_failed(user_id, email, caller, now))
        for key in (subject.pair, subject.account):
            until, former = after[key].locked_until, before.get(key)
            if until is not None and (former is None or former.locked_until != until):
                await unit.emit(facts.user_locked(user_id, email, caller, after[key].scope, until))
        pair = after[subject.pair]
        if pair.locked_until is not None:
            return _too_many(Refusal(Barrier.LOCKED, pair.locked_until), now)
        error = errors.invalid_credentials()
        remaining = remaining_to_tell(pair)
        if remaining is not None:
            error.details = {"remainingAttempts": remaining}
        return error

    async def succeeded(self, unit: Unit, subject: Subject, user: User, caller: Caller) -> None:
        """Clear the pair's counter and remember the client (R1.79, R1.81)."""
        await unit.clear_throttles([subject.pair])
        await unit.note_clients(user.id, _clients(caller), self._now())


def _keys(subject: Subject) -> list[str]:
    keys = [subject.pair, subject.account]
    return keys if subject.address is None else [*keys, subject.address]


def _clients(caller: Caller) -> Sequence[str]:
    """By what a client is known.  A device that calls itself by an address is known by nothing:

    whoever knows the victim's address could else pass for it.
    """
    clients = [caller.address] if caller.address is not None else []
    if caller.device_id is not None and normal_address(caller.device_id) is None:
        clients.append(caller.device_id)
    return clients


def _too_many(refused: Refusal, now: datetime) -> errors.ApiError:
    """R1.76, R1.77, R1.80."""
    wait = refused.wait_seconds(now)
    headers = {"Retry-After": str(wait)}
    if refused.barrier is Barrier.WAIT:
        return errors.ApiError(
            429,
            "TOO_MANY_ATTEMPTS",
            f"Please wait {wait} seconds before trying again.",
            {"waitSeconds": wait},
            headers,
        )
    return errors.ApiError(
        429,
        "ACCOUNT_LOCKED",
        "Account is temporarily locked after too many failed attempts",
        {"lockedUntil": timestamp(refused.until), "waitSeconds": wait},
        headers,
    )
