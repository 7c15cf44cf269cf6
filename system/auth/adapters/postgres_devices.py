"""Keeps devices in auth_db (R2.6)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from system.auth.domain.devices import Device, DeviceType
from system.platform.database import Transaction

DEVICE: Final = """d.id, d.user_id, d.device_id, d.device_name, d.device_type, d.user_agent,
                   d.last_active_at, d.created_at"""


def device_of(row: Any) -> Device:
    """Read a row of `DEVICE`."""
    return Device(
        id=row["id"],
        user_id=row["user_id"],
        device_id=row["device_id"],
        name=row["device_name"],
        type=DeviceType(row["device_type"] or DeviceType.BROWSER),
        user_agent=row["user_agent"],
        last_active_at=row["last_active_at"],
        created_at=row["created_at"],
    )


class PostgresDevices:
    """`ports.DeviceRows` on one database transaction, but for the sessions of a device."""

    def __init__(self, transaction: Transaction) -> None:
        self._tx = transaction

    async def note_device(
        self,
        user_id: str,
        device_id: str,
        *,
        name: str | None,
        type: DeviceType | None,
        user_agent: str | None,
        now: datetime,
    ) -> Device:
        row = await self._tx.fetchrow(
            f"""INSERT INTO devices AS d (id, user_id, device_id, device_name, device_type,
                                          user_agent, last_active_at, created_at)
                VALUES (gen_random_uuid()::text, $1, $2, $3, coalesce($4, 'browser'), $5, $6, $6)
                ON CONFLICT (user_id, device_id) DO UPDATE
                SET device_name = coalesce($3, d.device_name),
                    device_type = coalesce($4, d.device_type),
                    user_agent = coalesce($5, d.user_agent),
                    last_active_at = $6
                RETURNING {DEVICE}""",
            user_id,
            device_id,
            name,
            type,
            user_agent,
            now,
            operation="insert",
            table="devices",
        )
        return device_of(row)

    async def name_device(self, user_id: str, device_id: str, name: str) -> Device | None:
        row = await self._tx.fetchrow(
            f"""UPDATE devices d SET device_name = $3
                WHERE d.user_id = $1 AND d.device_id = $2 RETURNING {DEVICE}""",
            user_id,
            device_id,
            name,
            operation="update",
            table="devices",
        )
        return None if row is None else device_of(row)

    async def bind_session(self, session_id: str, user_id: str, device_id: str) -> None:
        await self._tx.execute(
            """UPDATE sessions SET device_ref = (SELECT d.id FROM devices d
                                                 WHERE d.user_id = $2 AND d.device_id = $3)
               WHERE id = $1 AND user_id = $2""",
            session_id,
            user_id,
            device_id,
            operation="update",
            table="sessions",
        )

    async def remove_device(self, user_id: str, device_id: str) -> bool:
        tag = await self._tx.execute(
            "DELETE FROM devices WHERE user_id = $1 AND device_id = $2",
            user_id,
            device_id,
            operation="delete",
            table="devices",
        )
        return tag != "DELETE 0"

    async def remove_other_devices(self, user_id: str, device_id: str) -> None:
        await self._tx.execute(
            "DELETE FROM devices WHERE user_id = $1 AND device_id <> $2",
            user_id,
            device_id,
            operation="delete",
            table="devices",
        )
