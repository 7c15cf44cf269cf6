"""Writes payments as the outside sees them (R1.100) and as events tell of them (3.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from system.payments.domain import (
    Payment,
    PaymentStatus,
    PaymentType,
    Person,
    Step,
    amount_text,
)
from system.payments.ports import Parties, ReportQuery, Totals
from system.platform.moments import timestamp


def payment_json(payment: Payment) -> dict[str, Any]:
    """A payment without relations."""
    completed_at = payment.completed_at
    return {
        "id": payment.id,
        "senderId": payment.sender_id,
        "recipientId": payment.recipient_id,
        "amount": amount_text(payment.amount),
        "currency": payment.currency,
        "status": payment.status.value,
        "type": payment.type.value,
        "description": payment.description,
        "metadata": payment.metadata,
        "pspTransactionId": payment.psp_transaction_id,
        "pspStatus": payment.psp_status,
        "failureReason": payment.failure_reason,
        "completedAt": None if completed_at is None else timestamp(completed_at),
        "createdAt": timestamp(payment.created_at),
        "updatedAt": timestamp(payment.updated_at),
    }


def with_parties(payment: Payment, parties: Parties) -> dict[str, Any]:
    """A payment with sender and recipient."""
    shown = payment_json(payment)
    shown["sender"] = {"id": parties.sender[0], "email": parties.sender[1]}
    recipient = parties.recipient
    shown["recipient"] = None if recipient is None else {"id": recipient[0], "email": recipient[1]}
    return shown


def with_history(payment: Payment, parties: Parties, steps: Sequence[Step]) -> dict[str, Any]:
    """A payment with sender, recipient and history."""
    shown = with_parties(payment, parties)
    shown["transactions"] = history_json(steps)
    return shown


def history_json(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """The rows of a payment's history."""
    return [
        {
            "id": step.id,
            "paymentId": step.payment_id,
            "status": step.status.value,
            "statusMessage": step.message,
            "pspTransactionId": step.psp_transaction_id,
            "metadata": step.metadata,
            "createdAt": timestamp(step.created_at),
        }
        for step in steps
    ]


def created_data(payment: Payment) -> dict[str, Any]:
    """Data of `payment.created` (R3.34)."""
    return {
        **_core(payment),
        "type": payment.type.value,
        "description": payment.description,
        "createdAt": timestamp(payment.created_at),
    }


def edited_data(before: Payment, after: Payment, changes: Sequence[str]) -> dict[str, Any]:
    """Data of the `payment.updated` of an edit (R3.35)."""
    data = {**_core(after), "changes": list(changes), "updatedAt": timestamp(after.updated_at)}
    if after.recipient_id != before.recipient_id:
        data["previousRecipientId"] = before.recipient_id
    return data


def recipient_json(person: Person) -> dict[str, Any]:
    """Somebody who can be paid (R1.105)."""
    return {"id": person.id, "email": person.email, "name": person.name}


def report_json(query: ReportQuery, totals: Totals) -> dict[str, Any]:
    """A report (R1.123); every status and type is there, with 0 where none occurs."""
    amounts = {currency: amount_text(sum_) for currency, sum_ in sorted(totals.amounts.items())}
    if not amounts:
        total: str | None = amount_text(Decimal(0))
    else:
        # Sums of different currencies have no sum.
        total = None if len(amounts) > 1 else next(iter(amounts.values()))
    return {
        "totalPayments": totals.payments,
        "totalAmount": total,
        "totalsByCurrency": amounts,
        "byStatus": {status.value: totals.by_status.get(status, 0) for status in PaymentStatus},
        "byType": {kind.value: totals.by_type.get(kind, 0) for kind in PaymentType},
        "period": {"start": timestamp(query.start), "end": timestamp(query.end)},
    }


def changed(payment: Payment, reason: str | None) -> tuple[str, Mapping[str, Any]]:
    """Type and data of the event of a change of status (R1.119, R3.35-R3.38)."""
    core = _core(payment)
    at = timestamp(payment.updated_at)
    if payment.status is PaymentStatus.COMPLETED:
        completed_at = payment.completed_at or payment.updated_at
        return "payment.completed", {**core, "completedAt": timestamp(completed_at)}
    if payment.status is PaymentStatus.FAILED:
        return "payment.failed", {**core, "failureReason": payment.failure_reason, "failedAt": at}
    if payment.status is PaymentStatus.CANCELLED:
        why = {} if reason is None else {"cancelReason": reason}
        return "payment.cancelled", {**core, **why, "cancelledAt": at}
    return "payment.updated", {**core, "changes": ["status"], "updatedAt": at}


def _core(payment: Payment) -> dict[str, Any]:
    return {
        "paymentId": payment.id,
        "senderId": payment.sender_id,
        "recipientId": payment.recipient_id,
        "amount": amount_text(payment.amount),
        "currency": payment.currency,
        "status": payment.status.value,
    }
