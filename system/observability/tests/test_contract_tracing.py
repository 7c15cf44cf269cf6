"""Tests of R7.16-R7.18 on the running platform, with a collector on loopback."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from system.conftest import RunningStack
from system.platform.observability.tests.sink import Sink, sink
from system.stack.native import Override

pytestmark = pytest.mark.platform

PARTS = ("auth", "payments", "admin", "profile", "gateway")


@pytest.fixture(scope="module")
def collector(stack: RunningStack) -> Iterator[Sink]:
    """Every process exports its spans to this sink while the module's tests run."""
    with sink() as running:
        for part in PARTS:
            stack.restart(
                part,
                Override(
                    environment={
                        "OTEL_ENABLED": "true",
                        "OTEL_EXPORTER_OTLP_ENDPOINT": running.traces_url,
                    }
                ),
            )
        stack.until_ready()
        yield running
        for part in PARTS:
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


def _token(stack: RunningStack, client: httpx.Client, role: str) -> tuple[str, str]:
    answer = client.post("/api/auth/login", json=stack.account(role))
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    return data["accessToken"], data["user"]["id"]


def test_r7_18_one_request_is_one_trace_from_the_gateway_to_the_websocket(
    stack: RunningStack, collector: Sink, client: httpx.Client
) -> None:
    """R7.18: HTTP, services, database, Redis, outbox, AMQP, consumers, WebSocket: one tree."""
    token, user_id = _token(stack, client, "customer")
    _, vendor_id = _token(stack, client, "vendor")
    trace_id, caller = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    correlation_id = f"trace-{uuid.uuid4().hex[:8]}"
    address = stack.services["gateway"].replace("http", "ws") + "/ws"
    with connect(
        address,
        subprotocols=[Subprotocol("bearer"), Subprotocol(token)],
        source_address=(stack.exempt, 0),
    ) as listening:
        listening.recv(timeout=5)
        answer = client.post(
            "/api/payments",
            json={
                "recipientId": vendor_id,
                "amount": 12.5,
                "currency": "USD",
                "type": "instant",
                "description": "x",
            },
            headers={
                "Authorization": f"Bearer {token}",
                "traceparent": f"00-{trace_id}-{caller}-01",
                "X-Correlation-ID": correlation_id,
            },
        )
        assert answer.status_code == 201, answer.text
        assert correlation_id in str(listening.recv(timeout=5))

    def ours() -> list[dict[str, Any]]:
        return [span for span in collector.spans() if span["trace_id"] == trace_id]

    def named(service: str, start: str, kind: int) -> bool:
        return any(
            span["resource"]["service.name"] == service
            and span["name"].startswith(start)
            and span["kind"] == kind
            for span in ours()
        )

    expected = [
        ("api-gateway", "POST /api/payments", 2),
        ("payments-service", "redis ", 3),
        ("api-gateway", "POST payments-service", 3),
        ("payments-service", "POST /payments", 2),
        ("payments-service", "insert payments", 3),
        ("payments-service", "insert outbox", 3),
        ("payments-service", "publish payment.created", 4),
        ("admin-service", "process payment.created", 5),
        ("admin-service", "insert audit_logs", 3),
        ("payments-service", "process payment.created", 5),
        ("api-gateway", "process payment.created", 5),
        ("api-gateway", "websocket payment.created", 4),
    ]
    for service, start, kind in expected:
        collector.wait(
            lambda s=service, n=start, k=kind: named(s, n, k),  # type: ignore[misc]
            8,
            f"{service} {start} among {[span['name'] for span in ours()]}",
        )

    spans = ours()
    known = {span["span_id"] for span in spans} | {caller}
    assert [span["name"] for span in spans if span["parent_id"] not in known] == []
    assert {span["attributes"].get("correlation_id") for span in spans} == {correlation_id}
    assert all(span["end"] >= span["start"] for span in spans)
    assert {span["resource"]["deployment.environment"] for span in spans} == {"production"}
    assert user_id not in str([span["name"] for span in spans])


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"X-Correlation-ID": "a.B-9_" + "x" * 122}, True),
        ({"X-Request-ID": "request-7"}, True),
        ({"X-Correlation-ID": "bad id", "X-Request-ID": "request-8"}, True),
        ({"X-Correlation-ID": "x" * 129}, False),
        ({"X-Correlation-ID": "<script>"}, False),
        ({"X-Correlation-ID": "$(reboot)"}, False),
        ({}, False),
    ],
)
@pytest.mark.parametrize("path", ["/api/payments", "/nowhere", "/health"])
def test_r7_16_good_ids_are_taken_over_and_hostile_ones_replaced(
    client: httpx.Client, given: dict[str, str], taken: bool, path: str
) -> None:
    """R7.16: once in every answer, refusals and unknown paths too."""
    answer = client.get(path, headers=given)

    (shown,) = answer.headers.get_list("X-Correlation-ID")
    if taken:
        assert shown in given.values()
    else:
        assert str(uuid.UUID(shown)) == shown


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    "header", [b"traceparent", b"tracestate", b"X-Correlation-ID", b"X-Request-ID"]
)
def test_r7_16_bytes_that_are_no_text_are_replaced(
    stack: RunningStack, part: str, header: bytes
) -> None:
    """R7.16, R0.10: they cost the id or the trace, not the answer."""
    place = urlsplit(stack.services[part])
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=5) as line:
        line.sendall(
            b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            + header
            + b": \xff\xfe\xc3\x28\r\n\r\n"
        )
        answer = b""
        while piece := line.recv(65_536):
            answer += piece

    assert answer.startswith(b"HTTP/1.1 404")
    assert answer.lower().count(b"x-correlation-id: ") == 1
    assert b"\xff" not in answer


