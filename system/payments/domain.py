"""Payments and who may do what to them: facts, the state machine, exact money.

Standard library only.  Rule numbers are the contract's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final


class PaymentStatus(StrEnum):
    """Where a payment stands (R1.101); the order is the one lists are sorted by."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class PaymentType(StrEnum):
    """How a payment is carried out (R1.101)."""

    INSTANT = "instant"
    SCHEDULED = "scheduled"
    RECURRING = "recurring"


class ActorRole(StrEnum):
    """In which quality somebody acts: the roles of users, and the payment provider."""

    ADMIN = "ADMIN"
    CUSTOMER = "CUSTOMER"
    VENDOR = "VENDOR"
    PSP = "PSP"


CURRENCIES: Final = (
    *("USD", "EUR", "GBP", "JPY", "AUD", "CAD", "CHF", "CNY", "INR", "MXN", "BRL", "KRW", "SGD"),
    *("HKD", "NOK", "SEK", "DKK", "NZD", "ZAR", "RUB", "AED", "SAR", "THB", "MYR", "IDR", "PHP"),
    *("VND", "PLN", "CZK", "HUF", "ILS", "TRY", "TWD", "CLP", "COP", "PEN", "ARS", "EGP", "NGN"),
    "KES",
)
DEFAULT_CURRENCY: Final = "INR"
# R1.102: these have no smaller unit.
WHOLE_CURRENCIES: Final = frozenset({"JPY", "KRW", "VND", "CLP"})
_CENT: Final = Decimal("0.01")

ACTIVE: Final = "active"
DELETED_NAME: Final = "Deleted user"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts.

    Attributes:
        user_id: id of the user; None for the PSP.
        role: in which quality.
    """

    user_id: str | None
    role: ActorRole

    @property
    def is_admin(self) -> bool:
        """Whether all payments are visible and may be changed."""
        return self.role is ActorRole.ADMIN


@dataclass(frozen=True, slots=True)
class Person:
    """A user as payments knows it: a copy, kept by events (R2.11).

    Attributes:
        id: UUID.
        email: lower case.
        name: display name.
        status: active or suspended.
        version: of the account when it was copied; 0 if unknown, older than all.
        deleted_at: when the account was deleted, None if it exists.
    """

    id: str
    email: str
    name: str
    status: str
    version: int
    deleted_at: datetime | None = None

    @property
    def can_receive(self) -> bool:
        """Whether payments to this user may be made (R1.112)."""
        return self.status == ACTIVE and self.deleted_at is None


@dataclass(frozen=True, slots=True)
class Draft:
    """A payment somebody wants to make (R1.111).

    Attributes:
        amount: with two decimals, never rounded.
        currency: listed.
        type: how.
        description: cleaned.
        recipient_id: wins over the e-mail; None if not given.
        recipient_email: lower case; None if not given.
        metadata: any JSON object, or None.
    """

    amount: Decimal
    currency: str
    type: PaymentType
    description: str
    recipient_id: str | None
    recipient_email: str | None
    metadata: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Edit:
    """What somebody wants to change about a payment (R1.116); None leaves a member as it is.

    Attributes:
        amount: with two decimals, never rounded.
        currency: listed.
        type: how.
        description: cleaned, may be empty.
        recipient_id: who is paid instead; never together with the e-mail.
        recipient_email: lower case.
        metadata: replaces the former one whole.
    """

    amount: Decimal | None = None
    currency: str | None = None
    type: PaymentType | None = None
    description: str | None = None
    recipient_id: str | None = None
    recipient_email: str | None = None
    metadata: Mapping[str, Any] | None = None

    @property
    def names_recipient(self) -> bool:
        """Whether somebody is to be paid instead."""
        return self.recipient_id is not None or self.recipient_email is not None


@dataclass(frozen=True, slots=True)
class ProviderNotice:
    """What the payment provider says about a payment (R1.118).

    Attributes:
        payment_id: UUID.
        status: where the payment is to stand.
        psp_transaction_id: the provider's id; None if not given.
        psp_status: the provider's word; None if not given.
        failure_reason: None if not given.
        metadata: any JSON object, kept with the history.
    """

    payment_id: str
    status: PaymentStatus
    psp_transaction_id: str | None = None
    psp_status: str | None = None
    failure_reason: str | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment (R2.12).

    Attributes:
        id: UUID.
        sender_id: who pays.
        recipient_id: who is paid.
        amount: with two decimals.
        currency: listed.
        status: where it stands.
        type: how it is carried out.
        description: free text.
        metadata: any JSON object.
        psp_transaction_id: the provider's id.
        psp_status: the provider's word.
        failure_reason: set on failure.
        completed_at: set on completion and only then.
        created_at: UTC.
        updated_at: UTC.
    """

    id: str
    sender_id: str
    recipient_id: str | None
    amount: Decimal
    currency: str
    status: PaymentStatus
    type: PaymentType
    description: str | None
    metadata: Mapping[str, Any] | None
    psp_transaction_id: str | None
    psp_status: str | None
    failure_reason: str | None
    completed_at: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Step:
    """A row in a payment's history (R2.13), `transactions[]` outside."""

    id: str
    payment_id: str
    status: PaymentStatus
    message: str | None
    psp_transaction_id: str | None
    metadata: Mapping[str, Any] | None
    created_at: datetime


# R1.115: from → to → who, besides whom `_may_ask_for` turns away.
TRANSITIONS: Final[Mapping[PaymentStatus, frozenset[PaymentStatus]]] = {
    PaymentStatus.PENDING: frozenset({PaymentStatus.PROCESSING, PaymentStatus.CANCELLED}),
    PaymentStatus.PROCESSING: frozenset({PaymentStatus.COMPLETED, PaymentStatus.FAILED}),
    PaymentStatus.COMPLETED: frozenset(),
    PaymentStatus.FAILED: frozenset(),
    PaymentStatus.CANCELLED: frozenset(),
}


