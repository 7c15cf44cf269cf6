"""Every statement of payments_db as text: one query a read, nothing built from what people send."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from system.payments.ports import ListQuery, ReportQuery

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
WIDTH: Final = len(_COLUMNS)
_P: Final = ", ".join(f"p.{column}" for column in _COLUMNS)
SORTS: Final = {"createdAt": "created_at", "amount": "amount", "status": "status"}

FIND: Final = f"""
SELECT {_P}, s.email, r.email,
       t.id, t.status, t.status_message, t.psp_transaction_id, t.metadata, t.created_at
FROM payments p
JOIN users s ON s.id = p.sender_id
LEFT JOIN users r ON r.id = p.recipient_id
LEFT JOIN payment_transactions t ON t.payment_id = p.id
WHERE p.id = $1
ORDER BY t.created_at, t.status, t.id
"""
# Payments that are asked for by id in one go, each with its sides and its history.
HISTORIES: Final = """
SELECT p.id, p.sender_id, p.recipient_id,
       t.id, t.status, t.status_message, t.psp_transaction_id, t.metadata, t.created_at
FROM payments p
LEFT JOIN payment_transactions t ON t.payment_id = p.id
WHERE p.id = ANY($1::text[])
ORDER BY p.id, t.created_at, t.status, t.id
"""
ADD: Final = f"""
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
SET_STATUS: Final = f"""
WITH changed AS (
    UPDATE payments
    SET status = $2::"PaymentStatus", failure_reason = $3,
        completed_at = CASE WHEN $2::"PaymentStatus" = 'completed' THEN clock_timestamp() END,
        psp_transaction_id = coalesce($6, psp_transaction_id),
        psp_status = coalesce($7, psp_status)
    WHERE id = $1 RETURNING *
), noted AS (
    INSERT INTO payment_transactions
        (id, payment_id, status, status_message, psp_transaction_id, metadata, created_at)
    SELECT $4, id, status, $5, $6, $8, updated_at FROM changed
)
SELECT {_PAYMENT} FROM changed
"""
EDIT: Final = f"""
WITH changed AS (
    UPDATE payments
    SET amount = $2, currency = $3, type = $4, description = $5, recipient_id = $6, metadata = $7
    WHERE id = $1 RETURNING *
), noted AS (
    INSERT INTO payment_transactions (id, payment_id, status, status_message, created_at)
    SELECT $8, id, status, $9, updated_at FROM changed
)
SELECT {_PAYMENT} FROM changed
"""
CLAIM_NOTICE: Final = """
INSERT INTO provider_notices (payment_id, status, psp_transaction_id) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING RETURNING true
"""
LOCK: Final = f"SELECT {_PAYMENT} FROM payments WHERE id = $1 FOR UPDATE"
CLAIM: Final = """
INSERT INTO idempotency_keys AS k (user_id, key, request_hash, response)
VALUES ($1, $2, $3, 'null')
ON CONFLICT (user_id, key) DO UPDATE
SET request_hash = excluded.request_hash, response = excluded.response, created_at = now()
WHERE k.created_at < now() - interval '24 hours'
RETURNING true
"""
ANSWER: Final = """
SELECT request_hash, response FROM idempotency_keys
WHERE user_id = $1 AND key = $2 AND created_at >= now() - interval '24 hours'
"""
STORE_ANSWER: Final = "UPDATE idempotency_keys SET response = $3 WHERE user_id = $1 AND key = $2"
# Answers of Idempotency-Keys whose time is over (R1.114).
FORGET: Final = "DELETE FROM idempotency_keys WHERE created_at < now() - interval '24 hours'"
PERSON: Final = "SELECT id, email, name, status, version, deleted_at FROM users WHERE "
HOLDER: Final = "SELECT id FROM users WHERE email = $2 AND id <> $1"
DISPLACE: Final = "UPDATE users SET email = $2 WHERE id = $1"
PUT: Final = """
INSERT INTO users AS u (id, email, name, status, version, deleted_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE
SET email = excluded.email, name = excluded.name, status = excluded.status,
    version = excluded.version, deleted_at = excluded.deleted_at
"""


# Whom one can pay (R1.105); served by users_payable_idx.
PAYABLE: Final = f"""{PERSON}
status = 'active' AND deleted_at IS NULL AND id <> $1 ORDER BY name, id
"""


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
        sides = [_where([side, *where]) for side in _sides(user)]
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


def page_of(query: ListQuery) -> tuple[str, tuple[Any, ...]]:
    """Return the statement of a page and its arguments."""
    filters = {
        "status = ": None if query.status is None else query.status.value,
        "type = ": None if query.type is None else query.type.value,
        "created_at >= ": query.start,
        "created_at <= ": query.end,
        "amount >= ": query.min_amount,
        "amount <= ": query.max_amount,
    }
    present = {condition: value for condition, value in filters.items() if value is not None}
    statement = list_statement(
        SORTS[query.sort], query.descending, tuple(present), query.visible_to is not None
    )
    whose = () if query.visible_to is None else (query.visible_to,)
    skipped = (query.page - 1) * query.limit
    return statement, (query.limit, skipped, *present.values(), *whose)


def totals_of(query: ReportQuery) -> tuple[str, tuple[Any, ...]]:
    """Return the statement of a report and its arguments."""
    statement = totals_statement(query.visible_to is not None, query.currency is not None)
    chosen = (query.currency, query.visible_to)
    return statement, (query.start, query.end, *(value for value in chosen if value is not None))


# What `grouping(currency, status, type)` says of a row of totals.
ALL_TOTAL: Final = 0b111
CURRENCY_TOTAL: Final = 0b011
STATUS_TOTAL: Final = 0b101
TYPE_TOTAL: Final = 0b110


@lru_cache(maxsize=4)
def totals_statement(own: bool, one_currency: bool) -> str:
    """Write the one query of a report: totals of all, by currency, by status and by type.

    Parameters are $1 start and $2 end, then, if `one_currency`, the currency, then, if `own`, the
    user whose payments these are.
    """
    where = ["created_at >= $1", "created_at <= $2"]
    if one_currency:
        where.append("currency = $3")
    chosen = [[*where]]
    if own:
        chosen = [[side, *where] for side in _sides(f"${len(where) + 1}")]
    counted = " UNION ALL ".join(
        f"SELECT amount, currency, status, type FROM payments{_where(conditions)}"
        for conditions in chosen
    )
    return (
        "SELECT grouping(currency, status, type) AS part, currency, status, type, "
        f"count(*) AS payments, sum(amount) AS amount FROM ({counted}) counted "
        "GROUP BY GROUPING SETS ((), (currency), (status), (type))"
    )


def _sides(user: str) -> tuple[str, str]:
    """Conditions of the payments a user sent, and of those received; no payment is in both."""
    return f"sender_id = {user}", f"recipient_id = {user} AND sender_id <> {user}"


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""
