"""Holds the use cases of payments to the contract, with a store in memory."""

from __future__ import annotations

import asyncio
import uuid
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from system.payments.domain import Actor, ActorRole, PaymentStatus, PaymentType, Person
from system.payments.ports import ListQuery
from system.payments.service.reading import normal_form
from system.payments.tests.desk import ADMIN, CUSTOMER, OTHER, VENDOR, Desk, draft, person, refused
from system.payments.tests.fakes import START
from system.platform.cache.answers import Outcome
from system.platform.events import catalogue
from system.platform.http.errors import ApiError


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_create_makes_payment_history_and_event(desk: Desk) -> None:
    """Create answers the payment with its parties; history and event are written (R1.113)."""
    created = await desk.commands.create(CUSTOMER, draft(), None)

    data = created.data
    assert (data["amount"], data["status"], data["type"]) == ("100.50", "pending", "instant")
    assert data["sender"] == {"id": CUSTOMER, "email": "c@x.test"}
    assert data["recipient"] == {"id": VENDOR, "email": "v@x.test"}
    assert [step.message for step in desk.store.steps] == ["Payment created"]
    (fact,) = desk.store.facts
    assert (fact.type, fact.actor_id) == ("payment.created", CUSTOMER)
    assert not catalogue.faults(catalogue.KINDS[fact.type], dict(fact.data))
    assert fact.data["amount"] == "100.50"


async def test_create_forgets_what_it_touches(desk: Desk) -> None:
    """Lists of both parties and of administrators are void before the answer (R6.20)."""
    payment_id = await desk.paid()

    assert desk.cache.removed == [
        (f"payment:{payment_id}", f"user:{CUSTOMER}", f"user:{VENDOR}", "payments")
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"recipient_id": CUSTOMER}, (400, "SELF_PAYMENT_NOT_ALLOWED")),
        (
            {"recipient_id": None, "recipient_email": "c@x.test"},
            (400, "SELF_PAYMENT_NOT_ALLOWED"),
        ),
        ({"recipient_id": str(uuid.uuid4())}, (404, "RECIPIENT_NOT_FOUND")),
        ({"recipient_id": None, "recipient_email": "n@x.test"}, (404, "RECIPIENT_NOT_FOUND")),
    ],
)
async def test_create_refuses_recipients(
    desk: Desk, changes: dict[str, Any], expected: tuple[int, str]
) -> None:
    """Oneself and unknown users cannot be paid, by id or by e-mail; nothing is written."""
    with pytest.raises(ApiError) as error:
        await desk.commands.create(CUSTOMER, draft(**changes), None)

    assert refused(error) == expected
    assert not desk.store.payments
    assert not desk.store.facts


async def test_suspended_recipient_is_not_found(desk: Desk) -> None:
    """A suspended user is no recipient (R1.112)."""
    desk.store.people[VENDOR] = person(VENDOR, "v", "suspended")

    with pytest.raises(ApiError) as error:
        await desk.paid()

    assert refused(error) == (404, "RECIPIENT_NOT_FOUND")


async def test_deleted_recipient_is_not_found(desk: Desk) -> None:
    """A deleted user is no recipient, and auth-service need not be asked (R1.112)."""
    desk.store.people[VENDOR] = Person(VENDOR, "gone", "gone", "active", 2, deleted_at=START)

    with pytest.raises(ApiError) as error:
        await desk.paid()

    assert refused(error) == (404, "RECIPIENT_NOT_FOUND")
    assert desk.directory.asked == 0


async def test_id_wins_over_email(desk: Desk) -> None:
    """With both given the id says who is paid (R1.111)."""
    payment_id = await desk.paid(recipient_email="o@x.test")

    assert desk.store.payments[payment_id].recipient_id == VENDOR


@pytest.mark.parametrize("by", ["id", "email"])
async def test_a_recipient_registered_a_moment_before_is_found(desk: Desk, by: str) -> None:
    """A user the copy lacks is fetched from auth-service and kept (R1.112, R2.21)."""
    newcomer = person(str(uuid.uuid4()), "new")
    desk.directory.people[newcomer.id] = newcomer
    named: dict[str, Any] = (
        {"recipient_id": newcomer.id}
        if by == "id"
        else {"recipient_id": None, "recipient_email": newcomer.email}
    )

    await desk.paid(**named)

    assert desk.store.people[newcomer.id] == newcomer


async def test_a_sender_the_copy_lacks_is_fetched(desk: Desk) -> None:
    """A new user can pay before the event about the account has arrived (R2.21)."""
    newcomer = person(str(uuid.uuid4()), "new")
    desk.directory.people[newcomer.id] = newcomer

    created = await desk.commands.create(newcomer.id, draft(), None)

    assert created.data["sender"]["email"] == "new@x.test"


