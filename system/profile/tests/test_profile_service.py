"""R1.152, R3.9, R3.42: what the profile service does with events."""

from __future__ import annotations

from system.profile import service
from system.profile.domain import UserDeleted
from system.profile.entrypoints.events import EVENT_HANDLERS


class FakeProfiles:
    """`ports.Profiles` in memory."""

    def __init__(self, *user_ids: str) -> None:
        self.user_ids = set(user_ids)

    async def delete(self, user_id: str) -> bool:
        there = user_id in self.user_ids
        self.user_ids.discard(user_id)
        return there


async def test_the_profile_of_a_deleted_user_goes() -> None:
    """R1.152: this one, and no other; a second time is no fault."""
    profiles = FakeProfiles("a", "b")

    await service.forget_user(UserDeleted("a"), profiles)
    await service.forget_user(UserDeleted("a"), profiles)

    assert profiles.user_ids == {"b"}


def test_other_events_have_no_handler() -> None:
    """R3.9: they are acknowledged without touching the database."""
    assert set(EVENT_HANDLERS) == {"user.deleted"}
