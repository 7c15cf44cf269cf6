"""The system's configuration, as administrators read and set it (R1.140)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from system.admin.domain.configuration import Setting
from system.admin.ports import Store
from system.platform.http import errors


class Configuration:
    """Values under names.

    Args:
        store: admin_db.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def all(self) -> Sequence[Setting]:
        """Return everything, by key."""
        return await self._store.settings()

    async def get(self, key: str) -> Setting:
        """Return one value.

        Raises:
            ApiError: 404 CONFIG_NOT_FOUND.
        """
        setting = await self._store.setting(key)
        if setting is None:
            raise errors.missing("CONFIG_NOT_FOUND", "Configuration not found")
        return setting

    async def set(
        self, key: str, value: Any, description: str | None, *, updated_by: str
    ) -> Setting:
        """Create or replace a value and its description, and tell of it (R3.40)."""
        async with self._store.transaction() as unit:
            setting = await unit.put_setting(key, value, description, updated_by)
            await unit.emit_config_updated(key, updated_by, setting.updated_at)
        return setting