async def test_undecidable_recipient_is_503(desk: Desk) -> None:
    """Neither copy nor auth-service can tell: 503, and no payment (R1.112)."""
    desk.directory.away = True

    with pytest.raises(ApiError) as error:
        await desk.paid(recipient_id=str(uuid.uuid4()))

    assert refused(error) == (503, "SERVICE_UNAVAILABLE")
    assert error.value.headers["Retry-After"]


async def test_known_recipient_needs_no_auth_service(desk: Desk) -> None:
    """With auth-service away a payment to a known user succeeds (R0.12)."""
    desk.directory.away = True

    assert await desk.paid()


async def test_same_key_and_body_replays(desk: Desk) -> None:
    """The second request gets the stored answer and has no effect (R1.114)."""
    first = await desk.commands.create(CUSTOMER, draft(), "k")
    second = await desk.commands.create(CUSTOMER, draft(), "k")

    assert (first.replayed, second.replayed) == (False, True)
    assert second.data == first.data
    assert len(desk.store.payments) == len(desk.store.facts) == 1


async def test_same_key_other_body_is_409(desk: Desk) -> None:
    """Another body under the same key is refused (R1.114)."""
    await desk.commands.create(CUSTOMER, draft(), "k")

    with pytest.raises(ApiError) as error:
        await desk.commands.create(CUSTOMER, draft(amount=Decimal("100.51")), "k")

    assert refused(error) == (409, "IDEMPOTENCY_KEY_REUSED")


async def test_keys_belong_to_users(desk: Desk) -> None:
    """The same key of another user is another key (R1.114)."""
    await desk.commands.create(CUSTOMER, draft(), "k")

    other = await desk.commands.create(OTHER, draft(), "k")

    assert not other.replayed


async def test_a_failure_is_not_stored(desk: Desk) -> None:
    """A refused request leaves its key free (R1.114)."""
    unknown = draft(recipient_id=str(uuid.uuid4()))
    with pytest.raises(ApiError):
        await desk.commands.create(CUSTOMER, unknown, "k")

    assert not (await desk.commands.create(CUSTOMER, draft(), "k")).replayed


async def test_simultaneous_requests_with_one_key_pay_once(desk: Desk) -> None:
    """Of simultaneous requests with one key one pays, all get the same answer (R1.114)."""
    outcomes = await asyncio.gather(
        *(desk.commands.create(CUSTOMER, draft(), "k") for _ in range(10))
    )

    assert len(desk.store.payments) == 1
    assert len({outcome.data["id"] for outcome in outcomes}) == 1
    assert [outcome.replayed for outcome in outcomes].count(False) == 1


async def change(
    desk: Desk, payment_id: str, to: str, actor: Actor = ADMIN, reason: str | None = None
) -> dict[str, Any]:
    return dict(await desk.changes.change_status(actor, payment_id, PaymentStatus(to), reason))


@pytest.mark.parametrize(
    ("path", "reason", "event", "member", "message"),
    [
        (["processing"], None, "payment.updated", "changes", "Payment processing"),
        (
            ["processing", "completed"],
            None,
            "payment.completed",
            "completedAt",
            "Payment completed",
        ),
        (["processing", "failed"], "no funds", "payment.failed", "failedAt", "no funds"),
        (["processing", "failed"], None, "payment.failed", "failedAt", "Payment failed"),
        (["cancelled"], "mistake", "payment.cancelled", "cancelReason", "mistake"),
        (["cancelled"], None, "payment.cancelled", "cancelledAt", "Payment cancelled"),
    ],
)
async def test_a_change_writes_history_and_event(
    desk: Desk, path: list[str], reason: str | None, event: str, member: str, message: str
) -> None:
    """Each change adds one row and one event, which keeps the catalogue's rule (R1.119)."""
    payment_id = await desk.paid()
    for status in path[:-1]:
        await change(desk, payment_id, status)
    rows, events = len(desk.store.steps), len(desk.store.facts)

    data = await change(desk, payment_id, path[-1], reason=reason)

    assert data["status"] == path[-1]
    assert (data["completedAt"] is not None) is (path[-1] == "completed")
    assert data["failureReason"] == ((reason or "Payment failed") if path[-1] == "failed" else None)
    assert "sender" not in data
    assert [step.message for step in desk.store.steps[rows:]] == [message]
    (fact,) = desk.store.facts[events:]
    assert (fact.type, fact.actor_id) == (event, ADMIN.user_id)
    assert member in fact.data
    assert not catalogue.faults(catalogue.KINDS[fact.type], dict(fact.data))


