"""Holds the signature of webhooks to R1.121, and the service's description to its routes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from system.payments.bootstrap import build
from system.payments.domain import PaymentStatus
from system.payments.entrypoints import webhooks
from system.payments.entrypoints.webhooks import is_timely, signature
from system.payments.tests.desk import Desk
from system.platform.config.loading import load
from system.platform.config.settings import Settings
from system.platform.http.app import create_app, described_routes
from system.platform.http.openapi import document

SECRET = "a secret that only the provider knows"
PAYMENT = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
BODY = json.dumps({"paymentId": PAYMENT, "status": "processing"}).encode()


def settings() -> Settings:
    return load("payments", {"PAYMENTS_DATABASE_URL": "postgresql://p@localhost/payments_db"})


class Caller:
    """Sends webhooks to the route, with everything behind it in memory."""

    def __init__(self, client: TestClient[Litestar], desk: Desk) -> None:
        self._client = client
        self.desk = desk

    def __call__(
        self, body: bytes = BODY, *, sign: bool = True, drop: tuple[str, ...] = (), **headers: str
    ) -> tuple[int, Any]:
        now = str(int(time.time()))
        given = {"Content-Type": "application/json"}
        if sign:
            given["X-Webhook-Timestamp"] = now
            given["X-Webhook-Signature"] = signature(SECRET, now, body)
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in given.items() if name not in drop}
        encoded = {name.encode(): value.encode("latin-1") for name, value in sent.items()}
        answer = self._client.post("/webhooks/payments", content=body, headers=encoded)
        payload = answer.json()
        return answer.status_code, payload.get("data", payload.get("error", {}).get("code"))


@pytest.fixture
def call() -> Iterator[Caller]:
    desk = Desk()
    app = create_app(
        settings(),
        webhooks.routes(SECRET),
        checks={},
        essential=(),
        state={"changes": desk.changes},
    )
    with TestClient(app) as client:
        yield Caller(client, desk)


def test_the_signature_is_that_of_the_contract() -> None:
    """HMAC-SHA256 over `<timestamp>.<raw body>`; the value was made with openssl."""
    assert signature("key", "1768644000", b'{"a":1}') == (
        "sha256=78d15740a59803569222b6b3fc15774bb3c7b0e87f3ec8970a253bba6e3edfc0"
    )


@pytest.mark.parametrize(
    ("timestamp", "timely"),
    [
        ("1000", True),
        ("700", True),
        ("1300", True),
        ("699", False),
        ("1301", False),
        ("", False),
        ("1e3", False),
        ("1000.0", False),
        ("-1000", False),
        (" 1000", False),
        ("١٠٠٠", False),
        ("9" * 13, False),
        (None, False),
    ],
)
def test_times(timestamp: str | None, timely: bool) -> None:
    """At most five minutes off, in whole seconds (R1.121)."""
    assert is_timely(timestamp, 1000.0) is timely


INVALID = (401, "WEBHOOK_SIGNATURE_INVALID")


def test_a_signed_call_is_let_in(call: Caller) -> None:
    """Then it is judged: this payment is not known (R1.118)."""
    assert call() == (404, "PAYMENT_NOT_FOUND")


@pytest.mark.parametrize("body", [BODY, b"not json", b"", b"{}"])
def test_unsigned_calls_learn_nothing(call: Caller, body: bytes) -> None:
    """Whatever else is wrong, the signature is judged first (R1.121)."""
    now = str(int(time.time()))
    old = str(int(time.time()) - 301)
    wrong = [
        call(body, sign=False),
        call(body, drop=("X-Webhook-Timestamp",)),
        call(body, drop=("X-Webhook-Signature",)),
    ]
    for timestamp, given in (
        (now, "sha256=" + "0" * 64),
        (now, "é"),
        (now, signature("another secret", now, body)),
        (now, signature(SECRET, now, body + b" ")),
        (now, signature(SECRET, now, body).removeprefix("sha256=")),
        (old, signature(SECRET, old, body)),
    ):
        wrong.append(call(body, X_Webhook_Timestamp=timestamp, X_Webhook_Signature=given))

    assert wrong == [INVALID] * len(wrong)


def test_a_signed_call_is_validated(call: Caller) -> None:
    """All issues at once (R1.16, R1.118)."""
    assert call(b"[]") == (400, "INVALID_JSON")
    assert call(b'{"status":"gone"}') == (400, "VALIDATION_ERROR")


async def test_answers(call: Caller) -> None:
    """The first call and its repetition (R1.118, R1.122)."""
    payment_id = await call.desk.paid()
    body = json.dumps({"paymentId": payment_id, "status": "completed"}).encode()

    assert call(body) == (200, {"message": "Webhook processed successfully"})
    assert call(body) == (200, {"message": "Webhook processed successfully", "duplicate": True})
    assert call.desk.store.payments[payment_id].status is PaymentStatus.COMPLETED


async def test_empty_texts_say_nothing(call: Caller) -> None:
    """R1.19: what cleaning leaves nothing of was not said."""
    payment_id = await call.desk.paid()
    body = {"paymentId": payment_id, "status": "processing", "pspTransactionId": " <b> "}

    assert call(json.dumps(body).encode())[0] == 200
    assert call.desk.store.notices == {(payment_id, PaymentStatus.PROCESSING, None)}
    assert call.desk.store.payments[payment_id].psp_transaction_id is None


def test_every_public_route_is_described() -> None:
    """R1.154: those of 1.11 and no others, each with examples that its own schema takes."""
    described = document(described_routes(build(settings())), "payments")

    assert {
        (method.upper(), path) for path, item in described["paths"].items() for method in item
    } == {
        ("GET", "/payments"),
        ("POST", "/payments"),
        ("GET", "/payments/recipients"),
        ("GET", "/payments/reports"),
        ("GET", "/payments/{id}"),
        ("PUT", "/payments/{id}"),
        ("PATCH", "/payments/{id}/status"),
        ("POST", "/webhooks/payments"),
    }
