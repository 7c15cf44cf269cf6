"""Makes the cache forget what a change of a payment touched (R6.5, R6.20)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from system.platform.cache import keys


class Forgetful(Protocol):
    """The side of the cache that writes use."""

    async def invalidate(self, *tags: str, once: str | None = None) -> None:
        """Remove all entries with one of the tags."""


async def forget_payment(
    cache: Forgetful, payment_id: str, parties: Iterable[str | None], event_id: str
) -> None:
    """Forget a changed payment; after the commit and before the answer.

    Args:
        cache: forgets.
        payment_id: the payment.
        parties: sender, recipient and a former recipient; None for nobody.
        event_id: of the change, so that its consumer need not forget again.
    """
    await cache.invalidate(*keys.after_payment_change(payment_id, parties), once=event_id)
