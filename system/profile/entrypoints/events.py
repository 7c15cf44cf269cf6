"""Where the outside reaches the profile service: its queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from system.platform.database import Transaction
from system.platform.events.consumer import Handler
from system.platform.events.envelope import Event
from system.profile import service
from system.profile.adapters import PostgresProfiles
from system.profile.domain import UserDeleted


async def on_user_deleted(event: Event, transaction: Transaction) -> None:
    """R3.42: delete the profile."""
    await service.forget_user(
        UserDeleted(user_id=event.data["userId"]), PostgresProfiles(transaction)
    )


# Every other type that reaches the queue is acknowledged without touching the database (R3.9).
EVENT_HANDLERS: Final[Mapping[str, Handler]] = {"user.deleted": on_user_deleted}
