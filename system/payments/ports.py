"""What the payments use cases need from outside: a store with transactions, and auth-service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Protocol

from system.payments.domain import (
    Payment,
    PaymentStatus,
    PaymentType,
    Person,
    ProviderNotice,
    Step,
)


@dataclass(frozen=True, slots=True)
class Parties:
    """The persons shown with a payment; None for nobody.

    Attributes:
        sender: id and e-mail.
        recipient: id and e-mail.
    """

    sender: tuple[str, str]
    recipient: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A page of payments that somebody asks for (R1.110); equal queries have equal answers.

    Attributes:
        visible_to: only payments this user sent or received; None for all (R1.103).
        page: from 1.
        limit: rows of a page.
        sort: createdAt, amount or status.
        descending: direction; ties go the same way by id.
        status: only this one.
        type: only this one.
        start: created then or later.
        end: created then or earlier.
        min_amount: at least.
        max_amount: at most.
    """

    visible_to: str | None
    page: int = 1
    limit: int = 10
    sort: str = "createdAt"
    descending: bool = True
    status: PaymentStatus | None = None
    type: PaymentType | None = None
    start: datetime | None = None
    end: datetime | None = None
    min_amount: Decimal | None = None
    max_amount: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page and how many payments there are in all."""

    payments: Sequence[tuple[Payment, Parties]]
    total: int


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """A report that somebody asks for (R1.123); equal queries have equal answers.

    Attributes:
        visible_to: only payments this user sent or received; None for all (R1.103).
        start: created then or later.
        end: created then or earlier.
        currency: only this one; None for all.
    """

    visible_to: str | None
    start: datetime
    end: datetime
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """What the payments of a report add up to; what does not occur is absent.

    Attributes:
        payments: how many there are.
        amounts: sum by currency.
        by_status: how many by status.
        by_type: how many by type.
    """

    payments: int
    amounts: Mapping[str, Decimal]
    by_status: Mapping[PaymentStatus, int]
    by_type: Mapping[PaymentType, int]


@dataclass(frozen=True, slots=True)
class ProviderNote:
    """What the provider's word adds to a change of status (R1.122); None leaves a member alone.

    Attributes:
        psp_transaction_id: the provider's id.
        psp_status: the provider's word.
        metadata: kept with the history.
    """

    psp_transaction_id: str | None = None
    psp_status: str | None = None
    metadata: Mapping[str, Any] | None = None


NO_NOTE: Final = ProviderNote()

# A payment with its parties and its history, oldest first.
Whole = tuple[Payment, Parties, Sequence[Step]]


@dataclass(frozen=True, slots=True)
class History:
    """What happened to a payment, and whose business that is.

    Attributes:
        payment_id: of the payment.
        sender_id: who pays.
        recipient_id: who is paid; None for nobody.
        steps: oldest first.
    """

    payment_id: str
    sender_id: str
    recipient_id: str | None
    steps: Sequence[Step]


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What an Idempotency-Key was answered with before (R1.114).

    Attributes:
        request_hash: SHA-256 of the request it belongs to.
        answer: the data of the 201.
    """

    request_hash: str
    answer: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fact:
    """An event about to be written to the outbox (3.5).

    Attributes:
        type: `payment.created` and the like.
        actor_id: the user who acted; None for the PSP, which is then named (R3.41).
        data: contents by the catalogue.
    """

    type: str
    actor_id: str | None
    data: Mapping[str, Any]


class Unit(Protocol):
    """One transaction on payments_db; leaving its block commits, an error rolls back."""

    async def claim_key(self, user_id: str, key: str, request_hash: str) -> bool:
        """Take an Idempotency-Key for this transaction; waits for another that holds it.

        Returns:
            False if it was answered in the last 24 h.
        """

    async def stored_answer(self, user_id: str, key: str) -> StoredAnswer | None:
        """Read what a key was answered with in the last 24 h."""

    async def store_answer(self, user_id: str, key: str, answer: Mapping[str, Any]) -> None:
        """Keep the answer of a claimed key."""

    async def add_payment(
        self,
        payment_id: str,
        sender_id: str,
        recipient_id: str,
        amount: Decimal,
        currency: str,
        type: PaymentType,
        description: str,
        metadata: Mapping[str, Any] | None,
        message: str,
    ) -> Payment:
        """Insert a pending payment and the first row of its history."""

    async def lock_payment(self, payment_id: str) -> Payment | None:
        """Read a payment and keep others from changing it until the transaction ends."""

    async def set_status(
        self,
        payment: Payment,
        status: PaymentStatus,
        message: str,
        *,
        failure_reason: str | None,
        note: ProviderNote = NO_NOTE,
    ) -> Payment:
        """Change the status of a locked payment and add a row to its history (R1.119)."""

    async def edit(self, payment: Payment, message: str) -> Payment:
        """Write the members of a locked payment that can be edited, and a row to its history."""

    async def whole(self, payment_id: str) -> Whole | None:
        """Read a payment with parties and history as this transaction sees it."""

    async def claim_notice(self, notice: ProviderNotice) -> bool:
        """Note that the provider said this about a locked payment (R1.122).

        Returns:
            False if it had said so before.
        """

    async def put_person(self, person: Person) -> None:
        """Bring the copy of a user up to this version; older ones change nothing (R2.21)."""

    async def emit(self, fact: Fact) -> str:
        """Write an event to the outbox (R3.16).

        Returns:
            Its id.
        """


class Store(Protocol):
    """payments_db."""

    def transaction(self) -> AbstractAsyncContextManager[Unit]:
        """Open a transaction."""

    async def stored_answer(self, user_id: str, key: str) -> StoredAnswer | None:
        """Read what a key was answered with in the last 24 h."""

    async def person(self, user_id: str) -> Person | None:
        """Read the copy of a user, by id."""

    async def person_by_email(self, email: str) -> Person | None:
        """Read the copy of a user, by e-mail."""

    async def page(self, query: ListQuery) -> Page:
        """Read a page of payments with their parties, in one query."""

    async def payment(self, payment_id: str) -> Whole | None:
        """Read a payment with parties and history, in one query."""

    async def histories(self, payment_ids: Sequence[str]) -> Sequence[History]:
        """Read the histories of the payments there are among these, in one query."""

    async def payable(self, but: str) -> Sequence[Person]:
        """Read everybody who can be paid by a user, by name, in one query (R1.105)."""

    async def totals(self, query: ReportQuery) -> Totals:
        """Add up the payments of a report, in one query (R1.123)."""

    async def parties(self, payment_id: str) -> tuple[str, str | None] | None:
        """Read sender and recipient of a payment."""


class DirectoryUnavailable(Exception):
    """auth-service could not be asked."""


class Directory(Protocol):
    """The users, as auth-service knows them."""

    async def find(self, user_id: str) -> Person | None:
        """Look a user up by id; None if there is none.

        Raises:
            DirectoryUnavailable: auth-service did not answer.
        """

    async def find_by_email(self, email: str) -> Person | None:
        """Look a user up by e-mail; None if there is none.

        Raises:
            DirectoryUnavailable: auth-service did not answer.
        """
