"""Keeps profiles in profile_db (2.4), with plain SQL."""

from __future__ import annotations

from system.platform.database import Transaction


class PostgresProfiles:
    """`ports.Profiles` on one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._tx = transaction

    async def delete(self, user_id: str) -> bool:
        """See `ports.Profiles.delete`."""
        tag = await self._tx.execute(
            "DELETE FROM user_profiles WHERE user_id = $1",
            user_id,
            operation="delete",
            table="user_profiles",
        )
        return tag != "DELETE 0"
