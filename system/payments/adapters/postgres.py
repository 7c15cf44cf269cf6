"""Keeps payments in payments_db: plain SQL, one query a read, exact decimals."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from system.payments.domain import (
    DELETED_NAME,
    Payment,
    PaymentStatus,
    PaymentType,
    Person,
    Step,
    deleted_email,
)
from system.payments.ports import Fact, ListQuery, Page, Parties, StoredAnswer
from system.platform.database import Database, Transaction
from system.platform.events import outbox
from system.platform.events.envelope import new_event

SOURCE: Final = "payments-service"
# One after the other: two writers that give one e-mail to two users would trip over each other.
_COPY_LOCK: Final = 0x5EA7_0001

_COLUMNS: Final = (
    "id",
    "sender_id",
    "recipient_id",
    "amount",
    "currency",
    "status",
    "type",
    "description",
    "metadata",
    "psp_transaction_id",
    "psp_status",
    "failure_reason",
    "completed_at",
    "created_at",
    "updated_at",
)
_PAYMENT: Final = ", ".join(_COLUMNS)
_WIDTH: Final = len(_COLUMNS)
_P: Final = ", ".join(f"p.{column}" for column in _COLUMNS)
_SORTS: Final = {"createdAt": "created_at", "amount": "amount", "status": "status"}

_FIND: Final = f"""
SELECT {_P}, s.email, r.email,
       t.id, t.status, t.status_message, t.psp_transaction_id, t.metadata, t.created_at
