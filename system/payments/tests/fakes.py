"""Working stand-ins for the ports of payments: a store in memory, a directory, a cache."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from system.payments.domain import (
    Payment,
    PaymentStatus,
    PaymentType,
    Person,
    ProviderNotice,
    Step,
)
from system.payments.ports import (
    NO_NOTE,
    DirectoryUnavailable,
    Fact,
    History,
    ListQuery,
    Page,
    Parties,
    ProviderNote,
    ReportQuery,
    StoredAnswer,
    Totals,
    Whole,
)
from system.platform.cache.answers import Admit, Answer, Loaded, Loader, Outcome
from system.platform.cache.keys import Entry

START = datetime(2026, 1, 17, 10, tzinfo=UTC)


class FakeStore:
    """payments_db in memory; transactions run one after the other and undo themselves on errors."""

    def __init__(self) -> None:
        self.payments: dict[str, Payment] = {}
        self.steps: list[Step] = []
        self.people: dict[str, Person] = {}
        self.answers: dict[tuple[str, str], StoredAnswer] = {}
        self.facts: list[Fact] = []
        self.notices: set[tuple[str, PaymentStatus, str | None]] = set()
        self.queries: list[ListQuery] = []
        self.reports: list[ReportQuery] = []
        self._turn = asyncio.Lock()
        self._ticks = 0

    @property
    def now(self) -> datetime:
        self._ticks += 1
        return START + timedelta(seconds=self._ticks)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[FakeUnit]:
        async with self._turn:
            before = (dict(self.payments), list(self.steps), dict(self.people))
            before_too = (dict(self.answers), list(self.facts), set(self.notices))
            try:
                yield FakeUnit(self)
            except BaseException:
                self.payments, self.steps, self.people = before
                self.answers, self.facts, self.notices = before_too
                raise

    async def stored_answer(self, user_id: str, key: str) -> StoredAnswer | None:
        return self.answers.get((user_id, key))

    async def person(self, user_id: str) -> Person | None:
        return self.people.get(user_id)

    async def person_by_email(self, email: str) -> Person | None:
        return next((p for p in self.people.values() if p.email == email), None)

    async def page(self, query: ListQuery) -> Page:
        self.queries.append(query)
        found = [
            (payment, self._parties(payment))
            for payment in self.payments.values()
            if query.visible_to in (None, payment.sender_id, payment.recipient_id)
        ]
        skipped = (query.page - 1) * query.limit
        return Page(found[skipped : skipped + query.limit], len(found))

    async def payable(self, but: str) -> Sequence[Person]:
        found = [p for p in self.people.values() if p.can_receive and p.id != but]
        return sorted(found, key=lambda person: (person.name, person.id))

    async def totals(self, query: ReportQuery) -> Totals:
        self.reports.append(query)
        chosen = [
            payment
            for payment in self.payments.values()
            if query.visible_to in (None, payment.sender_id, payment.recipient_id)
            and query.start <= payment.created_at <= query.end
            and query.currency in (None, payment.currency)
        ]
        amounts: dict[str, Decimal] = {}
        for payment in chosen:
            amounts[payment.currency] = amounts.get(payment.currency, Decimal(0)) + payment.amount
        return Totals(
            len(chosen),
            amounts,
            Counter(payment.status for payment in chosen),
            Counter(payment.type for payment in chosen),
        )

    async def payment(self, payment_id: str) -> Whole | None:
        payment = self.payments.get(payment_id)
        if payment is None:
            return None
        steps = [step for step in self.steps if step.payment_id == payment_id]
        return payment, self._parties(payment), steps

    async def histories(self, payment_ids: Sequence[str]) -> Sequence[History]:
        wholes = [await self.payment(payment_id) for payment_id in payment_ids]
        return [
            History(payment.id, payment.sender_id, payment.recipient_id, steps)
            for payment, _, steps in filter(None, wholes)
        ]

    async def parties(self, payment_id: str) -> tuple[str, str | None] | None:
        payment = self.payments.get(payment_id)
        return None if payment is None else (payment.sender_id, payment.recipient_id)

    def _parties(self, payment: Payment) -> Parties:
        sender = self.people[payment.sender_id]
        recipient = self.people.get(payment.recipient_id or "")
        return Parties(
            (sender.id, sender.email),
            None if recipient is None else (recipient.id, recipient.email),
        )


class FakeUnit:
    """A transaction of `FakeStore`."""

    def __init__(self, store: FakeStore) -> None:
        self._store = store

    async def claim_key(self, user_id: str, key: str, request_hash: str) -> bool:
        if (user_id, key) in self._store.answers:
            return False
        self._store.answers[user_id, key] = StoredAnswer(request_hash, {})
        return True

    async def stored_answer(self, user_id: str, key: str) -> StoredAnswer | None:
        return await self._store.stored_answer(user_id, key)

    async def store_answer(self, user_id: str, key: str, answer: Mapping[str, Any]) -> None:
        claimed = self._store.answers[user_id, key]
        self._store.answers[user_id, key] = replace(claimed, answer=answer)

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
        now = self._store.now
        payment = Payment(
            id=payment_id,
            sender_id=sender_id,
            recipient_id=recipient_id,
            amount=amount,
            currency=currency,
            status=PaymentStatus.PENDING,
            type=type,
            description=description,
            metadata=metadata,
            psp_transaction_id=None,
            psp_status=None,
            failure_reason=None,
            completed_at=None,
            created_at=now,
            updated_at=now,
        )
        self._note(payment, message)
        return payment

    async def lock_payment(self, payment_id: str) -> Payment | None:
        return self._store.payments.get(payment_id)

    async def set_status(
        self,
        payment: Payment,
        status: PaymentStatus,
        message: str,
        *,
        failure_reason: str | None,
        note: ProviderNote = NO_NOTE,
    ) -> Payment:
        now = self._store.now
        changed = replace(
            payment,
            status=status,
            failure_reason=failure_reason,
            completed_at=now if status is PaymentStatus.COMPLETED else None,
            psp_transaction_id=note.psp_transaction_id or payment.psp_transaction_id,
            psp_status=note.psp_status or payment.psp_status,
            updated_at=now,
        )
        self._note(changed, message, note)
        return changed

    async def edit(self, payment: Payment, message: str) -> Payment:
        written = replace(payment, updated_at=self._store.now)
        self._note(written, message)
        return written

    async def whole(self, payment_id: str) -> Whole | None:
        return await self._store.payment(payment_id)

    async def claim_notice(self, notice: ProviderNotice) -> bool:
        said = (notice.payment_id, notice.status, notice.psp_transaction_id)
        new = said not in self._store.notices
        self._store.notices.add(said)
        return new

    async def put_person(self, person: Person) -> None:
        known = self._store.people.get(person.id)
        if known is None or known.version < person.version:
            self._store.people[person.id] = person

    async def emit(self, fact: Fact) -> str:
        self._store.facts.append(fact)
        return str(uuid.uuid4())

    def _note(self, payment: Payment, message: str, note: ProviderNote = NO_NOTE) -> None:
        self._store.payments[payment.id] = payment
        self._store.steps.append(
            Step(
                str(uuid.uuid4()),
                payment.id,
                payment.status,
                message,
                note.psp_transaction_id,
                note.metadata,
                payment.updated_at,
            )
        )


class FakeDirectory:
    """auth-service's users, which may be away; `meanwhile` happens while it is asked."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], None] = lambda: None
        self.people: dict[str, Person] = {}
        self.away = False
        self.asked = 0

    async def find(self, user_id: str) -> Person | None:
        self._ask()
        return self.people.get(user_id)

    async def find_by_email(self, email: str) -> Person | None:
        self._ask()
        return next((p for p in self.people.values() if p.email == email), None)

    def _ask(self) -> None:
        self.asked += 1
        self.meanwhile()
        if self.away:
            raise DirectoryUnavailable("away")


class FakeCache:
    """A cache that keeps everything until a tag removes it, and notes what was removed."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[Loaded, frozenset[str]]] = {}
        self.removed: list[tuple[str, ...]] = []

    async def read(
        self, entry: Entry, load: Loader, *, bypass: bool = False, admit: Admit | None = None
    ) -> Answer:
        if bypass:
            loaded, outcome = await load(), Outcome.BYPASS
        elif entry.key in self.entries:
            loaded, outcome = self.entries[entry.key][0], Outcome.HIT
        else:
            loaded, outcome = await load(), Outcome.MISS
            self.entries[entry.key] = loaded, frozenset((*entry.tags, *loaded.tags))
        if admit is not None:
            admit(loaded.note)
        return Answer(loaded.body, loaded.note, outcome)

    async def invalidate(self, *tags: str, once: str | None = None) -> None:
        self.removed.append(tags)
        self.entries = {
            key: value for key, value in self.entries.items() if not value[1] & set(tags)
        }