def test_r7_17_the_same_id_is_in_logs_audit_and_answer(
    stack: RunningStack, collector: Sink, client: httpx.Client
) -> None:
    """R7.17: log lines of gateway-side service, audit row, with the trace id beside it (R7.21)."""
    token, _ = _token(stack, client, "admin")
    correlation_id = f"audit-{uuid.uuid4().hex[:8]}"
    trace_id = uuid.uuid4().hex
    answer = client.post(
        "/api/auth/login",
        json=stack.account("vendor"),
        headers={
            "X-Correlation-ID": correlation_id,
            "traceparent": f"00-{trace_id}-{uuid.uuid4().hex[:16]}-01",
        },
    )
    assert answer.headers["X-Correlation-ID"] == correlation_id

    def audited() -> bool:
        page = client.get(
            "/api/admin/audit-logs", headers={"Authorization": f"Bearer {token}"}
        ).json()
        return correlation_id in str(page)

    collector.wait(audited, 5, "the audit row")
    for part in ("gateway", "auth"):
        lines = [line for line in stack.log(part).splitlines() if correlation_id in line]
        assert any(trace_id in line for line in lines), part


def test_r7_18_a_missing_collector_costs_no_request(
    stack: RunningStack, client: httpx.Client
) -> None:
    """R7.18: with nobody at the endpoint requests are served and the log has a line a minute."""
    with sink() as gone:
        endpoint = gone.traces_url
    stack.restart(
        "profile",
        Override(environment={"OTEL_ENABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}),
    )
    try:
        stack.until_ready()
        before = stack.log("profile").count("traces are not exported")
        answers = [httpx.get(stack.services["profile"] + "/nowhere") for _ in range(200)]
        assert {answer.status_code for answer in answers} == {404}
        # Ending it makes it try once more.
        stack.control("profile", "stop")
        assert stack.log("profile").count("traces are not exported") - before == 1
        assert "Traceback" not in stack.log("profile")
    finally:
        stack.restart("profile")
        stack.until_ready()


def test_r7_18_spans_are_sent_before_a_process_ends(stack: RunningStack) -> None:
    """R7.18: on SIGTERM what waits is flushed, within 5 s."""
    trace_id = uuid.uuid4().hex
    with sink() as late:
        stack.restart(
            "profile",
            Override(
                environment={
                    "OTEL_ENABLED": "true",
                    "OTEL_EXPORTER_OTLP_ENDPOINT": late.traces_url,
                }
            ),
        )
        try:
            stack.until_ready()
            httpx.get(
                stack.services["profile"] + "/nowhere",
                headers={"traceparent": f"00-{trace_id}-{uuid.uuid4().hex[:16]}-01"},
            )
            asked = time.monotonic()
            stack.control("profile", "stop")
            assert time.monotonic() - asked < 5
            assert trace_id in {span["trace_id"] for span in late.spans()}
        finally:
            stack.restart("profile")
            stack.until_ready()