FROM payments p
JOIN users s ON s.id = p.sender_id
LEFT JOIN users r ON r.id = p.recipient_id
LEFT JOIN payment_transactions t ON t.payment_id = p.id
WHERE p.id = $1
ORDER BY t.created_at, t.status, t.id
"""
_ADD: Final = f"""
WITH added AS (
    INSERT INTO payments
        (id, sender_id, recipient_id, amount, currency, type, description, metadata)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING *
), noted AS (
    INSERT INTO payment_transactions (id, payment_id, status, status_message, created_at)
    SELECT $9, id, status, $10, created_at FROM added
)
SELECT {_PAYMENT} FROM added
"""
_SET_STATUS: Final = f"""
WITH changed AS (
    UPDATE payments
    SET status = $2::"PaymentStatus", failure_reason = $3,
        completed_at = CASE WHEN $2::"PaymentStatus" = 'completed' THEN clock_timestamp() END
    WHERE id = $1 RETURNING *
), noted AS (
    INSERT INTO payment_transactions (id, payment_id, status, status_message, created_at)
    SELECT $4, id, status, $5, updated_at FROM changed
)
SELECT {_PAYMENT} FROM changed
"""
_LOCK: Final = f"SELECT {_PAYMENT} FROM payments WHERE id = $1 FOR UPDATE"
_CLAIM: Final = """
INSERT INTO idempotency_keys AS k (user_id, key, request_hash, response)
VALUES ($1, $2, $3, 'null')
ON CONFLICT (user_id, key) DO UPDATE
SET request_hash = excluded.request_hash, response = excluded.response, created_at = now()
WHERE k.created_at < now() - interval '24 hours'
RETURNING true
"""
_ANSWER: Final = """
SELECT request_hash, response FROM idempotency_keys
WHERE user_id = $1 AND key = $2 AND created_at >= now() - interval '24 hours'
"""
_STORE_ANSWER: Final = "UPDATE idempotency_keys SET response = $3 WHERE user_id = $1 AND key = $2"
_FORGET: Final = "DELETE FROM idempotency_keys WHERE created_at < now() - interval '24 hours'"
_PERSON: Final = "SELECT id, email, name, status, version, deleted_at FROM users WHERE "
_DISPLACE: Final = """
UPDATE users SET email = 'unknown-' || id || '@unknown.invalid' WHERE email = $2 AND id <> $1
"""
_PUT: Final = """
INSERT INTO users AS u (id, email, name, status, version, deleted_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE
SET email = excluded.email, name = excluded.name, status = excluded.status,
    version = excluded.version, deleted_at = excluded.deleted_at
"""


class PostgresUnit:
    """`Unit` on a transaction of payments_db."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def claim_key(self, user_id: str, key: str, request_hash: str) -> bool:
        """See `Unit.claim_key`; the primary key makes simultaneous claims wait (R1.114)."""
        return bool(await self._tx.fetchval(_CLAIM, user_id, key, request_hash))

    async def stored_answer(self, user_id: str, key: str) -> StoredAnswer | None:
        """See `Unit.stored_answer`."""
        return _stored(await self._tx.fetchrow(_ANSWER, user_id, key))

    async def store_answer(self, user_id: str, key: str, answer: Mapping[str, Any]) -> None:
        """See `Unit.store_answer`."""
        await self._tx.execute(_STORE_ANSWER, user_id, key, answer)

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
            _ADD,
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
        row = await self._tx.fetchrow(_LOCK, payment_id)
        return None if row is None else _payment(row)

    async def set_status(
        self,
        payment: Payment,
        status: PaymentStatus,
        message: str,
        *,
        failure_reason: str | None,
    ) -> Payment:
        """See `Unit.set_status`."""
        row = await self._tx.fetchrow(
            _SET_STATUS,
            payment.id,
            status.value,
            failure_reason,
            str(uuid.uuid4()),
            message,
            operation="update",
            table="payments",
        )
        return _payment(row)

    async def put_person(self, person: Person) -> None:
        """See `Unit.put_person`; a deleted user stays deleted, and only as an empty shell."""
        await self._tx.fetchval(
            "SELECT pg_advisory_xact_lock($1)", _COPY_LOCK, operation="lock", table="users"
        )
        known = await self._tx.fetchrow(
            "SELECT version, deleted_at FROM users WHERE id = $1", person.id
        )
        if known is not None and (known[0] >= person.version or known[1] is not None):
            return
        gone = person.deleted_at is not None
        email = deleted_email(person.id) if gone else person.email
        # E-mails change hands; who had this one before will get a newer event of its own (R2.22).
        await self._tx.execute(_DISPLACE, person.id, email)
        await self._tx.execute(
            _PUT,
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
        event = new_event(fact.type, dict(fact.data), source=SOURCE, actor_id=fact.actor_id)
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
        return _stored(await self._db.fetchrow(_ANSWER, user_id, key))

    async def forget_old_answers(self) -> None:
        """Delete what was kept for Idempotency-Keys longer than 24 h."""
        await self._db.execute(_FORGET)

    async def person(self, user_id: str) -> Person | None:
        """See `Store.person`."""
        return _person(await self._db.fetchrow(f"{_PERSON}id = $1", user_id))

    async def person_by_email(self, email: str) -> Person | None:
        """See `Store.person_by_email`."""
        return _person(await self._db.fetchrow(f"{_PERSON}email = $1", email))

    async def page(self, query: ListQuery) -> Page:
        """See `Store.page`."""
        filters = {
            "status = ": None if query.status is None else query.status.value,
            "type = ": None if query.type is None else query.type.value,
            "created_at >= ": query.start,
            "created_at <= ": query.end,
            "amount >= ": query.min_amount,
            "amount <= ": query.max_amount,
        }
        present = {condition: value for condition, value in filters.items() if value is not None}
        sql = list_statement(
            _SORTS[query.sort], query.descending, tuple(present), query.visible_to is not None
        )
        whose = () if query.visible_to is None else (query.visible_to,)
        skipped = (query.page - 1) * query.limit
        rows = await self._db.fetch(
            sql,
            query.limit,
            skipped,
            *present.values(),
            *whose,
            operation="select",
            table="payments",
        )
        # The total comes with every row, and with an empty one where the page has none.
        payments = [(_payment(row), _parties(row, _WIDTH)) for row in rows if row["id"] is not None]
        return Page(payments, rows[0]["total"])

    async def payment(self, payment_id: str) -> tuple[Payment, Parties, Sequence[Step]] | None:
        """See `Store.payment`."""
        rows = await self._db.fetch(_FIND, payment_id, operation="select", table="payments")
        if not rows:
            return None
        first = rows[0]
        step = _WIDTH + 2
        steps = [
            Step(
                row[step],
                payment_id,
                PaymentStatus(row[step + 1]),
                row[step + 2],
                row[step + 3],
                row[step + 4],
                row[step + 5],
            )
            for row in rows
            if row[step] is not None
        ]
        return _payment(first), _parties(first, _WIDTH), steps

    async def parties(self, payment_id: str) -> tuple[str, str | None] | None:
        """See `Store.parties`."""
        row = await self._db.fetchrow(
            "SELECT sender_id, recipient_id FROM payments WHERE id = $1", payment_id
        )
        return None if row is None else (row[0], row[1])


@lru_cache(maxsize=2048)
def list_statement(sort: str, descending: bool, conditions: tuple[str, ...], own: bool) -> str:
    """Write the one query of a page: its rows in order, each with the total.

    Parameters are $1 limit, $2 rows to skip, then a value for each condition, then, if `own`, the
    user whose payments these are.  Sent and received ones are two scans in the order of an index
    each, so that a page costs what it shows and not what the user ever paid.

    Args:
        sort: column.
        descending: direction.
        conditions: such as `status = `.
        own: only payments sent or received by one user.
    """
    direction = "DESC" if descending else "ASC"
    order = f"{sort} {direction}, id {direction}"
    where = [f"{condition}${number}" for number, condition in enumerate(conditions, 3)]
    if not own:
        found = f"SELECT {_PAYMENT} FROM payments{_where(where)}"
        total = f"SELECT count(*) FROM payments{_where(where)}"
    else:
        user = f"${len(conditions) + 3}"
        reach = "$1::bigint + $2::bigint"
        sides = [_where([f"{side} = {user}", *where]) for side in ("sender_id", "recipient_id")]
        found = " UNION ALL ".join(
            f"(SELECT {_PAYMENT} FROM payments{side} ORDER BY {order} LIMIT {reach})"
            for side in sides
        )
        found = f"SELECT * FROM ({found}) both_sides"
        total = "SELECT " + " + ".join(f"(SELECT count(*) FROM payments{side})" for side in sides)
    outer_order = f"p.{sort} {direction}, p.id {direction}"
    return (
        f"SELECT {_P}, s.email, r.email, t.total FROM ({total}) t(total) "
        f"LEFT JOIN ({found} ORDER BY {order} LIMIT $1::bigint OFFSET $2::bigint) p ON true "
        "LEFT JOIN users s ON s.id = p.sender_id LEFT JOIN users r ON r.id = p.recipient_id "
        f"ORDER BY {outer_order}"
    )


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


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
    ) = row[:_WIDTH]
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


def _person(row: Any) -> Person | None:
    return None if row is None else Person(*row)


def _stored(row: Any) -> StoredAnswer | None:
    return None if row is None else StoredAnswer(row[0], row[1])
