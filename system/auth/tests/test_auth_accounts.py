"""Commands of administrators on accounts, with everything around them faked by the real ports."""

from __future__ import annotations

import pytest

from system.auth.domain.accounts import UserRole, UserStatus
from system.auth.service.signing_in import SignedIn
from system.auth.tests.house import PASSWORD, House
from system.platform.http.errors import ApiError

ACTOR = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def house() -> House:
    return House()


async def refusal(awaitable: object) -> tuple[int, str]:
    with pytest.raises(ApiError) as refused:
        await awaitable  # type: ignore[misc]  # any coroutine
    return refused.value.status, refused.value.code


async def admin(house: House, email: str) -> SignedIn:
    signed = await house.register(email)
    house.change_user(signed, role=UserRole.ADMIN)
    return signed


def last_facts(house: House, count: int) -> list[tuple[str, str | None]]:
    return [(fact.type, fact.actor_id) for fact in house.store.tables.facts[-count:]]


async def test_created_account_can_log_in_and_its_address_is_taken(house: House) -> None:
    """An account made by an administrator works at once; its event names origin and actor."""
    user = await house.accounts.create(
        email="v@x.test", password=PASSWORD, name="V", role=UserRole.VENDOR, actor_id=ACTOR
    )

    assert (user.role, user.status, user.version) == (UserRole.VENDOR, UserStatus.ACTIVE, 1)
    assert last_facts(house, 1) == [("user.created", ACTOR)]
    assert house.store.tables.facts[-1].data["origin"] == "admin"
    assert (await house.login("v@x.test")).user.id == user.id
    again = house.accounts.create(
        email="v@x.test", password=PASSWORD, name="W", role=UserRole.VENDOR, actor_id=ACTOR
    )
    assert await refusal(again) == (409, "EMAIL_EXISTS")


async def test_update_names_what_changed(house: House) -> None:
    """Only fields that differ are named; the version is raised; sessions go on."""
    signed = await house.register()

    changed = await house.accounts.update(
        signed.user.id, name="D", email="c@x.test", actor_id=ACTOR
    )

    assert (changed.name, changed.version) == ("D", 2)
    fact = house.store.tables.facts[-1]
    assert (fact.type, fact.data["changes"], fact.data["userVersion"]) == (
        "user.updated",
        ["name"],
        2,
    )
    assert await house.state(signed) == "open"


async def test_update_refuses_the_address_of_another(house: House) -> None:
    """409 EMAIL_ALREADY_EXISTS, and nothing is changed (R1.129)."""
    signed = await house.register()
    await house.register("d@x.test")
    events = house.events()

    taken = house.accounts.update(signed.user.id, name="D", email="d@x.test", actor_id=ACTOR)

    assert await refusal(taken) == (409, "EMAIL_ALREADY_EXISTS")
    assert house.store.tables.users[signed.user.id] == signed.user
    assert house.events() == events


@pytest.mark.parametrize("command", ["update", "role", "status"])
async def test_present_state_again_is_no_change(house: House, command: str) -> None:
    """No event, no new version, no revocation (R1.136)."""
    signed = await house.register()
    events = house.events()
    user = signed.user

    if command == "update":
        told = await house.accounts.update(user.id, name=user.name, email=None, actor_id=ACTOR)
    elif command == "role":
        told = await house.accounts.set_role(user.id, user.role, actor_id=ACTOR)
    else:
        told = await house.accounts.set_status(user.id, user.status, reason="x", actor_id=ACTOR)

    assert told == user
    assert house.events() == events
    assert await house.state(signed) == "open"


