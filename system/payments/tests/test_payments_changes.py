"""Holds edits and the provider's notices to the contract, with a store in memory."""

from __future__ import annotations

import uuid
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from system.payments.domain import (
    Actor,
    ActorRole,
    Edit,
    PaymentStatus,
    PaymentType,
    ProviderNotice,
)
from system.payments.tests.desk import ADMIN, CUSTOMER, OTHER, VENDOR, Desk, person, refused
from system.platform.events import catalogue
from system.platform.http.errors import ApiError

SENDER = Actor(CUSTOMER, ActorRole.CUSTOMER)


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_an_edit_changes_what_it_names(desk: Desk) -> None:
    """Members named are replaced, others stay; the answer has relations and history (R1.116)."""
    payment_id = await desk.paid(metadata={"a": 1, "b": 2})

    shown = await desk.changes.edit(
        SENDER,
        payment_id,
        Edit(amount=Decimal("7.00"), type=PaymentType.RECURRING, metadata={"c": 3}, description=""),
    )

    assert (shown["amount"], shown["currency"], shown["type"]) == ("7.00", "USD", "recurring")
    assert (shown["metadata"], shown["description"]) == ({"c": 3}, "")
    assert shown["recipient"] == {"id": VENDOR, "email": "v@x.test"}
    assert [step["statusMessage"] for step in shown["transactions"]] == [
        "Payment created",
        "Payment updated",
    ]


async def test_an_edit_emits_one_event(desk: Desk) -> None:
    """`payment.updated` names what differs now, and no former recipient if he stays (R3.35)."""
    payment_id = await desk.paid()

    await desk.changes.edit(SENDER, payment_id, Edit(amount=Decimal("7.00"), currency="USD"))

    fact = desk.store.facts[-1]
    assert (fact.type, fact.actor_id) == ("payment.updated", CUSTOMER)
    assert (fact.data["changes"], fact.data["status"]) == (["amount"], "pending")
    assert "previousRecipientId" not in fact.data
    assert not catalogue.faults(catalogue.KINDS[fact.type], dict(fact.data))


@pytest.mark.parametrize("by", ["id", "email"])
async def test_a_new_recipient_is_told_with_the_former(desk: Desk, by: str) -> None:
    """The event names both, and the cache forgets what all three see (R3.35, R6.20)."""
    payment_id = await desk.paid()
    edit = Edit(recipient_id=OTHER) if by == "id" else Edit(recipient_email="o@x.test")

    shown = await desk.changes.edit(SENDER, payment_id, edit)

    assert shown["recipient"] == {"id": OTHER, "email": "o@x.test"}
    data = desk.store.facts[-1].data
    assert (data["recipientId"], data["previousRecipientId"]) == (OTHER, VENDOR)
    assert data["changes"] == ["recipientId"]
    assert desk.cache.removed[-1] == (
        f"payment:{payment_id}",
        f"user:{CUSTOMER}",
        f"user:{OTHER}",
        f"user:{VENDOR}",
        "payments",
    )


@pytest.mark.parametrize(
    ("actor", "edit", "expected"),
    [
        (Actor(VENDOR, ActorRole.VENDOR), Edit(currency="EUR"), (403, "FORBIDDEN")),
        (Actor(OTHER, ActorRole.CUSTOMER), Edit(recipient_id="nobody"), (403, "FORBIDDEN")),
        (SENDER, Edit(recipient_id=CUSTOMER), (400, "SELF_PAYMENT_NOT_ALLOWED")),
        (SENDER, Edit(recipient_email="c@x.test"), (400, "SELF_PAYMENT_NOT_ALLOWED")),
        (ADMIN, Edit(recipient_id=CUSTOMER), (400, "SELF_PAYMENT_NOT_ALLOWED")),
        (SENDER, Edit(recipient_id="nobody"), (404, "RECIPIENT_NOT_FOUND")),
        (SENDER, Edit(currency="JPY"), (400, "VALIDATION_ERROR")),
    ],
)
async def test_refused_edits_change_nothing(
    desk: Desk, actor: Actor, edit: Edit, expected: tuple[int, str]
) -> None:
    """Payment, history and events stay as they were (R1.109, R1.102)."""
    payment_id = await desk.paid(amount=Decimal("5.50"))
    before = desk.store.payments[payment_id]

    with pytest.raises(ApiError) as error:
        await desk.changes.edit(actor, payment_id, edit)

    assert refused(error) == expected
    assert desk.store.payments[payment_id] == before
    assert len(desk.store.steps) == len(desk.store.facts) == 1


@pytest.mark.parametrize("edit", [Edit(currency="EUR"), Edit(recipient_id=OTHER)])
async def test_only_pending_payments_are_edited(desk: Desk, edit: Edit) -> None:
    """Later it is 400 INVALID_STATUS, for the sender and ADMIN (R1.116)."""
    payment_id = await desk.paid()
    await desk.changes.change_status(ADMIN, payment_id, PaymentStatus.PROCESSING, None)

    for actor in (SENDER, ADMIN):
        with pytest.raises(ApiError) as error:
            await desk.changes.edit(actor, payment_id, edit)
        assert refused(error) == (400, "INVALID_STATUS")


