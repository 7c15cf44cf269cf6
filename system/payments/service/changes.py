"""Changes payments: by people, and by the word of the payment provider (R1.115-R1.122).

Each use case is one transaction with its history and events.  The payment is locked first: of two
changes at once the second is judged against the new state (R1.120).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from system.payments.domain import (
    DEFAULT_FAILURE,
    EDITED_MESSAGE,
    Actor,
    ActorRole,
    ChangeVerdict,
    Edit,
    EditVerdict,
    Payment,
    PaymentStatus,
    Person,
    ProviderNotice,
    changed_members,
    default_message,
    edited,
    is_payable,
    judge_change,
    judge_edit,
    way_to,
)
from system.payments.ports import NO_NOTE, Fact, ProviderNote, Store, Unit
from system.payments.service import refusals, shape
from system.payments.service.freshness import Forgetful, forget_payment
from system.payments.service.people import People
from system.platform.http import errors
from system.platform.http.validation import broken

PROVIDER: Final = Actor(None, ActorRole.PSP)


class PaymentChanges:
    """The use cases that change a payment.

    Args:
        store: payments_db.
        people: recipients.
        cache: forgets what a change touched.
    """

    def __init__(self, store: Store, people: People, cache: Forgetful) -> None:
        self._store = store
        self._people = people
        self._cache = cache

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
            payment = _found(await unit.lock_payment(payment_id))
            event_id, changed = await _step(unit, actor, payment, status, reason)
        await self._forget(changed, event_id)
        return shape.payment_json(changed)

    async def edit(self, actor: Actor, payment_id: str, edit: Edit) -> Mapping[str, Any]:
        """Change what a pending payment says (R1.116).

        Returns:
            The payment with relations.

        Raises:
            ApiError: 404 PAYMENT_NOT_FOUND or RECIPIENT_NOT_FOUND; 403 FORBIDDEN; 400
                INVALID_STATUS, SELF_PAYMENT_NOT_ALLOWED or VALIDATION_ERROR; 503 if the recipient
                cannot be judged.
        """
        # Asked before the transaction, for auth-service may take its time.
        recipient = await self._new_recipient(actor, payment_id, edit)
        async with self._store.transaction() as unit:
            before = _editable(await unit.lock_payment(payment_id), actor)
            after = edited(before, edit, None if recipient is None else recipient.id)
            if not is_payable(after.amount, after.currency):
                member = "amount" if edit.amount is not None else "currency"
                raise broken(member, "custom", f"{after.currency} allows only whole amounts")
            written = await unit.edit(after, EDITED_MESSAGE)
            whole = await unit.whole(payment_id)
            assert whole is not None, "a locked payment is there"
            changes = changed_members(before, after)
            data = shape.edited_data(before, written, changes)
            event_id = await unit.emit(Fact("payment.updated", actor.user_id, data))
        await self._forget(written, event_id, before.recipient_id)
        return shape.with_history(*whole)

    async def notice(self, notice: ProviderNotice) -> bool:
        """Do what the payment provider says (R1.118, R1.122).

        Returns:
            False if it was said before; then nothing happens.

        Raises:
            ApiError: 404 PAYMENT_NOT_FOUND; 409 INVALID_STATUS_TRANSITION.
        """
        event_ids: list[str] = []
        note = ProviderNote(notice.psp_transaction_id, notice.psp_status, notice.metadata)
        on_the_way = ProviderNote(notice.psp_transaction_id)
        async with self._store.transaction() as unit:
            payment = _found(await unit.lock_payment(notice.payment_id))
            if not await unit.claim_notice(notice):
                return False
            for status in way_to(payment, notice.status):
                last = status is notice.status
                event_id, payment = await _step(
                    unit,
                    PROVIDER,
                    payment,
                    status,
                    notice.failure_reason if last and status in _EXPLAINED else None,
                    note if last else on_the_way,
                )
                event_ids.append(event_id)
        for event_id in event_ids:
            await self._forget(payment, event_id)
        return True

    async def _new_recipient(self, actor: Actor, payment_id: str, edit: Edit) -> Person | None:
        if not edit.names_recipient:
            return None
        found = await self._store.payment(payment_id)
        payment = _editable(None if found is None else found[0], actor)
        recipient = await self._people.recipient(edit.recipient_id, edit.recipient_email)
        if recipient.id == payment.sender_id:
            raise refusals.self_payment()
        return recipient

    async def _forget(self, payment: Payment, event_id: str, former: str | None = None) -> None:
        parties = (payment.sender_id, payment.recipient_id, former)
        await forget_payment(self._cache, payment.id, parties, event_id)


# What a reason belongs to; the provider may send one along with any status.
_EXPLAINED: Final = frozenset({PaymentStatus.FAILED, PaymentStatus.CANCELLED})


async def _step(
    unit: Unit,
    actor: Actor,
    payment: Payment,
    status: PaymentStatus,
    reason: str | None,
    note: ProviderNote = NO_NOTE,
) -> tuple[str, Payment]:
    """Change the status of a locked payment: one row of history, one event (R1.119).

    Returns:
        The event's id and the payment as it stands now.
    """
    verdict = judge_change(payment, status, actor)
    if verdict is ChangeVerdict.FORBIDDEN:
        raise errors.forbidden()
    if verdict is ChangeVerdict.IMPOSSIBLE:
        raise refusals.impossible_change(payment.status, status)
    failed = status is PaymentStatus.FAILED
    changed = await unit.set_status(
        payment,
        status,
        reason or default_message(status),
        failure_reason=(reason or DEFAULT_FAILURE) if failed else payment.failure_reason,
        note=note,
    )
    event_type, data = shape.changed(changed, reason)
    return await unit.emit(Fact(event_type, actor.user_id, data)), changed


def _found(payment: Payment | None) -> Payment:
    if payment is None:
        raise refusals.payment_not_found()
    return payment


def _editable(payment: Payment | None, actor: Actor) -> Payment:
    """Return a payment that the actor may edit now; existence, ownership, state (R1.17)."""
    found = _found(payment)
    verdict = judge_edit(found, actor)
    if verdict is EditVerdict.FORBIDDEN:
        raise errors.forbidden()
    if verdict is EditVerdict.TOO_LATE:
        raise refusals.not_pending(found.status)
    return found
