"""Failed logins: the counters as pure rules, and the gate with faked ports (R1.75-R1.81)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from system.auth.domain.throttles import (
    LOCK,
    WINDOW,
    Barrier,
    Refusal,
    Scope,
    Standing,
    Throttle,
    after_failure,
    lockout,
    refusal,
    remaining_to_tell,
    subject_of,
)
from system.auth.ports import Caller
from system.auth.tests.house import CALLER, EXEMPT, PASSWORD, House
from system.platform.http.errors import ApiError

NOW = datetime(2026, 1, 17, 10, tzinfo=UTC)
MS = timedelta(milliseconds=1)


def counted(scope: Scope, failures: int, at: datetime = NOW) -> Throttle:
    throttle: Throttle | None = None
    for _ in range(failures):
        throttle = after_failure(throttle, "k", scope, at)
    assert throttle is not None
    return throttle


@pytest.mark.parametrize(
    ("failures", "wait", "remaining"),
    [(1, None, None), (2, 1, None), (3, 2, 2), (4, 4, 1)],
)
def test_wait_doubles_with_each_failure(
    failures: int, wait: int | None, remaining: int | None
) -> None:
    """The second failure costs 1 s, the third 2, the fourth 4; the last two are told of."""
    pair = counted(Scope.PAIR, failures)

    refused = refusal(Standing(pair, None, None), NOW, known=False)

    expected = None if wait is None else Refusal(Barrier.WAIT, NOW + timedelta(seconds=wait))
    assert refused == expected
    assert remaining_to_tell(pair) == remaining
    if expected is not None:
        assert refusal(Standing(pair, None, None), expected.until, known=False) is None


@pytest.mark.parametrize(("scope", "limit"), [("pair", 5), ("account", 50), ("address", 50)])
def test_limit_locks_for_a_quarter_of_an_hour(scope: str, limit: int) -> None:
    """One below the limit is no lock; the limit is one, and ends to the millisecond."""
    assert counted(Scope(scope), limit - 1).locked_until is None

    throttle = counted(Scope(scope), limit)

    assert throttle.locked_until == NOW + LOCK
    assert throttle.is_locked(NOW + LOCK - MS)
    assert not throttle.is_locked(NOW + LOCK)


def test_failure_during_a_guard_does_not_prolong_it() -> None:
    """A known client that fails while the account is guarded is counted, no more."""
    guard = counted(Scope.ACCOUNT, 50)

    later = after_failure(guard, "k", Scope.ACCOUNT, NOW + timedelta(minutes=10))

    assert (later.failures, later.locked_until) == (51, guard.locked_until)


@pytest.mark.parametrize("failures", [4, 5])
def test_counting_begins_anew_after_the_window_or_the_lock(failures: int) -> None:
    """The first failure after that is the first of a new count."""
    old = counted(Scope.PAIR, failures)
    over = WINDOW if failures == 4 else LOCK
    assert after_failure(old, "k", Scope.PAIR, NOW + over - MS).failures == failures + 1

    anew = after_failure(old, "k", Scope.PAIR, NOW + over)

    assert (anew.failures, anew.first_failure_at) == (1, NOW + over)
    assert (anew.locked_until, anew.next_try_at) == (None, None)


def test_the_stricter_barrier_wins() -> None:
    """A locked pair or a guarded account is told before a wait; a known client passes a guard."""
    pair, account = counted(Scope.PAIR, 2), counted(Scope.ACCOUNT, 50)
    address = counted(Scope.ADDRESS, 50)

    def told(standing: Standing, known: bool = False) -> Barrier | None:
        refused = refusal(standing, NOW, known=known)
        return refused.barrier if refused is not None else None

    assert told(Standing(pair, account, address)) is Barrier.LOCKED
    assert told(Standing(None, account, None), known=True) is None
    assert told(Standing(pair, account, None), known=True) is Barrier.WAIT
    assert told(Standing(None, account, address), known=True) is Barrier.WAIT
    assert told(Standing(counted(Scope.PAIR, 5), None, None), known=True) is Barrier.LOCKED


def test_keys_are_hashes_of_scope_and_subject() -> None:
    """64 hex digits, different for each scope and subject; no address, no such counter."""
    subject = subject_of("a@x.test", "1.2.3.4")
    assert len({subject.pair, subject.account, subject.address}) == 3
    assert subject.pair != subject_of("a@x.test", "1.2.3.5").pair
    assert subject.account == subject_of("a@x.test", "1.2.3.5").account
    assert all(len(key or "") == 64 for key in (subject.pair, subject.account, subject.address))
    assert subject_of("a@x.test", None).address is None


def test_lockout_tells_the_longest_lock_and_what_counts() -> None:
    """Failures of all live pairs together; those of long ago count no more."""
    old = counted(Scope.PAIR, 3, NOW - WINDOW)
    early, late = counted(Scope.PAIR, 5, NOW - LOCK / 2), counted(Scope.PAIR, 5)
    assert lockout([old, counted(Scope.PAIR, 2)], None, NOW) == (2, None)

    failures, lock = lockout([old, early, late], counted(Scope.ACCOUNT, 13), NOW)

    assert failures == 10
    assert lock is not None
    assert (lock.locked_at, lock.unlock_at, lock.failures) == (NOW, NOW + LOCK, 5)


# --- The gate -----------------------------------------------------------------------------------


@pytest.fixture
def house() -> House:
    return House()


async def outcome(
    house: House, password: str = "wrong", email: str = "c@x.test", caller: Caller = CALLER
) -> str:
    """`in`, or the code of the refusal."""
    return str((await told(house, password, email, caller)).get("code", "in"))


async def told(
    house: House, password: str = "wrong", email: str = "c@x.test", caller: Caller = CALLER
) -> dict[str, Any]:
    try:
        await house.login(email, password, caller)
    except ApiError as refused:
        body: dict[str, Any] = refused.body()["error"]
        return body | {"status": refused.status, "retry": refused.headers.get("Retry-After")}
    return {}


@pytest.mark.parametrize("known", [True, False])
async def test_sequence_of_wrong_passwords(house: House, known: bool) -> None:
    """401, 401, 401 with 2 left, 401 with 1 left, 429; the same for an unknown address (R1.78)."""
    if known:
        await house.register()
    seen = []
    for wait in (0, 0, 1, 2, 4):
        house.clock.pass_seconds(wait)
        seen.append(await told(house))

    assert [answer["code"] for answer in seen] == ["INVALID_CREDENTIALS"] * 4 + ["ACCOUNT_LOCKED"]
    remaining = [answer.get("details", {}).get("remainingAttempts") for answer in seen]
    assert remaining == [None, None, 2, 1, None]
    assert seen[4]["details"] == {"lockedUntil": "2026-01-17T10:15:07.000Z", "waitSeconds": 900}
    assert (seen[4]["status"], seen[4]["retry"]) == (429, "900")
    work = house.hasher.work
    house.clock.pass_seconds(899)
    assert (await told(house, PASSWORD))["details"]["waitSeconds"] == 1
    assert house.hasher.work == work
    house.clock.pass_seconds(1)
    assert await outcome(house, PASSWORD) == ("in" if known else "INVALID_CREDENTIALS")
    events = [event for event in house.events() if event.startswith("user.lo")]
    assert events[:6] == ["user.login_failed"] * 5 + ["user.locked"]


async def test_early_attempt_is_neither_looked_at_nor_counted(house: House) -> None:
    """With a right password too; the message says how long to wait (R1.76)."""
    await house.register()
    for _ in range(2):
        await outcome(house)
    work, events = house.hasher.work, house.events()

    early = await told(house, PASSWORD)

    assert (early["status"], early["code"], early["retry"]) == (429, "TOO_MANY_ATTEMPTS", "1")
    assert early["message"] == "Please wait 1 seconds before trying again."
    assert early["details"] == {"waitSeconds": 1}
    assert (house.hasher.work, house.events()) == (work, events)
    house.clock.pass_seconds(1)
    assert await outcome(house, PASSWORD) == "in"


async def test_success_clears_the_pair(house: House) -> None:
    """After a success failures are counted from one."""
    await house.register()
    for _ in range(2):
        await outcome(house)
    house.clock.pass_seconds(1)
    assert await outcome(house, PASSWORD) == "in"

    assert [await outcome(house) for _ in range(3)] == [
        "INVALID_CREDENTIALS",
        "INVALID_CREDENTIALS",
        "TOO_MANY_ATTEMPTS",
    ]


async def test_simultaneous_attempts_are_counted_one_by_one(house: House) -> None:
    """Of twenty wrong ones two are looked at; twenty right ones all get in."""
    await house.register()
    assert await asyncio.gather(*(outcome(house, PASSWORD) for _ in range(20))) == ["in"] * 20

    seen = await asyncio.gather(*(outcome(house) for _ in range(20)))

    assert sorted(seen) == ["INVALID_CREDENTIALS"] * 2 + ["TOO_MANY_ATTEMPTS"] * 18


async def fail_from_many(house: House, count: int, email: str = "c@x.test") -> None:
    for number in range(count):
        caller = Caller(f"198.51.100.{number}", "agent")
        assert await outcome(house, email=email, caller=caller) == "INVALID_CREDENTIALS"


async def test_guarded_account_admits_known_clients_only(house: House) -> None:
    """After 50 failures from anywhere strangers are locked out, known clients not (R1.79)."""
    await house.register()
    own_device = Caller("192.0.2.1", "agent", "phone-1")
    await house.login(caller=CALLER)
    await house.login(caller=own_device)
    await fail_from_many(house, 50)
    assert house.events()[-1] == "user.locked"
    assert house.store.tables.facts[-1].data["scope"] == "account"

    stranger = Caller("192.0.2.9", "agent")
    answers = {
        "address": await outcome(house, PASSWORD, caller=CALLER),
        "device": await outcome(house, PASSWORD, caller=Caller("192.0.2.8", "x", "phone-1")),
        "stranger": await outcome(house, PASSWORD, caller=stranger),
        "other device": await outcome(house, PASSWORD, caller=Caller("192.0.2.9", "x", "phone-2")),
        # A device may call itself anything, also by the address of somebody known.
        "impostor": await outcome(
            house, PASSWORD, caller=Caller("192.0.2.9", "x", str(CALLER.address))
        ),
    }

    assert answers == {
        "address": "in",
        "device": "in",
        "stranger": "ACCOUNT_LOCKED",
        "other device": "ACCOUNT_LOCKED",
        "impostor": "ACCOUNT_LOCKED",
    }
    house.clock.pass_seconds(900)
    assert await outcome(house, PASSWORD, caller=stranger) == "in"


async def test_client_of_long_ago_is_a_stranger(house: House) -> None:
    """A success counts for 30 days."""
    await house.register()
    await house.login()
    house.clock.pass_seconds(30 * 86400)
    await fail_from_many(house, 50)

    assert await outcome(house, PASSWORD) == "ACCOUNT_LOCKED"


async def test_guard_holds_for_unknown_addresses_too(house: House) -> None:
    """An e-mail address without an account is guarded like one with (R1.75)."""
    await fail_from_many(house, 50, "nobody@x.test")

    assert await outcome(house, email="nobody@x.test") == "ACCOUNT_LOCKED"


@pytest.mark.parametrize(("caller", "expected"), [(CALLER, "TOO_MANY_ATTEMPTS"), (EXEMPT, "in")])
async def test_address_that_guesses_over_accounts_is_stopped(
    house: House, caller: Caller, expected: str
) -> None:
    """After 50 failures from one address, for every account; not from an exempt one (R1.80)."""
    await house.register()
    for number in range(50):
        answer = await outcome(house, email=f"u{number}@x.test", caller=caller)
        assert answer == "INVALID_CREDENTIALS"

    assert await outcome(house, PASSWORD, caller=caller) == expected
    house.clock.pass_seconds(900)
    assert await outcome(house, PASSWORD, caller=caller) == "in"


async def test_unlocking_clears_every_counter(house: House) -> None:
    """All pairs of the account and its guard; the event names the administrator (R1.84)."""
    await house.register()
    await house.login()  # makes this client known, so that it passes the guard
    await fail_from_many(house, 49)
    for wait in (0, 0, 1, 2, 4):
        house.clock.pass_seconds(wait)
        await outcome(house)
    failures, lock = await house.lockouts.of("c@x.test")
    assert failures == 49 + 5
    assert lock is not None

    await house.lockouts.unlock("c@x.test", actor_id="a", caller=CALLER)

    assert await house.lockouts.of("c@x.test") == (0, None)
    assert await outcome(house, PASSWORD) == "in"
    unlocked = [fact for fact in house.store.tables.facts if fact.type == "user.unlocked"]
    assert [(fact.actor_id, fact.data["email"]) for fact in unlocked] == [("a", "c@x.test")]


async def test_failed_password_change_counts(house: House) -> None:
    """A wrong current password is a failure of the pair; the fifth locks it (R1.73)."""
    signed = await house.register()
    claims = house.claims(signed)

    async def change(current: str) -> str:
        try:
            await house.passwords.change(
                claims, current=current, new="Another horse 2?", caller=CALLER
            )
        except ApiError as refused:
            return refused.code
        return "changed"

    seen = []
    for wait in (0, 0, 1, 2, 4):
        house.clock.pass_seconds(wait)
        seen.append(await change("wrong"))
    assert seen == ["INVALID_PASSWORD"] * 4 + ["ACCOUNT_LOCKED"]
    assert await change(PASSWORD) == "ACCOUNT_LOCKED"
    house.clock.pass_seconds(900)
    signed = await house.login()
    claims = house.claims(signed)
    assert await change(PASSWORD) == "changed"
    assert await house.state(signed) == "TOKEN_REVOKED"
    assert await outcome(house, PASSWORD) == "INVALID_CREDENTIALS"
    assert await outcome(house, "Another horse 2?") == "in"