async def test_an_unknown_payment_is_404_for_everybody(desk: Desk) -> None:
    """Existence comes before ownership (R1.17)."""
    for edit in (Edit(currency="EUR"), Edit(recipient_id="nobody")):
        with pytest.raises(ApiError) as error:
            await desk.changes.edit(SENDER, str(uuid.uuid4()), edit)
        assert refused(error) == (404, "PAYMENT_NOT_FOUND")


async def test_an_edit_that_overtakes_a_change_is_judged_again(desk: Desk) -> None:
    """The state counts at the moment of writing, not at that of reading (R1.120)."""
    payment_id = await desk.paid()
    newcomer = person(str(uuid.uuid4()), "n")
    desk.directory.people[newcomer.id] = newcomer

    def cancelled() -> None:
        payment = desk.store.payments[payment_id]
        desk.store.payments[payment_id] = replace(payment, status=PaymentStatus.CANCELLED)

    desk.directory.meanwhile = cancelled

    with pytest.raises(ApiError) as error:
        await desk.changes.edit(SENDER, payment_id, Edit(recipient_id=newcomer.id))

    assert refused(error) == (400, "INVALID_STATUS")


def notice(payment_id: str, status: str, **more: Any) -> ProviderNotice:
    values = {"psp_transaction_id": "psp-1", "psp_status": "SETTLED", **more}
    return ProviderNotice(payment_id, PaymentStatus(status), **values)


@pytest.mark.parametrize(
    ("status", "event", "message"),
    [
        ("completed", "payment.completed", "Payment completed"),
        ("failed", "payment.failed", "no funds"),
    ],
)
async def test_the_providers_end_passes_through_processing(
    desk: Desk, status: str, event: str, message: str
) -> None:
    """A pending payment gets two rows and two events in one go (R1.122)."""
    payment_id = await desk.paid()

    new = await desk.changes.notice(
        notice(payment_id, status, failure_reason="no funds", metadata={"fee": 1})
    )

    assert new
    assert [(step.status, step.message) for step in desk.store.steps[1:]] == [
        ("processing", "Payment processing"),
        (status, message),
    ]
    assert [(f.type, f.actor_id) for f in desk.store.facts[1:]] == [
        ("payment.updated", None),
        (event, None),
    ]
    for fact in desk.store.facts:
        assert not catalogue.faults(catalogue.KINDS[fact.type], dict(fact.data))
    payment = desk.store.payments[payment_id]
    assert (payment.psp_transaction_id, payment.psp_status) == ("psp-1", "SETTLED")
    assert payment.failure_reason == ("no funds" if status == "failed" else None)
    assert (payment.completed_at is not None) is (status == "completed")
    assert [step.metadata for step in desk.store.steps] == [None, None, {"fee": 1}]
    assert len(desk.cache.removed) == 3


async def test_a_failure_without_reason_has_the_default(desk: Desk) -> None:
    """As for PATCH (R1.119, R1.122)."""
    payment_id = await desk.paid()

    await desk.changes.notice(notice(payment_id, "failed"))

    assert desk.store.payments[payment_id].failure_reason == "Payment failed"
    assert desk.store.facts[-1].data["failureReason"] == "Payment failed"


@pytest.mark.parametrize("psp_id", ["psp-1", None])
async def test_a_repeated_notice_has_no_effect(desk: Desk, psp_id: str | None) -> None:
    """Equal payment, status and provider's id: a duplicate, whatever else it says (R1.122)."""
    payment_id = await desk.paid()
    said = notice(payment_id, "completed", psp_transaction_id=psp_id)
    await desk.changes.notice(said)
    before = desk.store.payments[payment_id]
    counts = len(desk.store.steps), len(desk.store.facts), len(desk.cache.removed)

    new = await desk.changes.notice(replace(said, psp_status="AGAIN"))

    assert not new
    assert desk.store.payments[payment_id] == before
    assert (len(desk.store.steps), len(desk.store.facts), len(desk.cache.removed)) == counts


async def test_a_notice_of_what_an_admin_did_is_no_duplicate(desk: Desk) -> None:
    """Only what the provider itself said before is repeated (R1.122)."""
    payment_id = await desk.paid()
    await desk.changes.change_status(ADMIN, payment_id, PaymentStatus.PROCESSING, None)

    with pytest.raises(ApiError) as error:
        await desk.changes.notice(notice(payment_id, "processing", psp_transaction_id=None))

    assert refused(error) == (409, "INVALID_STATUS_TRANSITION")


async def test_a_refused_notice_is_not_remembered(desk: Desk) -> None:
    """Said again when it is possible, it takes effect (R1.115, R1.122)."""
    payment_id = await desk.paid()
    await desk.changes.notice(notice(payment_id, "processing"))
    with pytest.raises(ApiError) as error:
        await desk.changes.notice(notice(payment_id, "cancelled"))
    assert error.value.details == {"from": "processing", "to": "cancelled"}
    with pytest.raises(ApiError):
        await desk.changes.notice(notice(payment_id, "cancelled"))

    assert await desk.changes.notice(notice(payment_id, "completed"))


async def test_a_notice_of_an_unknown_payment_is_404(desk: Desk) -> None:
    """R1.118."""
    with pytest.raises(ApiError) as error:
        await desk.changes.notice(notice(str(uuid.uuid4()), "completed"))

    assert refused(error) == (404, "PAYMENT_NOT_FOUND")