class ChangeVerdict(StrEnum):
    """Whether a change of status may take place."""

    ALLOWED = "allowed"
    FORBIDDEN = "forbidden"  # not for this actor, whatever the state (R1.117)
    IMPOSSIBLE = "impossible"  # not from this state (R1.115)


def judge_change(payment: Payment, to: PaymentStatus, actor: Actor) -> ChangeVerdict:
    """Judge a change of status: first the actor, then the state (R1.17, R1.115)."""
    anyone = actor.role in (ActorRole.ADMIN, ActorRole.PSP)
    cancels_own = to is PaymentStatus.CANCELLED and actor.user_id == payment.sender_id
    if not anyone and not cancels_own:
        return ChangeVerdict.FORBIDDEN
    return ChangeVerdict.ALLOWED if to in TRANSITIONS[payment.status] else ChangeVerdict.IMPOSSIBLE


class EditVerdict(StrEnum):
    """Whether a payment may be edited."""

    ALLOWED = "allowed"
    FORBIDDEN = "forbidden"  # only its sender and ADMIN
    TOO_LATE = "too late"  # only while it is pending


def judge_edit(payment: Payment, actor: Actor) -> EditVerdict:
    """Judge an edit: first the actor, then the state (R1.17, R1.116)."""
    if not actor.is_admin and actor.user_id != payment.sender_id:
        return EditVerdict.FORBIDDEN
    pending = payment.status is PaymentStatus.PENDING
    return EditVerdict.ALLOWED if pending else EditVerdict.TOO_LATE


def edited(payment: Payment, edit: Edit, recipient_id: str | None) -> Payment:
    """Return a payment as it stands after an edit, but for its times.

    Args:
        payment: as it stands.
        edit: what is to change.
        recipient_id: whom the edit names; None if it names nobody.
    """
    return replace(
        payment,
        amount=payment.amount if edit.amount is None else edit.amount,
        currency=payment.currency if edit.currency is None else edit.currency,
        type=payment.type if edit.type is None else edit.type,
        description=payment.description if edit.description is None else edit.description,
        recipient_id=payment.recipient_id if recipient_id is None else recipient_id,
        metadata=payment.metadata if edit.metadata is None else edit.metadata,
    )


# As the outside names them, and `changes[]` of payment.updated (R3.35).
_EDITABLE: Final = {
    "amount": "amount",
    "currency": "currency",
    "type": "type",
    "description": "description",
    "recipient_id": "recipientId",
    "metadata": "metadata",
}


def changed_members(before: Payment, after: Payment) -> list[str]:
    """Name the members in which an edited payment differs."""
    return [
        name
        for attribute, name in _EDITABLE.items()
        if getattr(before, attribute) != getattr(after, attribute)
    ]


def way_to(payment: Payment, to: PaymentStatus) -> tuple[PaymentStatus, ...]:
    """Return the states the provider's word leads through; the last one is `to` (R1.122)."""
    ends = to in TRANSITIONS[PaymentStatus.PROCESSING]
    if ends and payment.status is PaymentStatus.PENDING:
        return (PaymentStatus.PROCESSING, to)
    return (to,)


def may_see(actor: Actor, sender_id: str, recipient_id: str | None) -> bool:
    """Whether a payment is visible to somebody (R1.103)."""
    return actor.is_admin or actor.user_id in (sender_id, recipient_id)


# Times are kept in milliseconds (R2.1), so this is the last of a day.
DAY_STARTS: Final = time()
DAY_ENDS: Final = time(23, 59, 59, 999000)
_REPORT_DAYS: Final = timedelta(days=30)


def report_period(
    start: datetime | None, end: datetime | None, now: datetime
) -> tuple[datetime, datetime]:
    """Complete the period of a report: by default 30 full UTC days and the day of its end (R1.123).

    Args:
        start: first moment asked for; None for 30 days before the day of the end.
        end: last moment asked for; None for the end of today.
        now: the present, UTC.
    """
    if end is None:
        end = datetime.combine(now.date(), DAY_ENDS, UTC)
    if start is None:
        try:
            first = end.date() - _REPORT_DAYS
        except OverflowError:
            first = date.min
        start = datetime.combine(first, DAY_STARTS, UTC)
    return start, end


def amount_text(amount: Decimal) -> str:
    """Write an amount with exactly two decimals (R1.102).

    Raises:
        ValueError: the amount has more; nothing is ever rounded.
    """
    exact = amount.quantize(_CENT)
    if exact != amount:
        raise ValueError(f"seen amount {amount}, expected at most two decimals")
    return str(exact)


def is_payable(amount: Decimal, currency: str) -> bool:
    """Whether a currency has such amounts: JPY, KRW, VND and CLP only whole ones (R1.102)."""
    return currency not in WHOLE_CURRENCIES or amount == amount.to_integral_value()


def deleted_email(user_id: str) -> str:
    """The address that stands for a deleted person (R1.137)."""
    return f"deleted-{user_id}@deleted.invalid"


def displaced_email(user_id: str) -> str:
    """The address of somebody whose own has passed to another, until an event tells (R2.22)."""
    return f"unknown-{user_id}@unknown.invalid"


def default_message(status: PaymentStatus) -> str:
    """What the history says of a change without a reason (R1.119)."""
    return f"Payment {status.value}"


DEFAULT_FAILURE: Final = "Payment failed"
CREATED_MESSAGE: Final = "Payment created"
EDITED_MESSAGE: Final = "Payment updated"
