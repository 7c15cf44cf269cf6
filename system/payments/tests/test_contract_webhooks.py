"""Holds the running payments-service to R1.118-R1.122: what the payment provider says."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from system.payments.tests.callers import (
    Provider,
    Stack,
    User,
    events_of,
    made,
    outcome,
)

pytestmark = pytest.mark.platform


def test_r1_122_the_end_of_a_pending_payment(
    stack: Stack, provider: Provider, customer: User, vendor: User, admin: User
) -> None:
    """Through processing: two rows, two events by the PSP, fields stored, caches void (R3.41)."""
    payment_id = made(customer.pay(vendor))
    path = f"/payments/{payment_id}"
    for reader in (customer, vendor, admin):
        reader.get(path)

    answer = provider.say(
        payment_id,
        "completed",
        pspTransactionId=f"psp-{payment_id}",
        pspStatus="SETTLED",
        metadata={"fee": "0.10"},
    )

    assert answer.json() == {
        "success": True,
        "data": {"message": "Webhook processed successfully"},
    }
    for reader in (customer, vendor, admin):
        shown = reader.get(path).json()["data"]
        assert (shown["status"], shown["pspStatus"]) == ("completed", "SETTLED")
        assert shown["pspTransactionId"] == f"psp-{payment_id}"
        assert shown["completedAt"] is not None
        assert [(step["status"], step["metadata"]) for step in shown["transactions"]] == [
            ("pending", None),
            ("processing", None),
            ("completed", {"fee": "0.10"}),
        ]
    created, *changed = events_of(stack, payment_id)
    assert "actor" not in created["metadata"]
    assert [event["type"] for event in changed] == ["payment.updated", "payment.completed"]
    for event in changed:
        assert (event["metadata"]["actorId"], event["metadata"]["actor"]) == (None, "psp")


def test_r1_122_simultaneous_repetitions_take_effect_once(
    stack: Stack, provider: Provider, customer: User, vendor: User
) -> None:
    """All succeed, one acts, the others are duplicates."""
    payment_id = made(customer.pay(vendor))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: provider.say(payment_id, "failed"), range(8)))

    assert {answer.status_code for answer in answers} == {200}
    duplicates = [answer.json()["data"].get("duplicate") for answer in answers]
    assert sorted(duplicates, key=str) == [None] + [True] * 7
    assert len(events_of(stack, payment_id)) == 3
    shown = customer.get(f"/payments/{payment_id}").json()["data"]
    assert (shown["failureReason"], len(shown["transactions"])) == ("Payment failed", 3)


def test_r1_122_another_id_is_no_repetition(
    provider: Provider, customer: User, vendor: User
) -> None:
    """Then the state machine judges it (R1.115)."""
    payment_id = made(customer.pay(vendor))
    provider.say(payment_id, "completed", pspTransactionId="1")

    again = provider.say(payment_id, "completed", pspTransactionId="2")
    same = provider.say(payment_id, "completed", pspTransactionId="1")
    after_end = provider.say(payment_id, "failed", pspTransactionId="1")

    assert outcome(again) == (409, "INVALID_STATUS_TRANSITION")
    assert again.json()["error"]["details"] == {"from": "completed", "to": "completed"}
    assert same.json()["data"]["duplicate"] is True
    assert after_end.json()["error"]["details"] == {"from": "completed", "to": "failed"}


def test_r1_121_signatures(stack: Stack, provider: Provider, customer: User, vendor: User) -> None:
    """Missing, wrong or old: 401 before anything else, and no effect; no token is needed."""
    payment_id = made(customer.pay(vendor))
    url = f"{stack.services['payments']}/webhooks/payments"
    body = json.dumps({"paymentId": payment_id, "status": "processing"}).encode()
    old = str(int(time.time()) - 400)
    headers: tuple[dict[str, str], ...] = (
        {},
        {"X-Webhook-Timestamp": str(int(time.time()))},
        {"X-Webhook-Timestamp": str(int(time.time())), "X-Webhook-Signature": "sha256=00"},
        {"X-Webhook-Timestamp": old, "X-Webhook-Signature": "sha256=00"},
    )
    for content in (body, b"not json"):
        for given in headers:
            answer = httpx.post(url, content=content, headers=given, timeout=10)
            assert outcome(answer) == (401, "WEBHOOK_SIGNATURE_INVALID")

    assert customer.get(f"/payments/{payment_id}").json()["data"]["status"] == "pending"
    assert outcome(provider.send(b"not json")) == (400, "INVALID_JSON")
    assert outcome(provider.send(b"{}")) == (400, "VALIDATION_ERROR")
    assert outcome(provider.send(b" " * 102_401)) == (413, "PAYLOAD_TOO_LARGE")


def test_r1_118_through_the_edge(
    stack: Stack, provider: Provider, customer: User, vendor: User
) -> None:
    """The public route passes the signed bytes unchanged, and asks for no token (R1.49)."""
    payment_id = made(customer.pay(vendor))
    body = f'{{ "status" : "processing",\n "paymentId":"{payment_id}" }}'.encode()
    url = f"{stack.origin}/api/webhooks/payments"

    transport = httpx.HTTPTransport(verify=stack.trust, local_address=stack.exempt)
    with httpx.Client(transport=transport, timeout=10) as client:
        answer = provider.send(body, url, client)

    assert answer.json()["data"] == {"message": "Webhook processed successfully"}
    assert customer.get(f"/payments/{payment_id}").json()["data"]["status"] == "processing"
