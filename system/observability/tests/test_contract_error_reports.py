"""Tests of R7.19-R7.21 on the running platform, with a Sentry-compatible sink on loopback."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator

import httpx
import pytest

from system.conftest import RunningStack
from system.platform.observability.tests.sink import Sink, sink
from system.stack.native import Override

pytestmark = pytest.mark.platform

CANARY = f"Canary-{uuid.uuid4().hex}1!"
MARK = CANARY.split("-")[1]


@pytest.fixture(scope="module")
def sentry(stack: RunningStack) -> Iterator[Sink]:
    """Gateway and payments report to this sink while the module's tests run."""
    with sink() as running:
        for part in ("payments", "gateway"):
            stack.restart(
                part,
                Override(
                    environment={
                        "SENTRY_DSN": running.dsn,
                        "SENTRY_ENVIRONMENT": "trial",
                        "SENTRY_TRACES_SAMPLE_RATE": "1",
                        "SENTRY_PROFILES_SAMPLE_RATE": "0",
                    }
                ),
            )
        stack.until_ready()
        yield running
        for part in ("payments", "gateway"):
            stack.restart(part)
        stack.until_ready()


@pytest.fixture(scope="module")
def client(stack: RunningStack) -> Iterator[httpx.Client]:
    """Calls the gateway from the exempt address."""
    transport = httpx.HTTPTransport(local_address=stack.exempt)
    with httpx.Client(
        base_url=stack.services["gateway"], transport=transport, timeout=10
    ) as running:
        yield running


def test_r7_19_answers_of_500_and_more_are_reported_within_five_seconds(
    stack: RunningStack, sentry: Sink, client: httpx.Client
) -> None:
    """R7.19, R7.20: a database that is away, seen from outside; no token, no query value."""
    account = stack.account("customer")
    token = client.post("/api/auth/login", json=account).json()["data"]["accessToken"]
    correlation_id = f"sentry-{uuid.uuid4().hex[:8]}"
    headers = {
        "Authorization": f"Bearer {token}",
        "X-Correlation-ID": correlation_id,
        "X-Api-Key": CANARY,
        "Cache-Control": "no-cache",
    }
    assert client.get(f"/api/payments/{uuid.uuid4()}", headers=headers).status_code == 404
    stack.control("postgres-payments", "stop")
    try:
        answer = client.get(f"/api/payments?page=1&token={CANARY}", headers=headers)
        asked = time.monotonic()
        assert answer.status_code == 503, answer.text

        def found() -> bool:
            return any(
                event["tags"].get("correlation_id") == correlation_id for event in sentry.reports()
            )

        sentry.wait(found, 5, "the report")
        assert time.monotonic() - asked < 5
    finally:
        stack.control("postgres-payments", "start")
        stack.until_ready()

    events = [
        event for event in sentry.reports() if event["tags"].get("correlation_id") == correlation_id
    ]
    assert {event["tags"]["http.status"] for event in events} == {"503"}  # not the 404
    event = events[0]
    assert event["environment"] == "trial"
    assert event["release"].startswith("payments-service@")
    assert event["transaction"] == "GET /payments"
    frames = event["exception"]["values"][-1]["stacktrace"]["frames"]
    own = [frame for frame in frames if frame.get("in_app")]
    assert own
    assert all("system/" in frame["filename"] and frame["context_line"] for frame in own)
    everything = json.dumps(sentry.reports()) + json.dumps(sentry.reports("transaction"))
    assert MARK not in everything
    assert token not in everything
    assert account["email"] not in everything


def test_r7_19_requests_are_measured_at_gateway_and_service(
    stack: RunningStack, sentry: Sink, client: httpx.Client
) -> None:
    """R7.19: as transactions, named by their template."""
    client.get("/api/payments")
    token = client.post("/api/auth/login", json=stack.account("customer")).json()["data"]
    headers = {"Authorization": f"Bearer {token['accessToken']}"}
    client.get(f"/api/payments/{uuid.uuid4()}", headers=headers)

    def names() -> set[str]:
        return {each["transaction"] for each in sentry.reports("transaction")}

    sentry.wait(
        lambda: {"GET /api/payments/:id", "GET /payments/:id"} <= names(),
        10,
        f"both transactions among {names()}",
    )


def test_r7_21_logs_are_json_lines_without_secrets(
    stack: RunningStack, client: httpx.Client
) -> None:
    """R7.21: agreed keys in every line of our processes; no password, token or e-mail address."""
    account = stack.account("customer")
    email = f"{MARK[:8]}@example.com"
    client.post("/api/auth/login", json={"email": email, "password": CANARY})
    data = client.post("/api/auth/login", json=account).json()["data"]
    headers = {"Authorization": f"Bearer {data['accessToken']}", "X-Api-Key": CANARY}
    client.get(f"/api/payments?password={CANARY}", headers=headers)
    client.get(f"/nowhere?token={data['refreshToken']}", headers=headers)

    for part in ("gateway", "auth", "payments", "admin", "profile"):
        text = stack.log(part)
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        assert lines, part
        assert len(lines) == len(text.splitlines()), f"{part} writes lines that are not JSON"
        for line in lines:
            assert {
                "timestamp",
                "level",
                "service",
                "message",
                "correlationId",
                "traceId",
            } <= line.keys(), line
        for secret in (MARK, email, account["email"], account["password"], data["accessToken"]):
            assert secret not in text, part
        assert data["refreshToken"] not in text
