"""Holds reports and the list of recipients to the contract, with a store in memory."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from system.payments.domain import Actor, ActorRole, Person, report_period
from system.payments.ports import ReportQuery
from system.payments.service.reading import day_or_moment
from system.payments.tests.desk import ADMIN, CUSTOMER, OTHER, VENDOR, Desk, person
from system.payments.tests.fakes import START
from system.platform.cache.answers import Outcome

SELLER = Actor(VENDOR, ActorRole.VENDOR)
DAY = (datetime(2026, 1, 17, tzinfo=UTC), datetime(2026, 1, 17, 23, 59, 59, 999000, UTC))


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def report(desk: Desk, actor: Actor = SELLER, **more: Any) -> dict[str, Any]:
    visible_to = None if actor.is_admin else actor.user_id
    query = ReportQuery(visible_to, *DAY, **more)
    answer = await desk.reads.report(actor, query, fresh=False)
    found: dict[str, Any] = msgspec.json.decode(answer.body)
    return found


async def test_a_report_adds_up(desk: Desk) -> None:
    """Totals by currency, status and type; no total over several currencies (R1.123)."""
    await desk.paid(amount=Decimal("0.10"))
    await desk.paid(amount=Decimal("0.20"))
    await desk.paid(amount=Decimal("5.00"), currency="EUR")

    assert await report(desk) == {
        "totalPayments": 3,
        "totalAmount": None,
        "totalsByCurrency": {"EUR": "5.00", "USD": "0.30"},
        "byStatus": {"pending": 3, "processing": 0, "completed": 0, "failed": 0, "cancelled": 0},
        "byType": {"instant": 3, "scheduled": 0, "recurring": 0},
        "period": {"start": "2026-01-17T00:00:00.000Z", "end": "2026-01-17T23:59:59.999Z"},
    }


async def test_one_currency_has_a_total(desk: Desk) -> None:
    """Whether it is the only one or the one asked for (R1.123)."""
    await desk.paid(amount=Decimal("0.10"))
    assert (await report(desk))["totalAmount"] == "0.10"
    await desk.cache.invalidate("payments", f"user:{VENDOR}")
    await desk.paid(amount=Decimal("5.00"), currency="EUR")

    asked_for = await report(desk, currency="EUR")

    assert (asked_for["totalAmount"], asked_for["totalsByCurrency"]) == ("5.00", {"EUR": "5.00"})


async def test_no_payment_is_nothing(desk: Desk) -> None:
    """R1.123: `"0.00"`, not null."""
    nothing = await report(desk)

    assert (nothing["totalPayments"], nothing["totalAmount"]) == (0, "0.00")
    assert nothing["totalsByCurrency"] == {}


async def test_whose_payments_a_report_counts(desk: Desk) -> None:
    """A VENDOR's own, sent and received; all for ADMIN, in an entry of its own (R6.16)."""
    await desk.paid()
    await desk.paid(recipient_id=OTHER)

    assert (await report(desk))["totalPayments"] == 1
    assert (await report(desk, ADMIN))["totalPayments"] == 2
    assert {key.split(":")[2] for key in desk.cache.entries} == {VENDOR, "admin"}


async def test_a_payment_voids_the_reports_it_is_in(desk: Desk) -> None:
    """Of its parties and of administrators, not those of others (R6.20)."""
    stranger = Actor(OTHER, ActorRole.VENDOR)
    for actor in (SELLER, ADMIN, stranger):
        await report(desk, actor)

    await desk.paid()

    assert {key.split(":")[2] for key in desk.cache.entries} == {OTHER}
    assert (await report(desk, ADMIN))["totalPayments"] == 1


NOW = datetime(2026, 3, 5, 13, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, ("2026-02-03T00:00:00+00:00", "2026-03-05T23:59:59.999000+00:00")),
        (
            None,
            datetime(2026, 1, 31, 8, tzinfo=UTC),
            ("2026-01-01T00:00:00+00:00", "2026-01-31T08:00:00+00:00"),
        ),
        (
            datetime(2026, 3, 1, 8, tzinfo=UTC),
            None,
            ("2026-03-01T08:00:00+00:00", "2026-03-05T23:59:59.999000+00:00"),
        ),
        (
            None,
            datetime(1, 1, 2, tzinfo=UTC),
            ("0001-01-01T00:00:00+00:00", "0001-01-02T00:00:00+00:00"),
        ),
    ],
)
def test_the_default_period(
    start: datetime | None, end: datetime | None, expected: tuple[str, str]
) -> None:
    """The last 30 full UTC days and today (R1.123)."""
    period = report_period(start, end, NOW)

    assert tuple(bound.isoformat() for bound in period) == expected


def test_bounds_that_differ_are_written_differently() -> None:
    """A day is written short only where the bound is the day's own (R6.4, R6.16)."""
    noon = START.replace(hour=12)
    midnight = START.replace(hour=0)

    assert day_or_moment(midnight, time()) == "2026-01-17"
    assert len({day_or_moment(at, time()) for at in (midnight, noon, START)}) == 3


async def test_recipients_are_the_active_others_by_name(desk: Desk) -> None:
    """Without the caller, suspended and deleted users (R1.105)."""
    desk.store.people.clear()
    for known in (
        person(CUSTOMER, "me"),
        person(VENDOR, "zoe"),
        person(OTHER, "ann"),
        person(str(uuid.uuid4()), "sus", "suspended"),
        Person(str(uuid.uuid4()), "x", "gone", "active", 2, deleted_at=START),
    ):
        desk.store.people[known.id] = known

    answer = await desk.reads.recipients(CUSTOMER, fresh=False)

    assert msgspec.json.decode(answer.body) == [
        {"id": OTHER, "email": "ann@x.test", "name": "ann"},
        {"id": VENDOR, "email": "zoe@x.test", "name": "zoe"},
    ]


async def test_recipients_are_kept_for_each_caller(desk: Desk) -> None:
    """Everybody's list lacks somebody else; a change of any user voids all (R6.17, R6.20)."""
    first = [await desk.reads.recipients(user, fresh=False) for user in (CUSTOMER, VENDOR)]
    again = await desk.reads.recipients(CUSTOMER, fresh=False)
    fresh = await desk.reads.recipients(CUSTOMER, fresh=True)
    await desk.cache.invalidate("recipients")
    after = await desk.reads.recipients(CUSTOMER, fresh=False)

    assert [answer.outcome for answer in (*first, again, fresh, after)] == [
        Outcome.MISS,
        Outcome.MISS,
        Outcome.HIT,
        Outcome.BYPASS,
        Outcome.MISS,
    ]
    assert first[0].body != first[1].body
