"""Keeps payments in payments_db: plain SQL, one query a read, exact decimals."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import groupby
from typing import Any, Final

from system.payments.adapters import statements as sql
from system.payments.domain import (
    DELETED_NAME,
    Payment,
    PaymentStatus,
    PaymentType,
    Person,
    ProviderNotice,
    Step,
    deleted_email,
    displaced_email,
)
from system.payments.ports import (
    NO_NOTE,
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
from system.platform.database import Database, Transaction
from system.platform.events import outbox
from system.platform.events.envelope import new_event

SOURCE: Final = "payments-service"
PROVIDER: Final = "psp"
# One after the other: two writers that give one e-mail to two users would trip over each other.
_COPY_LOCK: Final = 0x5EA7_0001


class PostgresUnit:
    """`Unit` on a transaction of payments_db."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def claim_key(self, user_id: str, key: str, request_hash: str) -> bool:
        """See `Unit.claim_key`; the primary key makes simultaneous claims wait (R1.114)."""
        return bool(await self._tx.fetchval(sql.CLAIM, user_id, key, request_hash))

    async def stored_answer(self, user_id: str, key: str) -> StoredAnswer | None:
        """See `Unit.stored_answer`."""
        return _stored(await self._tx.fetchrow(sql.ANSWER, user_id, key))

    async def store_answer(self, user_id: str, key: str, answer: Mapping[str, Any]) -> None:
        """See `Unit.store_answer`."""
        await self._tx.execute(sql.STORE_ANSWER, user_id, key, answer)

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
        """See `Unit.add_payment`."""
        row = await self._tx.fetchrow(
            sql.ADD,
            payment_id,
            sender_id,
            recipient_id,
            amount,
            currency,
            type.value,
            description,
            metadata,
            str(uuid.uuid4()),
            message,
            operation="insert",
            table="payments",
        )
        return _payment(row)

    async def lock_payment(self, payment_id: str) -> Payment | None:
        """See `Unit.lock_payment`."""
        row = await self._tx.fetchrow(sql.LOCK, payment_id)
        return None if row is None else _payment(row)

    async def set_status(
        self,
        payment: Payment,
        status: PaymentStatus,
        message: str,
        *,
        failure_reason: str | None,
        note: ProviderNote = NO_NOTE,
    ) -> Payment:
        """See `Unit.set_status`."""
        row = await self._tx.fetchrow(
            sql.SET_STATUS,
            payment.id,
            status.value,
            failure_reason,
            str(uuid.uuid4()),
            message,
            note.psp_transaction_id,
            note.psp_status,
            note.metadata,
            operation="update",
            table="payments",
        )
        return _payment(row)

    async def edit(self, payment: Payment, message: str) -> Payment:
        """See `Unit.edit`."""
        row = await self._tx.fetchrow(
            sql.EDIT,
            payment.id,
            payment.amount,
            payment.currency,
            payment.type.value,
            payment.description,
            payment.recipient_id,
            payment.metadata,
            str(uuid.uuid4()),
            message,
            operation="update",
            table="payments",
        )
        return _payment(row)

    async def whole(self, payment_id: str) -> Whole | None:
        """See `Unit.whole`."""
        rows = await self._tx.fetch(sql.FIND, payment_id, operation="select", table="payments")
        return _whole(rows)

    async def claim_notice(self, notice: ProviderNotice) -> bool:
        """See `Unit.claim_notice`."""
        claimed = await self._tx.fetchval(
            sql.CLAIM_NOTICE, notice.payment_id, notice.status.value, notice.psp_transaction_id
        )
        return bool(claimed)

    async def put_person(self, person: Person) -> None:
        """See `Unit.put_person`; a deleted user stays deleted, and only as an empty shell."""
        await self._tx.fetchval(
            "SELECT pg_advisory_xact_lock($1)", _COPY_LOCK, operation="lock", table="users"
        )
        known = _person(await self._tx.fetchrow(f"{sql.PERSON}id = $1", person.id))
        if known is not None and not _replaces(person, known):
            return
        gone = person.deleted_at is not None
        email = deleted_email(person.id) if gone else person.email
        # E-mails change hands; who had this one before will get a newer event of its own (R2.22).
        holder = await self._tx.fetchval(sql.HOLDER, person.id, email)
        if holder is not None:
            await self._tx.execute(sql.DISPLACE, holder, displaced_email(holder))
        await self._tx.execute(
            sql.PUT,
            person.id,
            email,
            DELETED_NAME if gone else person.name,
            person.status,
            person.version,
            person.deleted_at,
            operation="insert",
            table="users",
        )

    async def emit(self, fact: Fact) -> str:
        """See `Unit.emit`."""
        # Whoever acts without an id is the payment provider (R3.41).
        named = {"actor": PROVIDER} if fact.actor_id is None else {}
        event = new_event(
            fact.type, dict(fact.data), source=SOURCE, actor_id=fact.actor_id, **named
        )
        await outbox.add(self._tx, event)
        return event.id


