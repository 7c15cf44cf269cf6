"""Makes and changes payments: each use case is one transaction with its events (R1.113, R3.16).

After the commit and before the answer the cache forgets what the change touched (R6.5).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import msgspec

from system.payments.domain import (
    CREATED_MESSAGE,
    DEFAULT_FAILURE,
    Actor,
    ChangeVerdict,
    Draft,
    Payment,
    PaymentStatus,
    default_message,
    judge_change,
)
from system.payments.ports import Fact, Parties, Store, StoredAnswer, Unit
from system.payments.service import shape
from system.payments.service.people import People
from system.platform.cache import keys
from system.platform.http import errors
from system.platform.observability.metrics import PAYMENTS_AMOUNT_TOTAL, PAYMENTS_CREATED_TOTAL


class Forgetful(Protocol):
    """The side of the cache that writes use."""

    async def invalidate(self, *tags: str, once: str | None = None) -> None:
        """Remove all entries with one of the tags."""


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
    """The writing use cases.

    Args:
        store: payments_db.
        people: senders and recipients.
        cache: forgets what a change touched.
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
            raise _self_payment()
        sender = await self._people.sender(user_id)
        recipient = await self._people.recipient(draft)
        if recipient.id == user_id:
            raise _self_payment()
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
        await self._forget(payment.id, (user_id, recipient.id), event_id)
        return Created(data, replayed=False)

    async def change_status(
        self, actor: Actor, payment_id: str, status: PaymentStatus, reason: str | None
    ) -> Mapping[str, Any]:
        """Change a payment's status (R1.117, R1.119).

        Returns:
            The payment without relations.

        Raises:
            ApiError: 404 PAYMENT_NOT_FOUND; 403 FORBIDDEN; 409 INVALID_STATUS_TRANSITION.
        """
        async with self._store.transaction() as unit:
            event_id, payment = await self._change(unit, actor, payment_id, status, reason)
        await self._forget(payment.id, (payment.sender_id, payment.recipient_id), event_id)
        return shape.payment_json(payment)

    @staticmethod
    async def _change(
        unit: Unit, actor: Actor, payment_id: str, status: PaymentStatus, reason: str | None
    ) -> tuple[str, Payment]:
        # Locked first: of two changes at once the second is judged against the new state (R1.120).
        payment = await unit.lock_payment(payment_id)
        if payment is None:
            raise payment_not_found()
        verdict = judge_change(payment, status, actor)
        if verdict is ChangeVerdict.FORBIDDEN:
            raise errors.forbidden()
        if verdict is ChangeVerdict.IMPOSSIBLE:
            raise errors.conflict(
                "INVALID_STATUS_TRANSITION",
                f"A payment that is {payment.status.value} cannot become {status.value}",
                {"from": payment.status.value, "to": status.value},
            )
        failed = status is PaymentStatus.FAILED
        changed = await unit.set_status(
            payment,
            status,
            reason or default_message(status),
            failure_reason=(reason or DEFAULT_FAILURE) if failed else payment.failure_reason,
        )
        event_type, data = shape.changed(changed, reason)
        return await unit.emit(Fact(event_type, actor.user_id, data)), changed

    async def _forget(
        self, payment_id: str, parties: tuple[str | None, ...], event_id: str
    ) -> None:
        await self._cache.invalidate(*keys.after_payment_change(payment_id, parties), once=event_id)


def request_hash(draft: Draft) -> str:
    """Tell requests apart after validation, as canonical JSON (R1.114)."""
    canonical = msgspec.json.encode(asdict(draft), order="sorted")
    return hashlib.sha256(canonical).hexdigest()


def payment_not_found() -> errors.ApiError:
    """R1.107: there is no such payment."""
    return errors.missing("PAYMENT_NOT_FOUND", "Payment not found")


def _self_payment() -> errors.ApiError:
    return errors.ApiError(400, "SELF_PAYMENT_NOT_ALLOWED", "You cannot pay yourself")


def _replay(stored: StoredAnswer | None, digest: str) -> Created:
    if stored is None:
        # Claimed by a transaction that is not visible to this one's snapshot; a new try sees it.
        raise errors.service_unavailable()
    if stored.request_hash != digest:
        raise errors.conflict(
            "IDEMPOTENCY_KEY_REUSED", "This Idempotency-Key was used with another request body"
        )
    return Created(stored.answer, replayed=True)
