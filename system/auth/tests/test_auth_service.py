"""The use cases of auth with everything around them faked by the real ports."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import uuid

import pytest

from system.auth.adapters.session_check import StoreSessionCheck
from system.auth.domain.accounts import RevokeReason, UserRole, UserStatus, token_hash
from system.auth.tests.house import CALLER, PASSWORD, House
from system.platform.http.errors import ApiError
from system.platform.security.tokens import issue_refresh, verify


@pytest.fixture
def house() -> House:
    return House()


async def code_of(house: House, email: str, password: str) -> str:
    with pytest.raises(ApiError) as refusal:
        await house.login(email, password)
    return json.dumps([refusal.value.status, refusal.value.body(), refusal.value.headers])


async def test_registration_opens_an_account_and_a_session(house: House) -> None:
    """A new account is an active, unverified CUSTOMER with a session and one event (R1.65)."""
    signed = await house.register()

    user = signed.user
    assert (user.role, user.status, user.email_verified) == ("CUSTOMER", "active", False)
    assert house.store.tables.hashes[user.id] == f"new:{PASSWORD}"
    claims = house.claims(signed)
    assert (claims.user_id, claims.role, claims.email) == (user.id, "CUSTOMER", "c@x.test")
    assert await house.state(signed) == "open"
    assert signed.tokens.expires_in == "15m"
    (fact,) = house.store.tables.facts
    assert (fact.type, fact.event_type, fact.actor_id) == (
        "user.created",
        "user_lifecycle",
        user.id,
    )
    assert fact.data == {
        "userId": user.id,
        "email": "c@x.test",
        "name": "C",
        "role": "CUSTOMER",
        "status": "active",
        "emailVerified": False,
        "userVersion": 1,
        "origin": "registration",
        "createdAt": "2026-01-17T10:00:00.000Z",
    }


async def test_registration_binds_its_session_to_the_device(house: House) -> None:
    """As a login does; the device is new for this user (R1.31, R1.67)."""
    caller = dataclasses.replace(CALLER, device_id="phone-1")

    signed = await house.service.register(
        email="c@x.test", password=PASSWORD, name="C", caller=caller
    )

    (session,) = await house.own.sessions(house.claims(signed))
    assert session.device_id == "phone-1"
    devices, current = await house.own.devices(house.claims(signed))
    assert ([device.device_id for device in devices], current) == (["phone-1"], "phone-1")


async def test_second_registration_of_an_address_is_refused(house: House) -> None:
    """An address has one account, also when two registrations race; the loser leaves nothing."""
    results = await asyncio.gather(*(house.register() for _ in range(5)), return_exceptions=True)

    refusals = [result.code for result in results if isinstance(result, ApiError)]
    assert refusals == ["EMAIL_EXISTS"] * 4
    assert len(house.store.tables.sessions) == 1
    assert house.events() == ["user.created"]


async def test_login_opens_one_more_session(house: House) -> None:
    """Each login has a session of its own and leaves the others alone (R1.31, R1.67)."""
    first = await house.register()

    second = await house.login()

    assert house.claims(first).session_id != house.claims(second).session_id
    assert [await house.state(first), await house.state(second)] == ["open", "open"]
    fact = house.store.tables.facts[-1]
    assert (fact.type, fact.event_type) == ("user.login", "user_activity")
    assert fact.data == {
        "userId": first.user.id,
        "email": "c@x.test",
        "sessionId": house.claims(second).session_id,
        "ipAddress": "203.0.113.7",
        "loginAt": "2026-01-17T10:00:00.000Z",
    }
    assert house.mirror.states[house.claims(second).session_id] == "open e1"


async def test_unknown_address_and_wrong_password_look_alike(house: House) -> None:
    """Both get the very same answer for the same work (R1.68, R1.82), and each its event."""
    signed = await house.register()
    house.hasher.work = 0
    wrong = await code_of(house, "c@x.test", "wrong")
    work_for_wrong, house.hasher.work = house.hasher.work, 0

    unknown = await code_of(house, "nobody@x.test", "wrong")

    assert wrong == unknown
    assert "INVALID_CREDENTIALS" in wrong
    assert house.hasher.work == work_for_wrong == 1
    failed = [fact for fact in house.store.tables.facts if fact.type == "user.login_failed"]
    assert [(fact.actor_id, fact.data["email"]) for fact in failed] == [
        (signed.user.id, "c@x.test"),
        (None, "nobody@x.test"),
    ]


async def test_suspension_shows_after_a_right_password_only(house: House) -> None:
    """A suspended account is told to its owner and to nobody else (R1.68)."""
    signed = await house.register()
    house.change_user(signed, status=UserStatus.SUSPENDED)

    assert "ACCOUNT_SUSPENDED" in await code_of(house, "c@x.test", PASSWORD)
    assert "INVALID_CREDENTIALS" in await code_of(house, "c@x.test", "wrong")


async def test_change_during_the_password_check_is_seen(house: House) -> None:
    """An account suspended while its password is being checked has no open session after it."""
    signed = await house.register()
    login = asyncio.create_task(house.login())
    await house.hasher.checking.wait()
    await house.accounts.set_status(
        signed.user.id, UserStatus.SUSPENDED, reason=None, actor_id=None
    )

    assert await house.state(await login) == "TOKEN_REVOKED"


async def test_outdated_hash_is_replaced_at_login(house: House) -> None:
    """The next successful login brings the hash up to date (R1.66)."""
    signed = await house.register()
    house.hasher.word = "newer"

    await house.login()

    assert house.store.tables.hashes[signed.user.id] == f"newer:{PASSWORD}"


async def test_refresh_rotates_with_the_present_user(house: House) -> None:
    """A refresh gives a new pair with current name, e-mail and role; the old one is spent."""
    signed = await house.register()
    house.change_user(signed, name="D", role=UserRole.VENDOR)

    pair = await house.service.refresh(signed.tokens.refresh_token, CALLER)

    claims = verify(pair.access_token, house.ring)
    assert (claims.name, claims.role) == ("D", "VENDOR")
    assert claims.session_id == house.claims(signed).session_id
    assert pair.refresh_token != signed.tokens.refresh_token
    assert house.store.tables.tokens[token_hash(signed.tokens.refresh_token)].spent_at is not None
    assert set(house.store.tables.tokens) == {
        token_hash(signed.tokens.refresh_token),
        token_hash(pair.refresh_token),
    }


async def test_reuse_revokes_the_family_only(house: House) -> None:
    """A spent token is theft: family revoked, other sessions go on, events tell (R1.35)."""
    signed, other = await house.register(), await house.login()
    newest = await house.refresh(signed.tokens.refresh_token)
    house.clock.pass_seconds(1)

    assert await house.refresh(signed.tokens.refresh_token) == "TOKEN_REUSE_DETECTED"
    assert await house.refresh(newest) == "TOKEN_REVOKED"
    house.clock.pass_seconds(1)
    assert await house.refresh(signed.tokens.refresh_token) == "TOKEN_REVOKED"
    assert await house.state(signed) == "TOKEN_REVOKED"
    assert await house.state(other) == "open"
    assert house.events()[-2:] == ["token.reuse_detected", "session.revoked"]
    detected, revoked = house.store.tables.facts[-2:]
    session_id = house.claims(signed).session_id
    assert detected.data["sessionId"] == session_id
    assert (revoked.data["reason"], revoked.data["deviceId"]) == ("token_reuse", None)
    assert house.mirror.states[session_id] == "revoked"


async def test_one_of_ten_simultaneous_refreshes_wins(house: House) -> None:
    """Of ten uses of one token one succeeds, nine count as reuse, once in the events (R1.35)."""
    signed = await house.register()

    results = await asyncio.gather(*(house.refresh(signed.tokens.refresh_token) for _ in range(10)))

    assert results.count("TOKEN_REUSE_DETECTED") == 9
    (newest,) = (result for result in results if result != "TOKEN_REUSE_DETECTED")
    assert await house.refresh(newest) == "TOKEN_REVOKED"
    assert house.events() == ["user.created", "token.reuse_detected", "session.revoked"]


async def test_replayed_token_takes_one_database_connection(house: House) -> None:
    """Simultaneous uses of one token wait for each other before they reach the database."""
    signed = await house.register()

    await asyncio.gather(*(house.refresh(signed.tokens.refresh_token) for _ in range(10)))

    assert house.store.most_at_once == 1


async def test_refresh_refusals(house: House) -> None:
    """Bad, late, foreign and never stored tokens get the codes of R1.69."""
    signed = await house.register()
    about = {
        "user_id": signed.user.id,
        "email": "c@x.test",
        "name": "C",
        "role": "CUSTOMER",
        "session_id": house.claims(signed).session_id,
    }
    never_stored = issue_refresh(house.ring, lifetime=60, **about)
    foreign = issue_refresh(house.ring, lifetime=60, **{**about, "user_id": str(uuid.uuid4())})
    unknown_session = issue_refresh(
        house.ring, lifetime=60, **{**about, "session_id": str(uuid.uuid4())}
    )

    assert await house.refresh("x") == "TOKEN_INVALID"
    assert await house.refresh(signed.tokens.access_token) == "TOKEN_INVALID"
    assert await house.refresh(never_stored) == "TOKEN_INVALID"
    assert await house.refresh(foreign) == "TOKEN_REVOKED"
    assert await house.refresh(unknown_session) == "TOKEN_REVOKED"
    assert await house.state(signed) == "open"
    house.change_user(signed, status=UserStatus.SUSPENDED)
    assert await house.refresh(signed.tokens.refresh_token) == "TOKEN_REVOKED"
    house.clock.pass_seconds(7 * 86400)
    assert await house.refresh(signed.tokens.refresh_token) == "TOKEN_EXPIRED"


async def test_session_lives_on_by_refreshing(house: House) -> None:
    """A session refreshed every six days is still open after a month."""
    token = (await house.register()).tokens.refresh_token
    for _ in range(5):
        house.clock.pass_seconds(6 * 86400)
        token = await house.refresh(token)

    assert token.count(".") == 2


@pytest.mark.parametrize(
    ("with_token", "everywhere", "closed"), [(False, False, 1), (True, False, 2), (False, True, 3)]
)
async def test_logout_closes_the_sessions_named(
    house: House, with_token: bool, everywhere: bool, closed: int
) -> None:
    """Logout closes its session; with a refresh token that one's too; with logoutAll all."""
    signed = [await house.register(), await house.login(), await house.login()]
    stranger = await house.register("d@x.test")

    await house.service.logout(
        claims=house.claims(signed[0]),
        refresh_token=signed[1].tokens.refresh_token if with_token else None,
        everywhere=everywhere,
        caller=CALLER,
    )

    states = [await house.state(one) for one in signed]
    assert states == ["TOKEN_REVOKED"] * closed + ["open"] * (3 - closed)
    assert await house.state(stranger) == "open"
    events = house.events()
    assert events.count("user.logout") == 1
    revoked = [fact for fact in house.store.tables.facts if fact.type == "session.revoked"]
    assert [fact.data["reason"] for fact in revoked] == [RevokeReason.LOGOUT] * closed
    assert await house.refresh(signed[0].tokens.refresh_token) == "TOKEN_REVOKED"
    assert house.mirror.states[house.claims(signed[0]).session_id] == "revoked"


