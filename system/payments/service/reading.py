"""Answers reads of payments, from the cache where it may, as bytes ready to be sent (R6.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time
from typing import Any, Final, Protocol

import msgspec

from system.payments.domain import DAY_ENDS, DAY_STARTS, Actor, Payment, may_see
from system.payments.ports import ListQuery, ReportQuery, Store
from system.payments.service import shape
from system.payments.service.refusals import payment_not_found
from system.platform.cache import keys
from system.platform.cache.answers import Admit, Answer, Loaded, Loader
from system.platform.http import errors

_encode: Final = msgspec.json.Encoder().encode


class Readable(Protocol):
    """The side of the cache that reads use."""

    async def read(
        self, entry: keys.Entry, load: Loader, *, bypass: bool = False, admit: Admit | None = None
    ) -> Answer:
        """Answer from the cache, or load and store."""


class PaymentReads:
    """The reading use cases.

    Args:
        store: payments_db.
        cache: keeps answers.
    """

    def __init__(self, store: Store, cache: Readable) -> None:
        self._store = store
        self._cache = cache

    async def page(self, actor: Actor, query: ListQuery, *, fresh: bool) -> Answer:
        """A page of payments that the actor may see (R1.104, R1.103)."""

        async def load() -> Loaded:
            page = await self._store.page(query)
            shown = [shape.with_parties(payment, parties) for payment, parties in page.payments]
            body = {
                "payments": shown,
                "pagination": {
                    "page": query.page,
                    "limit": query.limit,
                    "total": page.total,
                    "totalPages": -(-page.total // query.limit),
                },
            }
            people = {person: None for payment, _ in page.payments for person in _people(payment)}
            return Loaded(_encode(body), tuple(keys.party_tag(person) for person in people))

        assert actor.user_id is not None, "only users read"
        entry = keys.payment_list(actor.user_id, actor.is_admin, normal_form(query))
        return await self._cache.read(entry, load, bypass=fresh)

    async def payment(self, actor: Actor, payment_id: str, *, fresh: bool) -> Answer:
        """A payment with relations (R1.107); the entry is everybody's, so it is judged each time.

        Raises:
            ApiError: 404 PAYMENT_NOT_FOUND; 403 FORBIDDEN.
        """

        async def load() -> Loaded:
            found = await self._store.payment(payment_id)
            if found is None:
                raise payment_not_found()
            payment, parties, steps = found
            people = _people(payment)
            return Loaded(
                _encode(shape.with_history(payment, parties, steps)),
                tuple(keys.user_tag(person) for person in people),
                " ".join(people).encode(),
            )

        def admit(note: bytes) -> None:
            sender_id, _, recipient_id = note.decode().partition(" ")
            if not may_see(actor, sender_id, recipient_id or None):
                raise errors.forbidden()

        return await self._cache.read(keys.payment(payment_id), load, bypass=fresh, admit=admit)

    async def recipients(self, user_id: str, *, fresh: bool) -> Answer:
        """Whom a user can pay, by name (R1.105)."""

        async def load() -> Loaded:
            people = await self._store.payable(user_id)
            return Loaded(_encode([shape.recipient_json(person) for person in people]))

        return await self._cache.read(keys.recipients(user_id), load, bypass=fresh)

    async def report(self, actor: Actor, query: ReportQuery, *, fresh: bool) -> Answer:
        """What the payments of a period add up to (R1.123)."""

        async def load() -> Loaded:
            return Loaded(_encode(shape.report_json(query, await self._store.totals(query))))

        assert actor.user_id is not None, "only users read"
        start, end = day_or_moment(query.start, DAY_STARTS), day_or_moment(query.end, DAY_ENDS)
        entry = keys.payment_report(actor.user_id, actor.is_admin, start, end, query.currency or "")
        return await self._cache.read(entry, load, bypass=fresh)

    async def histories(self, actor: Actor, payment_ids: Sequence[str]) -> Mapping[str, Any]:
        """The transactions of many payments by id; what the actor may not see is left out."""
        found = await self._store.histories(payment_ids)
        return {
            history.payment_id: shape.history_json(history.steps)
            for history in found
            if may_see(actor, history.sender_id, history.recipient_id)
        }

    async def parties(self, payment_id: str) -> tuple[str, str | None]:
        """Sender and recipient, for who may hear of a payment (R4.20).

        Raises:
            ApiError: 404 PAYMENT_NOT_FOUND.
        """
        found = await self._store.parties(payment_id)
        if found is None:
            raise payment_not_found()
        return found


def normal_form(query: ListQuery) -> str:
    """Write all that the answer depends on, besides the viewer; equal only if equal (R6.4)."""
    return "|".join(
        (
            str(query.page),
            str(query.limit),
            query.sort,
            "desc" if query.descending else "asc",
            query.status or "",
            query.type or "",
            "" if query.start is None else query.start.isoformat(),
            "" if query.end is None else query.end.isoformat(),
            "" if query.min_amount is None else str(query.min_amount),
            "" if query.max_amount is None else str(query.max_amount),
        )
    )


def day_or_moment(bound: datetime, whole: time) -> str:
    """Write a bound of a report: the day alone where it is the day's own bound (R6.16)."""
    return bound.date().isoformat() if bound.time() == whole else bound.isoformat()


def _people(payment: Payment) -> tuple[str, ...]:
    recipient_id = payment.recipient_id
    return (payment.sender_id,) if recipient_id is None else (payment.sender_id, recipient_id)
