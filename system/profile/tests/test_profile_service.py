"""R1.145-R1.152, R3.42, R6.5: what happens to profiles."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from system.platform.cache.answers import Outcome
from system.platform.http.errors import ApiError
from system.profile import service
from system.profile.domain import UserDeleted
from system.profile.service import Profiles
from system.profile.tests.fakes import FakeCache, FakeStore, FakeUnit


class House:
    """The use cases and what they stand on."""

    def __init__(self) -> None:
        self.store = FakeStore()
        self.cache = FakeCache()
        self.profiles = Profiles(self.store, self.cache)

    async def forget(self, user_id: str) -> None:
        async with self.store.transaction() as unit:
            await service.forget_user(UserDeleted(user_id), unit)


@pytest.fixture
def house() -> House:
    return House()


async def test_the_first_read_makes_the_profile(house: House) -> None:
    """R1.145: nulls and no preferences; the second read is the same profile, from the cache."""
    first = await house.profiles.read("a", fresh=False)
    second = await house.profiles.read("a", fresh=False)

    shown = msgspec.json.decode(first.body)
    assert (shown["userId"], shown["preferences"]) == ("a", {})
    assert [shown[name] for name in ("avatarUrl", "phone", "address", "bio")] == [None] * 4
    assert (first.outcome, second.outcome) == (Outcome.MISS, Outcome.HIT)
    assert second.body == first.body
    assert house.store.emitted == []


async def test_first_reads_at_once_make_one_profile(house: House) -> None:
    """R1.145: safe under concurrent first reads."""
    answers = await asyncio.gather(*(house.profiles.read("a", fresh=True) for _ in range(10)))

    assert len({answer.body for answer in answers}) == 1
    assert len(house.store.profiles) == 1


async def test_a_change_is_seen_at_once_and_told(house: House) -> None:
    """R1.146, R1.152, R6.5: only what differs is named in the event."""
    await house.profiles.read("a", fresh=False)
    await house.profiles.change("a", {"bio": "x", "phone": "0123456789"})
    await house.profiles.change("a", {"bio": "x", "phone": None})

    answer = await house.profiles.read("a", fresh=False)
    shown = msgspec.json.decode(answer.body)
    assert (shown["bio"], shown["phone"], answer.outcome) == ("x", None, Outcome.MISS)
    assert house.store.emitted == [("a", ["phone", "bio"]), ("a", ["phone"])]


async def test_what_is_so_already_is_no_change(house: House) -> None:
    """R1.152: nothing is told, nothing touched."""
    await house.profiles.change("a", {"bio": "x"})
    before = house.store.profiles["a"]

    await house.profiles.change("a", {"bio": "x"})
    await house.profiles.change("a", {})
    await house.profiles.change("a", preferences={})

    assert house.store.profiles["a"] == before
    assert house.store.emitted == [("a", ["bio"])]


async def test_preferences_are_merged(house: House) -> None:
    """R1.151: a channel that is not named keeps its value."""
    await house.profiles.change(
        "a", preferences={"theme": "dark", "notifications": {"email": True, "sms": False}}
    )
    await house.profiles.read_preferences("a", fresh=False)
    await house.profiles.change("a", preferences={"notifications": {"sms": True}})

    answer = await house.profiles.read_preferences("a", fresh=False)
    assert msgspec.json.decode(answer.body) == {
        "theme": "dark",
        "notifications": {"email": True, "sms": True},
    }
    assert house.store.emitted == [("a", ["preferences"])] * 2


async def test_facts_and_preferences_change_in_one_go(house: House) -> None:
    """R1.152: one change, told once, with the names of all that differs."""
    changed = await house.profiles.change("a", {"bio": "x"}, {"theme": "dark"})

    assert (changed.bio, changed.preferences) == ("x", {"theme": "dark"})
    assert house.store.profiles["a"] == changed
    assert house.store.emitted == [("a", ["bio", "preferences"])]


async def test_facts_stay_if_preferences_cannot_be_written(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it or nothing: the second statement fails, and the first has not happened."""
    await house.profiles.change("a", {"bio": "before"})

    async def lost(*_: object) -> None:
        raise ConnectionError("the database is gone")

    monkeypatch.setattr(FakeUnit, "set_preferences", lost)
    with pytest.raises(ConnectionError):
        await house.profiles.change("a", {"bio": "after"}, {"theme": "dark"})

    assert house.store.profiles["a"].bio == "before"
    assert house.store.emitted == [("a", ["bio"])]


async def test_a_change_leaves_other_users_alone(house: House) -> None:
    """Section 6: entries of others stay."""
    await house.profiles.read("b", fresh=False)
    await house.profiles.change("a", {"bio": "x"})

    assert (await house.profiles.read("b", fresh=False)).outcome is Outcome.HIT
    assert house.store.profiles["b"].bio is None


async def test_the_profile_of_a_deleted_user_goes(house: House) -> None:
    """R1.152: this one, and no other; a second time is no fault."""
    await house.profiles.change("a", {"bio": "x"})
    await house.profiles.change("b", {"bio": "y"})

    await house.forget("a")
    await house.forget("a")

    assert set(house.store.profiles) == {"b"}


async def test_a_late_request_does_not_bring_it_back(house: House) -> None:
    """R1.152: a read or write that was on its way is refused like the token's next use."""
    await house.forget("a")

    for act in (
        house.profiles.read("a", fresh=False),
        house.profiles.read_preferences("a", fresh=True),
        house.profiles.change("a", {"bio": "x"}),
        house.profiles.change("a", preferences={"theme": "dark"}),
    ):
        with pytest.raises(ApiError) as refused:
            await act
        assert (refused.value.status, refused.value.code) == (401, "TOKEN_REVOKED")
    assert house.store.profiles == {}