async def test_logout_ignores_foreign_and_unknown_refresh_tokens(house: House) -> None:
    """A refresh token of somebody else or of nobody changes nothing (R1.70)."""
    signed, stranger = await house.register(), await house.register("d@x.test")
    for token in (stranger.tokens.refresh_token, "x"):
        again = await house.login()
        await house.service.logout(
            claims=house.claims(again), refresh_token=token, everywhere=False, caller=CALLER
        )

    assert [await house.state(signed), await house.state(stranger)] == ["open", "open"]


async def test_second_logout_is_refused(house: House) -> None:
    """Of two logouts with one token the second gets TOKEN_REVOKED, also in a race (R1.70)."""
    claims = house.claims(await house.register())

    results = await asyncio.gather(
        *(
            house.service.logout(claims=claims, refresh_token=None, everywhere=False, caller=CALLER)
            for _ in range(2)
        ),
        return_exceptions=True,
    )

    assert [getattr(result, "code", None) for result in results] == [None, "TOKEN_REVOKED"]
    assert house.events().count("user.logout") == 1


async def test_session_state_for_verifiers(house: House) -> None:
    """Verifiers hear open, closed and unknown, and the mirror is brought up to date."""
    signed = await house.register()
    claims = house.claims(signed)
    house.mirror.states.clear()

    told = await house.reads.session_state(claims.session_id)
    assert told is not None
    assert told[1] is True
    assert house.mirror.states == {claims.session_id: "open e1"}
    await house.service.logout(claims=claims, refresh_token=None, everywhere=False, caller=CALLER)
    house.mirror.states.clear()
    told = await house.reads.session_state(claims.session_id)
    assert told is not None
    assert told[1] is False
    assert house.mirror.states == {claims.session_id: "revoked"}
    assert await house.reads.session_state(str(uuid.uuid4())) is None