class PostgresStore:
    """`Store` on payments_db."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresUnit]:
        """See `Store.transaction`."""
        async with self._db.transaction() as tx:
            yield PostgresUnit(tx)

    async def stored_answer(self, user_id: str, key: str) -> StoredAnswer | None:
        """See `Store.stored_answer`."""
        return _stored(await self._db.fetchrow(sql.ANSWER, user_id, key))

    async def person(self, user_id: str) -> Person | None:
        """See `Store.person`."""
        return _person(await self._db.fetchrow(f"{sql.PERSON}id = $1", user_id))

    async def person_by_email(self, email: str) -> Person | None:
        """See `Store.person_by_email`."""
        return _person(await self._db.fetchrow(f"{sql.PERSON}email = $1", email))

    async def page(self, query: ListQuery) -> Page:
        """See `Store.page`."""
        statement, arguments = sql.page_of(query)
        rows = await self._db.fetch(statement, *arguments, operation="select", table="payments")
        # The total comes with every row, and with an empty one where the page has none.
        payments = [
            (_payment(row), _parties(row, sql.WIDTH)) for row in rows if row["id"] is not None
        ]
        return Page(payments, rows[0]["total"])

    async def payment(self, payment_id: str) -> Whole | None:
        """See `Store.payment`."""
        return _whole(
            await self._db.fetch(sql.FIND, payment_id, operation="select", table="payments")
        )

    async def histories(self, payment_ids: Sequence[str]) -> Sequence[History]:
        """See `Store.histories`."""
        rows = await self._db.fetch(
            sql.HISTORIES, list(payment_ids), operation="select", table="payment_transactions"
        )
        return [
            History(*sides, _steps(sides[0], own, 3))
            for sides, own in groupby(rows, lambda row: (row[0], row[1], row[2]))
        ]

    async def payable(self, but: str) -> Sequence[Person]:
        """See `Store.payable`."""
        rows = await self._db.fetch(sql.PAYABLE, but)
        return [Person(*row) for row in rows]

    async def totals(self, query: ReportQuery) -> Totals:
        """See `Store.totals`."""
        statement, arguments = sql.totals_of(query)
        rows = await self._db.fetch(statement, *arguments, operation="select", table="payments")
        by: dict[int, list[Any]] = {}
        for row in rows:
            by.setdefault(row["part"], []).append(row)
        return Totals(
            payments=by[sql.ALL_TOTAL][0]["payments"],
            amounts={row["currency"]: row["amount"] for row in by.get(sql.CURRENCY_TOTAL, ())},
            by_status={
                _STATUS[row["status"]]: row["payments"] for row in by.get(sql.STATUS_TOTAL, ())
            },
            by_type={_TYPE[row["type"]]: row["payments"] for row in by.get(sql.TYPE_TOTAL, ())},
        )

    async def parties(self, payment_id: str) -> tuple[str, str | None] | None:
        """See `Store.parties`."""
        row = await self._db.fetchrow(
            "SELECT sender_id, recipient_id FROM payments WHERE id = $1", payment_id
        )
        return None if row is None else (row[0], row[1])


def _payment(row: Any) -> Payment:
    (
        id_,
        sender_id,
        recipient_id,
        amount,
        currency,
        status,
        type_,
        *others,
    ) = row[: sql.WIDTH]
    return Payment(
        id_, sender_id, recipient_id, amount, currency, _STATUS[status], _TYPE[type_], *others
    )


# Quicker than calling the enum, twenty times a page.
_STATUS: Final = {status.value: status for status in PaymentStatus}
_TYPE: Final = {type.value: type for type in PaymentType}


def _parties(row: Any, at: int) -> Parties:
    recipient_id = row["recipient_id"]
    return Parties(
        (row["sender_id"], row[at]),
        None if recipient_id is None else (recipient_id, row[at + 1]),
    )


def _whole(rows: Sequence[Any]) -> Whole | None:
    if not rows:
        return None
    payment = _payment(rows[0])
    return payment, _parties(rows[0], sql.WIDTH), _steps(payment.id, rows, sql.WIDTH + 2)


def _steps(payment_id: str, rows: Iterable[Any], at: int) -> list[Step]:
    return [
        Step(
            row[at],
            payment_id,
            PaymentStatus(row[at + 1]),
            row[at + 2],
            row[at + 3],
            row[at + 4],
            row[at + 5],
        )
        for row in rows
        if row[at] is not None
    ]


def _replaces(person: Person, known: Person) -> bool:
    """Whether a version of a user belongs in the copy in place of the known one (R2.21)."""
    if known.deleted_at is not None:
        return False
    # The same version again gives back the e-mail of one who was displaced too early.
    displaced = known.email == displaced_email(known.id)
    return person.version > known.version or (displaced and person.version == known.version)


def _person(row: Any) -> Person | None:
    return None if row is None else Person(*row)


def _stored(row: Any) -> StoredAnswer | None:
    return None if row is None else StoredAnswer(row[0], row[1])