@pytest.mark.parametrize(
    ("command", "event", "reason"),
    [
        ("role", "user.role_changed", "role_changed"),
        ("suspend", "user.status_changed", "suspended"),
        ("delete", "user.deleted", "deleted"),
    ],
)
async def test_command_ends_every_session(
    house: House, command: str, event: str, reason: str
) -> None:
    """Role change, suspension and deletion revoke all sessions, with an event each (R1.32)."""
    signed, second = await house.register(), await house.login()
    user_id = signed.user.id

    if command == "role":
        await house.accounts.set_role(user_id, UserRole.VENDOR, actor_id=ACTOR)
    elif command == "suspend":
        await house.accounts.set_status(
            user_id, UserStatus.SUSPENDED, reason="fraud", actor_id=ACTOR
        )
    else:
        await house.accounts.delete(user_id, actor_id=ACTOR)

    assert last_facts(house, 3) == [(event, ACTOR), *[("session.revoked", ACTOR)] * 2]
    facts = house.store.tables.facts[-3:]
    assert facts[0].data["userVersion"] == 2
    assert {fact.data["reason"] for fact in facts[1:]} == {reason}
    for session in (signed, second):
        assert await house.state(session) == "TOKEN_REVOKED"
        assert house.mirror.states[house.claims(session).session_id] == "revoked"
        assert await house.refresh(session.tokens.refresh_token) == "TOKEN_REVOKED"
    assert user_id not in house.emails.emails.values()


async def test_suspended_account_is_let_in_again(house: House) -> None:
    """Suspension refuses a right password with 403, reactivation ends that (R1.68, R1.131)."""
    signed = await house.register()
    set_status = house.accounts.set_status
    await set_status(signed.user.id, UserStatus.SUSPENDED, reason="fraud", actor_id=ACTOR)
    assert house.store.tables.facts[-2].data["reason"] == "fraud"
    assert await refusal(house.login()) == (403, "ACCOUNT_SUSPENDED")

    await set_status(signed.user.id, UserStatus.ACTIVE, reason=None, actor_id=ACTOR)

    assert house.events()[-1] == "user.status_changed"
    assert "reason" not in house.store.tables.facts[-1].data
    assert await house.state(await house.login()) == "open"
    assert await house.state(signed) == "TOKEN_REVOKED"


async def test_deleted_address_can_be_registered_anew(house: House) -> None:
    """The account is gone with its sessions; the address is free (R1.137)."""
    signed = await house.register()
    await house.accounts.delete(signed.user.id, actor_id=ACTOR)

    assert not house.store.tables.sessions
    assert (await house.register()).user.id != signed.user.id


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("role", "CANNOT_DEMOTE_LAST_ADMIN"),
        ("suspend", "CANNOT_SUSPEND_LAST_ADMIN"),
        ("delete", "CANNOT_DELETE_LAST_ADMIN"),
    ],
)
async def test_last_active_admin_stays(house: House, command: str, code: str) -> None:
    """By oneself and by others; a suspended administrator does not count (R1.135)."""
    last, other = await admin(house, "a@x.test"), await admin(house, "b@x.test")

    async def act(actor_id: str) -> object:
        if command == "role":
            return await house.accounts.set_role(last.user.id, UserRole.CUSTOMER, actor_id=actor_id)
        if command == "suspend":
            return await house.accounts.set_status(
                last.user.id, UserStatus.SUSPENDED, reason=None, actor_id=actor_id
            )
        await house.accounts.delete(last.user.id, actor_id=actor_id)
        return None

    assert await refusal(act(last.user.id)) == (403, "CANNOT_MODIFY_SELF")
    house.change_user(other, status=UserStatus.SUSPENDED)
    assert await refusal(act(last.user.id)) == (403, code)
    assert await refusal(act(ACTOR)) == (403, code)
    assert await house.state(last) == "open"


async def test_unknown_account_is_404(house: House) -> None:
    """Every command on an account that does not exist says so."""
    accounts = house.accounts
    for command in (
        accounts.update(ACTOR, name="D", email=None, actor_id=None),
        accounts.set_role(ACTOR, UserRole.ADMIN, actor_id=None),
        accounts.set_status(ACTOR, UserStatus.ACTIVE, reason=None, actor_id=None),
        accounts.delete(ACTOR, actor_id=ACTOR),
    ):
        assert await refusal(command) == (404, "USER_NOT_FOUND")
