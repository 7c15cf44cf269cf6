"""Makes payments: payment, history and event are one transaction (R1.113, R3.16).

After the commit and before the answer the cache forgets what the payment touches (R6.5).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from system.payments.domain import CREATED_MESSAGE, Draft
from system.payments.ports import Fact, Parties, Store, StoredAnswer
from system.payments.service import refusals, shape
from system.payments.service.freshness import Forgetful, forget_payment
from system.payments.service.people import People
from system.platform.http import errors
from system.platform.observability.metrics import PAYMENTS_AMOUNT_TOTAL, PAYMENTS_CREATED_TOTAL


@dataclass(frozen=True, slots=True)
class Created:
    """Outcome of a create.

    Attributes:
        data: payment with sender and recipient, as answered.
        replayed: whether it is the stored answer of an Idempotency-Key.
    """

    data: Mapping[str, Any]
    replayed: bool


class PaymentCommands:
    """The use case that makes a payment.

    Args:
        store: payments_db.
        people: senders and recipients.
        cache: forgets what a payment touches.
    """

    def __init__(self, store: Store, people: People, cache: Forgetful) -> None:
        self._store = store
        self._people = people
        self._cache = cache

    async def create(self, user_id: str, draft: Draft, idempotency_key: str | None) -> Created:
        """Make a payment from this user (R1.108, R1.111-R1.114).

        Raises:
            ApiError: 400 SELF_PAYMENT_NOT_ALLOWED; 404 RECIPIENT_NOT_FOUND; 409
                IDEMPOTENCY_KEY_REUSED; 503 if the recipient cannot be judged.
        """
        digest = request_hash(draft)
        if idempotency_key is not None:
            # First, since a recipient who is gone meanwhile changes nothing about a stored answer.
            stored = await self._store.stored_answer(user_id, idempotency_key)
            if stored is not None:
                return _replay(stored, digest)
        if draft.recipient_id == user_id:
            raise refusals.self_payment()
        sender = await self._people.sender(user_id)
        recipient = await self._people.recipient(draft.recipient_id, draft.recipient_email)
        if recipient.id == user_id:
            raise refusals.self_payment()
        async with self._store.transaction() as unit:
            if idempotency_key is not None and not await unit.claim_key(
                user_id, idempotency_key, digest
            ):
                return _replay(await unit.stored_answer(user_id, idempotency_key), digest)
            payment = await unit.add_payment(
                str(uuid.uuid4()),
                user_id,
                recipient.id,
                draft.amount,
                draft.currency,
                draft.type,
                draft.description,
                draft.metadata,
                CREATED_MESSAGE,
            )
            parties = Parties((sender.id, sender.email), (recipient.id, recipient.email))
            data = shape.with_parties(payment, parties)
            if idempotency_key is not None:
                await unit.store_answer(user_id, idempotency_key, data)
            event_id = await unit.emit(
                Fact("payment.created", user_id, shape.created_data(payment))
            )
        PAYMENTS_CREATED_TOTAL.labels(payment.type.value, payment.status.value).inc()
        PAYMENTS_AMOUNT_TOTAL.labels(payment.currency).inc(float(payment.amount))
        await forget_payment(self._cache, payment.id, (user_id, recipient.id), event_id)
        return Created(data, replayed=False)


def request_hash(draft: Draft) -> str:
    """Tell requests apart after validation, as canonical JSON (R1.114)."""
    canonical = msgspec.json.encode(asdict(draft), order="sorted")
    return hashlib.sha256(canonical).hexdigest()


def _replay(stored: StoredAnswer | None, digest: str) -> Created:
    if stored is None:
        # Claimed by a transaction that is not visible to this one's snapshot; a new try sees it.
        raise errors.service_unavailable()
    if stored.request_hash != digest:
        raise refusals.key_reused()
    return Created(stored.answer, replayed=True)
