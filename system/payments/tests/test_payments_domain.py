"""Holds the state machine and money to the contract's tables."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import product

import pytest

from system.payments.domain import (
    CURRENCIES,
    TRANSITIONS,
    Actor,
    ActorRole,
    ChangeVerdict,
    EditVerdict,
    Payment,
    PaymentStatus,
    PaymentType,
    amount_text,
    is_payable,
    judge_change,
    judge_edit,
    may_see,
    way_to,
)

SENDER, RECIPIENT, STRANGER = "sender", "recipient", "stranger"
ADMIN = Actor("admin", ActorRole.ADMIN)
PSP = Actor(None, ActorRole.PSP)
ACTORS = {
    "admin": ADMIN,
    "psp": PSP,
    "sender": Actor(SENDER, ActorRole.CUSTOMER),
    "recipient": Actor(RECIPIENT, ActorRole.VENDOR),
    "stranger": Actor(STRANGER, ActorRole.CUSTOMER),
}

# R1.115, word for word: from, to, who.
ALLOWED = {
    ("pending", "processing"): {"admin", "psp"},
    ("pending", "cancelled"): {"sender", "admin", "psp"},
    ("processing", "completed"): {"admin", "psp"},
    ("processing", "failed"): {"admin", "psp"},
}
# R1.117: whom the table names for a target, whatever the state; all others are 403.
MAY_ASK = {
    to: {"admin", "psp"} | ({"sender"} if to == "cancelled" else set())
    for to in (status.value for status in PaymentStatus)
}


def payment(status: str) -> Payment:
    now = datetime(2026, 1, 17, tzinfo=UTC)
    return Payment(
        id="p",
        sender_id=SENDER,
        recipient_id=RECIPIENT,
        amount=Decimal("1.00"),
        currency="EUR",
        status=PaymentStatus(status),
        type=PaymentType.INSTANT,
        description=None,
        metadata=None,
        psp_transaction_id=None,
        psp_status=None,
        failure_reason=None,
        completed_at=None,
        created_at=now,
        updated_at=now,
    )


@pytest.mark.parametrize(("before", "to", "who"), [*product(PaymentStatus, PaymentStatus, ACTORS)])
def test_state_machine_is_the_table(before: PaymentStatus, to: PaymentStatus, who: str) -> None:
    """Each change by each actor is allowed, forbidden or impossible as R1.115 and R1.117 say."""
    verdict = judge_change(payment(before), to, ACTORS[who])

    if who not in MAY_ASK[to]:
        assert verdict is ChangeVerdict.FORBIDDEN
    elif who in ALLOWED.get((before.value, to.value), set()):
        assert verdict is ChangeVerdict.ALLOWED
    else:
        assert verdict is ChangeVerdict.IMPOSSIBLE


def test_an_admin_who_sends_is_an_admin() -> None:
    """The role counts before the relation."""
    actor = Actor(SENDER, ActorRole.ADMIN)

    verdict = judge_change(payment("pending"), PaymentStatus.PROCESSING, actor)

    assert verdict is ChangeVerdict.ALLOWED


def test_the_machine_knows_every_state() -> None:
    """No status is without a row."""
    assert set(TRANSITIONS) == set(PaymentStatus)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0.01", "0.01"),
        ("100.5", "100.50"),
        ("100.50", "100.50"),
        ("7", "7.00"),
        ("1E+3", "1000.00"),
        ("10000000.00", "10000000.00"),
        ("9999999999.99", "9999999999.99"),
    ],
)
def test_amounts_have_two_decimals(amount: str, text: str) -> None:
    """An amount is written with exactly two decimals and without an exponent (R1.102)."""
    assert amount_text(Decimal(amount)) == text


@pytest.mark.parametrize("amount", ["0.001", "1.005", "0.1000000000000001"])
def test_amounts_are_never_rounded(amount: str) -> None:
    """More decimals are an error, not a rounding (R1.102)."""
    with pytest.raises(ValueError, match="at most two decimals"):
        amount_text(Decimal(amount))


@pytest.mark.parametrize("currency", CURRENCIES)
def test_whole_currencies(currency: str) -> None:
    """JPY, KRW, VND and CLP have whole amounts only; all others have cents (R1.102)."""
    assert is_payable(Decimal("5.00"), currency)
    assert is_payable(Decimal("5.50"), currency) is (currency not in {"JPY", "KRW", "VND", "CLP"})


def test_currencies_are_those_of_the_contract() -> None:
    """R1.101 lists forty."""
    assert len(CURRENCIES) == len(set(CURRENCIES)) == 40
    assert {len(currency) for currency in CURRENCIES} == {3}


@pytest.mark.parametrize(
    ("who", "sees"),
    [("admin", True), ("sender", True), ("recipient", True), ("stranger", False)],
)
def test_visibility(who: str, sees: bool) -> None:
    """Parties and ADMIN see a payment, nobody else (R1.103)."""
    assert may_see(ACTORS[who], SENDER, RECIPIENT) is sees


def test_nobody_is_a_party_of_an_empty_place() -> None:
    """A payment without recipient is not visible to an actor without id."""
    assert not may_see(Actor("x", ActorRole.CUSTOMER), SENDER, None)


@pytest.mark.parametrize(("before", "to"), [*product(PaymentStatus, PaymentStatus)])
def test_the_way_of_a_notice(before: PaymentStatus, to: PaymentStatus) -> None:
    """Only an end said of a pending payment passes through processing (R1.122)."""
    way = [status.value for status in way_to(payment(before.value), to)]

    if (before.value, to.value) in {("pending", "completed"), ("pending", "failed")}:
        assert way == ["processing", to.value]
    else:
        assert way == [to.value]


@pytest.mark.parametrize(("before", "who"), [*product(PaymentStatus, ACTORS)])
def test_who_may_edit_and_when(before: PaymentStatus, who: str) -> None:
    """Sender and ADMIN, while it is pending; the actor is judged before the state (R1.116)."""
    verdict = judge_edit(payment(before.value), ACTORS[who])

    if who not in {"admin", "sender"}:
        assert verdict is EditVerdict.FORBIDDEN
    elif before is PaymentStatus.PENDING:
        assert verdict is EditVerdict.ALLOWED
    else:
        assert verdict is EditVerdict.TOO_LATE