@pytest.mark.parametrize(
    ("actor", "to", "expected"),
    [
        (Actor(CUSTOMER, ActorRole.CUSTOMER), "processing", (403, "FORBIDDEN")),
        (Actor(VENDOR, ActorRole.VENDOR), "cancelled", (403, "FORBIDDEN")),
        (Actor(OTHER, ActorRole.CUSTOMER), "cancelled", (403, "FORBIDDEN")),
        (ADMIN, "completed", (409, "INVALID_STATUS_TRANSITION")),
        (ADMIN, "pending", (409, "INVALID_STATUS_TRANSITION")),
    ],
)
async def test_refused_changes_change_nothing(
    desk: Desk, actor: Actor, to: str, expected: tuple[int, str]
) -> None:
    """A change that is not allowed leaves payment, history and events as they were (R1.115)."""
    payment_id = await desk.paid()

    with pytest.raises(ApiError) as error:
        await change(desk, payment_id, to, actor)

    assert refused(error) == expected
    if expected[0] == 409:
        assert error.value.details == {"from": "pending", "to": to}
    assert desk.store.payments[payment_id].status is PaymentStatus.PENDING
    assert len(desk.store.steps) == len(desk.store.facts) == 1


async def test_changing_an_unknown_payment_is_404(desk: Desk) -> None:
    """Existence is judged before ownership (R1.17)."""
    with pytest.raises(ApiError) as error:
        await change(desk, str(uuid.uuid4()), "cancelled", Actor(OTHER, ActorRole.CUSTOMER))

    assert refused(error) == (404, "PAYMENT_NOT_FOUND")


async def test_a_payment_is_judged_for_each_reader(desk: Desk) -> None:
    """One entry serves all who may see it, and refuses others, also from the cache (R6.4)."""
    payment_id = await desk.paid()
    sender = Actor(CUSTOMER, ActorRole.CUSTOMER)
    recipient = Actor(VENDOR, ActorRole.VENDOR)
    stranger = Actor(OTHER, ActorRole.CUSTOMER)

    first = await desk.reads.payment(sender, payment_id, fresh=False)
    second = await desk.reads.payment(recipient, payment_id, fresh=False)
    with pytest.raises(ApiError) as error:
        await desk.reads.payment(stranger, payment_id, fresh=False)

    assert (first.outcome, second.outcome) == (Outcome.MISS, Outcome.HIT)
    assert refused(error) == (403, "FORBIDDEN")
    shown = msgspec.json.decode(second.body)
    assert [step["statusMessage"] for step in shown["transactions"]] == ["Payment created"]


async def test_a_page_tells_how_many_there_are(desk: Desk) -> None:
    """Pagination counts all payments the reader may see (R1.104)."""
    for _ in range(5):
        await desk.paid()

    answer = await desk.reads.page(
        Actor(CUSTOMER, ActorRole.CUSTOMER),
        ListQuery(visible_to=CUSTOMER, page=3, limit=2),
        fresh=False,
    )

    shown = msgspec.json.decode(answer.body)
    assert shown["pagination"] == {"page": 3, "limit": 2, "total": 5, "totalPages": 3}
    assert len(shown["payments"]) == 1


async def test_a_renamed_party_voids_the_lists_that_show_it(desk: Desk) -> None:
    """A list shows e-mails of others, so their changes void it too (R6.6)."""
    await desk.paid()
    actor = Actor(CUSTOMER, ActorRole.CUSTOMER)
    query = ListQuery(visible_to=CUSTOMER)
    await desk.reads.page(actor, query, fresh=False)

    await desk.cache.invalidate(f"party:{VENDOR}")

    assert (await desk.reads.page(actor, query, fresh=False)).outcome is Outcome.MISS


BASE = ListQuery(visible_to=None)
VARIANTS: list[dict[str, Any]] = [
    {"page": 2},
    {"limit": 20},
    {"sort": "amount"},
    {"descending": False},
    {"status": PaymentStatus.PENDING},
    {"type": PaymentType.INSTANT},
    {"start": START},
    {"end": START},
    {"min_amount": Decimal("1.00")},
    {"max_amount": Decimal("1.00")},
]


def test_each_parameter_is_in_the_key() -> None:
    """Two lists that can differ never share an entry (R6.4)."""
    forms = [normal_form(BASE)] + [
        normal_form(ListQuery(visible_to=None, **variant)) for variant in VARIANTS
    ]

    assert len(set(forms)) == len(forms)
