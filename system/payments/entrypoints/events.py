"""What payments-service does about events: keep the copy of users, forget answers (R3.42)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from system.payments.domain import ACTIVE, DELETED_NAME, Person
from system.payments.ports import Unit
from system.payments.service.freshness import Forgetful
from system.platform.cache import keys
from system.platform.database import Transaction
from system.platform.events.consumer import Handler, after_commit
from system.platform.events.envelope import Event

USER_CHANGES = ("user.updated", "user.role_changed", "user.status_changed")
PAYMENT_EVENTS = (
    "payment.created",
    "payment.updated",
    "payment.completed",
    "payment.failed",
    "payment.cancelled",
)


def handlers(cache: Forgetful, unit_of: Callable[[Transaction], Unit]) -> dict[str, Handler]:
    """Return the handlers by event type.

    The cache forgets after the commit, or a reader could store what the commit is about to
    outdate, and before the acknowledgement (R6.6).

    Args:
        cache: forgets.
        unit_of: makes a unit of the transaction in which an event takes effect.
    """

    async def user_created(event: Event, tx: Transaction) -> None:
        await unit_of(tx).put_person(person_of(event))
        after_commit(lambda: cache.invalidate(keys.RECIPIENTS_TAG))

    async def user_changed(event: Event, tx: Transaction) -> None:
        person = person_of(event)
        await unit_of(tx).put_person(person)
        after_commit(lambda: cache.invalidate(*keys.after_user_change_in_payments(person.id)))

    async def payment_changed(event: Event, _: Transaction) -> None:
        data = event.data
        parties = (data["senderId"], data.get("recipientId"), data.get("previousRecipientId"))
        tags = keys.after_payment_change(data["paymentId"], parties)
        # The writer has seen to it already, unless it died in between.
        after_commit(lambda: cache.invalidate(*tags, once=event.id))

    return {
        "user.created": user_created,
        **dict.fromkeys((*USER_CHANGES, "user.deleted"), user_changed),
        **dict.fromkeys(PAYMENT_EVENTS, payment_changed),
    }


def person_of(event: Event) -> Person:
    """Read the user of a life-cycle event; a deletion tells neither name nor status (R3.27)."""
    data: dict[str, Any] = event.data
    deleted_at = data.get("deletedAt")
    return Person(
        id=data["userId"],
        email=data["email"],
        name=data.get("name", DELETED_NAME),
        status=data.get("status", ACTIVE),
        version=data["userVersion"],
        deleted_at=None if deleted_at is None else datetime.fromisoformat(deleted_at),
    )
