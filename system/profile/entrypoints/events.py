"""What the profile service does about events: it forgets users who are gone (R3.42)."""

from __future__ import annotations

from collections.abc import Callable

from system.platform.cache import keys
from system.platform.database import Transaction
from system.platform.events.consumer import Handler, after_commit
from system.platform.events.envelope import Event
from system.profile import service
from system.profile.domain import UserDeleted
from system.profile.ports import ReadThrough, Unit


def handlers(cache: ReadThrough, unit_of: Callable[[Transaction], Unit]) -> dict[str, Handler]:
    """Return the handlers by event type.

    Every other type that reaches the queue is acknowledged without touching the database (R3.9).

    Args:
        cache: forgets, after the commit and before the acknowledgement (R6.6).
        unit_of: makes a unit of the transaction in which an event takes effect.
    """

    async def on_user_deleted(event: Event, transaction: Transaction) -> None:
        """R3.42: delete the profile."""
        user_id: str = event.data["userId"]
        await service.forget_user(UserDeleted(user_id), unit_of(transaction))
        after_commit(lambda: cache.invalidate(*keys.after_user_change(user_id)))

    return {"user.deleted": on_user_deleted}