async def test_a_verifier_does_not_wait_for_a_silent_mirror(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is the store's (R6.9); the mirror is told when it can be."""
    claims = house.claims(await house.register())
    answers = asyncio.Event()
    told: list[str] = []

    async def opened(session_id: str, epoch: str | None) -> None:
        await answers.wait()
        told.append(session_id)

    monkeypatch.setattr(house.mirror, "opened", opened)

    async with asyncio.timeout(5):
        state = await house.reads.session_state(claims.session_id)
        assert state is not None
        assert (state[1], told) == (True, [])
        answers.set()
        while not told:  # noqa: ASYNC110 - what is waited for is the list itself
            await asyncio.sleep(0)

    assert told == [claims.session_id]


async def test_access_token_of_another_user_s_session_is_revoked(house: House) -> None:
    """A session counts for its own user only."""
    signed = await house.register()
    claims = dataclasses.replace(house.claims(signed), user_id=str(uuid.uuid4()))

    with pytest.raises(ApiError, match="TOKEN_REVOKED"):
        await StoreSessionCheck(house.store, house.clock).ensure_open(claims)


async def test_account_is_found_by_its_present_address(house: House) -> None:
    """An address that the cache still knows from before a change leads to nobody else's account."""
    signed = await house.register()
    house.emails.emails["old@x.test"] = signed.user.id

    found = await house.reads.user_by_email("c@x.test")

    assert found == signed.user
    assert await house.reads.user_by_email("old@x.test") is None
    assert await house.reads.user_by_email("nobody@x.test") is None
