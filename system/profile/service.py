"""What happens to profiles."""

from __future__ import annotations

from system.profile.domain import UserDeleted
from system.profile.ports import Profiles


async def forget_user(event: UserDeleted, profiles: Profiles) -> None:
    """Delete the profile of a deleted user (R1.152); a user without one is no fault."""
    await profiles.delete(event.user_id)
