"""What the profile service needs of the world."""

from __future__ import annotations

from typing import Protocol


class Profiles(Protocol):
    """The profiles, inside one transaction."""

    async def delete(self, user_id: str) -> bool:
        """Remove the profile of a user; False if there was none."""
