"""R1.133-R1.137, R2.21: commands go to auth-service, and the copy follows at once."""

from __future__ import annotations

import pytest

from system.admin.domain.users import LAST_VERSION, Role, UserQuery
from system.admin.ports import Actor
from system.admin.service import copies
from system.admin.service.users import Users
from system.admin.tests.fakes import FakeAccounts, FakeStore, a_user
from system.platform.http import errors
from system.platform.http.errors import ApiError

ACTOR = Actor(a_user(1).id, "203.0.113.7", "probe")
ANN = a_user(2)


class House:
    """Users, and the two sides they stand between."""

    def __init__(self) -> None:
        self.store = FakeStore()
        self.accounts = FakeAccounts(a_user(1), ANN)
        self.users = Users(self.store, self.accounts)

    async def reconcile(self) -> None:
        await copies.reconcile(self.store, self.accounts)


@pytest.fixture
async def house() -> House:
    """A copy that is up to date."""
    made = House()
    await made.reconcile()
    return made


async def test_a_command_is_seen_by_the_next_read(house: House) -> None:
    """R1.133: created, renamed, promoted, suspended, deleted."""
    new = await house.users.create(
        ACTOR, email="n@x.test", password="p", name="N", role=Role.VENDOR
    )
    assert await house.users.get(new.id) == new

    await house.users.change(ACTOR, ANN.id, {"name": "Anna"})
    await house.users.set_role(ACTOR, ANN.id, Role.ADMIN)
    suspended = await house.users.set_active(ACTOR, ANN.id, False, "why")
    found = await house.users.get(ANN.id)
    assert found == suspended
    assert (found.name, found.role, found.status) == ("Anna", "ADMIN", "suspended")

    await house.users.delete(ACTOR, ANN.id)
    with pytest.raises(ApiError) as refused:
        await house.users.get(ANN.id)
    assert (refused.value.status, refused.value.code) == (404, "USER_NOT_FOUND")
    assert {actor for _, actor, _ in house.accounts.commands} == {ACTOR}


async def test_a_refusal_changes_nothing(house: House) -> None:
    """R1.135, R1.137: auth-service's own words, or 503."""
    before = dict(house.store.users_by_id)
    for refusal in (
        ApiError(403, "CANNOT_DEMOTE_LAST_ADMIN", "no"),
        errors.service_unavailable(),
    ):
        house.accounts.refusal = refusal
        with pytest.raises(ApiError) as refused:
            await house.users.set_role(ACTOR, ANN.id, Role.ADMIN)
        assert refused.value is refusal
        with pytest.raises(ApiError):
            await house.users.delete(ACTOR, ANN.id)

    assert house.store.users_by_id == before


async def test_an_answer_that_is_overtaken_changes_nothing(house: House) -> None:
    """R2.21: the event of a later change may be here before the answer to this one."""
    newest = a_user(2, version=9, name="Newest")
    house.store.users_by_id[ANN.id] = newest

    await house.users.change(ACTOR, ANN.id, {"name": "Late"})

    assert await house.users.get(ANN.id) == newest


async def test_a_command_that_is_done_succeeds_without_the_copy(house: House) -> None:
    """What auth-service has done cannot be refused any more; the event brings the copy along."""
    house.store.away = True

    changed = await house.users.change(ACTOR, ANN.id, {"name": "Anna"})
    await house.users.delete(ACTOR, a_user(1).id)

    assert changed.name == "Anna"
    assert set(house.accounts.users) == {ANN.id}


async def test_all_accounts_are_copied(house: House) -> None:
    """R1.134: page by page, whatever their number."""
    house.accounts.users |= {user.id: user for user in (a_user(n) for n in range(3, 12))}
    house.accounts.pages = 0

    await house.reconcile()

    assert house.store.users_by_id == house.accounts.users
    # Eleven accounts in threes, and the empty page that says so.
    assert house.accounts.pages == 5


async def test_reconciling_keeps_what_is_newer(house: House) -> None:
    """R2.21: an event may tell of a change that the page did not have yet."""
    newest = a_user(2, version=5, name="Newest")
    house.store.users_by_id[ANN.id] = newest

    await house.reconcile()

    assert house.store.users_by_id[ANN.id] == newest


async def test_reconciling_removes_who_is_gone_and_nobody_else(house: House) -> None:
    """R1.134: deleted meanwhile; an account made while the pages were read stays."""
    lost, made = a_user(50), a_user(51)
    house.store.users_by_id[lost.id] = lost

    def make() -> None:
        house.accounts.users[made.id] = made
        house.store.users_by_id[made.id] = made

    house.accounts.on_page = [make]
    await house.reconcile()

    assert set(house.store.users_by_id) == {a_user(1).id, ANN.id, made.id}


async def test_who_was_lost_can_come_again(house: House) -> None:
    """R9.11: accounts taken out and brought in again, with their old versions."""
    house.accounts.users.pop(ANN.id)
    await house.reconcile()
    assert ANN.id not in house.store.users_by_id

    house.accounts.users[ANN.id] = ANN
    await house.reconcile()

    assert house.store.users_by_id[ANN.id] == ANN


async def test_reconciling_asks_again_before_it_removes(house: House) -> None:
    """R1.134: who is in no page, because the list is not read in one moment, may be there."""
    missed = a_user(0)
    house.store.users_by_id[missed.id] = missed
    house.accounts.on_page = [lambda: house.accounts.users.update({missed.id: missed})]

    await house.reconcile()

    assert missed.id in house.store.users_by_id


async def test_a_deleted_user_is_not_copied_again(house: House) -> None:
    """R2.22: a page that was read before the deletion."""
    house.store.users_by_id.pop(ANN.id)
    house.store.gone[ANN.id] = LAST_VERSION

    await house.reconcile()

    assert ANN.id not in house.store.users_by_id


async def test_reconciling_without_auth_service_fails(house: House) -> None:
    """R0.10: so that it is tried again."""
    house.accounts.refusal = errors.service_unavailable()

    with pytest.raises(ApiError):
        await house.reconcile()


async def test_a_list_is_the_copy(house: House) -> None:
    """R1.126."""
    users, total = await house.users.page(UserQuery(search="x"))

    assert (len(users), total) == (2, 2)
    assert house.store.asked == [UserQuery(search="x")]
