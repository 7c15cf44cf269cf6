"""The gateway's own answers: tokens, limits, CORS, correlation, health, metrics (1.1-1.9, 7.1)."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from system.gateway.entrypoints.answers import Sent
from system.gateway.entrypoints.call import Call
from system.gateway.tests.stand_ins import (
    ORIGIN,
    EchoService,
    Running,
    echo_service,
    running_gateway,
)

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
CORS = (
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Access-Control-Expose-Headers",
)


@pytest.fixture
async def service() -> AsyncIterator[EchoService]:
    """A stand-in for all four services."""
    async with echo_service() as running:
        yield running


@pytest.fixture
async def gateway(service: EchoService) -> AsyncIterator[Running]:
    """A gateway before it."""
    async with running_gateway(
        service.url, trusted=frozenset({"127.0.0.1"}), exempt=("127.0.0.2", "127.0.2.0/24")
    ) as running:
        yield running


class Answer:
    """A whole answer."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body

    @property
    def code(self) -> str:
        """Its error code."""
        found: str = json.loads(self.body)["error"]["code"]
        return found


@pytest.fixture
async def ask(gateway: Running) -> AsyncIterator[Any]:
    """Sends one request."""
    async with aiohttp.ClientSession() as session:

        async def request(
            method: str,
            path: str,
            token: str | None = None,
            headers: dict[str, str] | None = None,
            address: str | None = None,
            **named: Any,
        ) -> Answer:
            sent = dict(headers or {})
            if token is not None:
                sent["Authorization"] = f"Bearer {token}"
            if address is not None:
                sent["X-Forwarded-For"] = address
            async with session.request(
                method, gateway.url + path, headers=sent, allow_redirects=False, **named
            ) as response:
                return Answer(response, await response.read())

        yield request


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "UNAUTHORIZED"),
        ({"Authorization": "Basic YTpi"}, 401, "UNAUTHORIZED"),
        ({"Authorization": ""}, 401, "UNAUTHORIZED"),
        ({"Authorization": "Bearer wrong"}, 401, "TOKEN_INVALID"),
        ({"Authorization": "Bearer expired"}, 401, "TOKEN_EXPIRED"),
        ({"Authorization": "Bearer carol"}, 401, "TOKEN_REVOKED"),
        ({"Authorization": "Bearer alice"}, 403, "FORBIDDEN"),
    ],
)
async def test_tokens_are_checked_before_anything_is_proxied(
    gateway: Running,
    service: EchoService,
    ask: Any,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    """R1.28, R1.29 on a route for ADMINs; the service hears nothing."""
    gateway.authentication.revoked.add("session-of-33333333-3333-4333-8333-333333333333")
    answer = await ask("GET", "/api/admin/users", headers=headers)
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["Cache-Control"] == "no-store"
    assert service.seen == []
    assert (await ask("GET", "/api/admin/users", "admin")).status == 200


async def test_two_tokens_are_one_too_many(gateway: Running, service: EchoService) -> None:
    """Gateway and service must not judge different ones."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        b"GET /api/payments HTTP/1.1\r\nHost: a\r\n"
        b"Authorization: Bearer alice\r\nAuthorization: Bearer admin\r\n\r\n"
    )
    assert (await reader.readline()).split()[1] == b"401"
    assert service.seen == []
    writer.close()


async def test_public_routes_need_no_token(service: EchoService, ask: Any) -> None:
    """R1.59-R1.61, R1.118; and a useless one does no harm."""
    paths = ["/api/auth/register", "/api/auth/login", "/api/auth/refresh", "/api/webhooks/payments"]
    for path in paths:
        assert (await ask("POST", path, "wrong", json={})).status == 200
    assert [seen.target for seen in service.seen] == [
        "/auth/register",
        "/auth/login",
        "/auth/refresh",
        "/webhooks/payments",
    ]


@pytest.mark.parametrize("token", [None, "alice", "wrong"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/nothing"),
        ("DELETE", "/api/payments/x"),
        ("GET", "/"),
        ("POST", "/health"),
        ("GET", "/graphql"),
        ("GET", "/api-docs.json"),
        ("PUT", "/api/admin/nothing"),
    ],
)
async def test_unknown_routes_are_404_before_the_token(
    ask: Any, method: str, path: str, token: str | None
) -> None:
    """R1.11, R1.17."""
    answer = await ask(method, path, token)
    assert (answer.status, answer.code) == (404, "NOT_FOUND")
    assert json.loads(answer.body)["error"]["message"] == f"Route {method} {path} not found"


async def test_nobody_can_judge_the_session(gateway: Running, ask: Any) -> None:
    """R1.38: protected routes are 503 with Retry-After, public ones work."""
    gateway.authentication.down = True
    answer = await ask("GET", "/api/payments", "alice")
    assert (answer.status, answer.code) == (503, "SERVICE_UNAVAILABLE")
    assert int(answer.headers["Retry-After"]) >= 1
    assert (await ask("POST", "/api/auth/login", json={})).status == 200


async def test_an_unexpected_error_is_500_without_its_reason(gateway: Running, ask: Any) -> None:
    """R1.15, R1.6; the process goes on (R0.10)."""

    async def fail(header: str | None) -> None:
        raise ZeroDivisionError("secret reason")

    gateway.authentication.authenticate = fail  # type: ignore[assignment, method-assign]
    answer = await ask("GET", "/api/payments", "alice")
    assert (answer.status, answer.code) == (500, "INTERNAL_ERROR")
    assert b"secret" not in answer.body
    assert json.loads(answer.body)["error"]["message"] == "An unexpected error occurred"
    assert answer.headers["X-Correlation-ID"]
    assert (await ask("GET", "/health")).status == 200


# Limits


async def test_the_general_limiter_counts_and_refuses(
    gateway: Running, service: EchoService, ask: Any
) -> None:
    """R1.41, R1.42: by client address, on every counted answer, errors included."""
    gateway.general.limit = 3
    for left in (2, 1, 0):
        answer = await ask("GET", "/api/nothing" if left == 1 else "/api/payments", "alice")
        assert answer.headers["RateLimit-Policy"] == "3;w=900"
        assert answer.headers["RateLimit-Limit"] == "3"
        assert answer.headers["RateLimit-Remaining"] == str(left)
        assert answer.headers["RateLimit-Reset"] == "60"
    answer = await ask("GET", "/api/payments", "alice")
    assert (answer.status, answer.code) == (429, "RATE_LIMIT_EXCEEDED")
    assert answer.headers["Retry-After"] == "60"
    assert answer.headers.getall("RateLimit-Remaining") == ["0"]
    assert json.loads(answer.body)["error"]["message"] == (
        "Too many requests, please try again later"
    )
    assert len(service.seen) == 2
    for free in ("/health", "/health/live", "/health/ready", "/metrics"):
        answer = await ask("GET", free)
        assert answer.status == 200
        assert "RateLimit-Limit" not in answer.headers
    assert (await ask("GET", "/api/payments", "alice", address="10.0.0.9")).status == 200


async def test_exempt_addresses_pass(gateway: Running, ask: Any) -> None:
    """R1.44."""
    gateway.general.limit = 0
    assert (await ask("GET", "/api/payments", "alice")).status == 429
    for address in ("127.0.0.2", "127.0.2.77", "::ffff:127.0.0.2"):
        for _ in range(10):
            assert (await ask("POST", "/api/auth/login", address=address)).status == 200
    assert (await ask("GET", "/api/payments", "alice", address="127.0.0.3")).status == 429


async def test_the_credential_limiter_lets_six_pass(
    gateway: Running, service: EchoService, ask: Any
) -> None:
    """R1.43: login, register and refresh together, in every spelling; others are not concerned."""
    paths = ["login", "register", "refresh", "%6cogin", "/login", "./refresh", "login"]
    answers = [await ask("POST", f"/api/auth/{path}", address="10.0.0.1") for path in paths]
    assert [answer.status for answer in answers] == [200] * 6 + [429]
    assert answers[-1].code == "RATE_LIMIT_EXCEEDED"
    assert answers[-1].headers["Retry-After"] == "6"
    assert len(service.seen) == 6
    assert (await ask("GET", "/api/auth/me", "alice", address="10.0.0.1")).status == 200
    assert (await ask("POST", "/api/auth/login", address="10.0.0.2")).status == 200


# CORS


@pytest.mark.parametrize(
    ("method", "path", "token"),
    [
        ("GET", "/api/payments", "alice"),
        ("GET", "/api/payments", None),
        ("GET", "/api/nothing", None),
        ("GET", "/health", None),
    ],
)
async def test_a_listed_origin_may_read_every_answer(
    ask: Any, method: str, path: str, token: str | None
) -> None:
    """R1.46, R1.47."""
    answer = await ask(method, path, token, headers={"Origin": ORIGIN})
    assert answer.headers.getall("Access-Control-Allow-Origin") == [ORIGIN]
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert answer.headers["Vary"] == "Origin"
    assert answer.headers["Access-Control-Expose-Headers"] == (
        "X-Request-ID, X-Correlation-ID, X-Cache, Retry-After, RateLimit-Limit, "
        "RateLimit-Remaining, RateLimit-Reset, Idempotency-Replayed"
    )


async def test_a_preflight_is_answered_without_token(service: EchoService, ask: Any) -> None:
    """R1.46, R1.48."""
    answer = await ask(
        "OPTIONS",
        "/api/payments",
        headers={"Origin": ORIGIN, "Access-Control-Request-Method": "POST"},
    )
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Access-Control-Allow-Methods"] == "GET,POST,PUT,PATCH,DELETE,OPTIONS"
    assert answer.headers["Access-Control-Allow-Headers"] == (
        "Content-Type, Authorization, X-Request-ID, X-Correlation-ID, X-Device-ID, "
        "X-Token-Transport, Idempotency-Key, Cache-Control, X-Requested-With, Accept, "
        "traceparent, tracestate"
    )
    assert answer.headers["Access-Control-Max-Age"] == "86400"
    assert answer.headers["Vary"] == "Origin"
    assert service.seen == []


@pytest.mark.parametrize("origin", ["https://evil.test", "null", "https://localhost.evil.test"])
async def test_another_origin_gets_no_cors_header(
    ask: Any, service: EchoService, origin: str
) -> None:
    """R1.48: the ordinary answer, and a bare 204 to its preflight."""

    async def answer_with_cors(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({}, headers={"Access-Control-Allow-Origin": "*"})

    service.answer = answer_with_cors
    plain = await ask("GET", "/api/payments", "alice", headers={"Origin": origin})
    flight = await ask(
        "OPTIONS",
        "/api/payments",
        headers={"Origin": origin, "Access-Control-Request-Method": "POST"},
    )
    assert (plain.status, flight.status) == (200, 204)
    for answer in (plain, flight):
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


# Correlation


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Correlation-ID": "a.B-9_"}, "a.B-9_"),
        ({"X-Correlation-ID": "x" * 128}, "x" * 128),
        ({"X-Request-ID": "r"}, "r"),
        ({"X-Correlation-ID": "c", "X-Request-ID": "r"}, "c"),
        ({}, None),
        ({"X-Correlation-ID": "x" * 129}, None),
        ({"X-Correlation-ID": "a b"}, None),
        ({"X-Correlation-ID": "<script>"}, None),
        ({"X-Correlation-ID": ""}, None),
    ],
)
async def test_every_answer_has_one_correlation_id(
    service: EchoService, ask: Any, headers: dict[str, str], expected: str | None
) -> None:
    """R7.16: proxied, refused and own answers; the service gets the same."""
    for path, token in (("/api/payments", "alice"), ("/api/payments", None), ("/health", None)):
        answer = await ask("GET", path, token, headers=headers)
        (seen,) = answer.headers.getall("X-Correlation-ID")
        assert seen == expected or (expected is None and UUID.fullmatch(seen))
        if token:
            assert service.seen[-1].header("X-Correlation-ID") == [seen]


# Health and metrics


async def test_health_has_its_shape(gateway: Running, ask: Any) -> None:
    """R1.54, R1.56: degraded without Redis, not ready without auth-service."""
    healthy = json.loads((await ask("GET", "/health")).body)
    assert healthy["success"] is True
    assert healthy["data"]["status"] == "healthy"
    assert healthy["data"]["service"] == "api-gateway"
    alive = json.loads((await ask("GET", "/health/live")).body)
    assert (alive["data"]["status"], alive["data"]["alive"]) == ("alive", True)
    ready = json.loads((await ask("GET", "/health/ready")).body)
    assert (ready["data"]["status"], ready["data"]["ready"]) == ("ready", True)
    gateway.checks["redis"] = False
    await asyncio.sleep(1.05)
    degraded = await ask("GET", "/health/ready")
    assert degraded.status == 200
    assert json.loads(degraded.body)["data"]["status"] == "degraded"
    gateway.checks["authService"] = False
    await asyncio.sleep(1.05)
    down = await ask("GET", "/health/ready")
    assert (down.status, down.code) == (503, "SERVICE_UNAVAILABLE")
    checks = json.loads(down.body)["error"]["details"]["checks"]
    assert {name: check["status"] for name, check in checks.items()} == {
        "redis": "down",
        "authService": "down",
    }
    assert (await ask("GET", "/health")).status == 200


async def test_metrics_use_the_public_template(ask: Any) -> None:
    """R7.2, R7.12: no id, no unknown path in a label; refusals are counted (R7.11)."""
    for path in ("/api/payments/some-id-1", "/api/payments/some-id-2", "/api/unknown-xyz"):
        await ask("GET", path, "alice")
    for _ in range(7):
        await ask("POST", "/api/auth/refresh", address="10.9.9.9")
    text = (await ask("GET", "/metrics")).body.decode()
    assert 'http_requests_total{method="GET",path="/api/payments/:id",status="200"}' in text
    assert 'http_errors_total{method="GET",path="unmatched",status="404"}' in text
    assert 'rate_limit_rejections_total{limiter="credential"}' in text
    assert "http_request_duration_seconds_bucket" in text
    for hidden in ("some-id", "unknown-xyz", "10.9.9.9"):
        assert hidden not in text


async def test_a_client_that_goes_away_is_no_error(
    ask: Any, gateway: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """Between two writes the connection breaks: nothing is said of it, and others are served."""

    async def broken(call: Call) -> Sent:
        assert call.request.transport is not None
        call.request.transport.abort()  # as the event loop does when a write fails
        return await call.success({})

    gateway.entry._local["/health/live"] = broken
    with caplog.at_level(logging.DEBUG), pytest.raises(aiohttp.ClientError):
        await ask("GET", "/health/live")

    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not said, [record.getMessage() for record in said]
    assert (await ask("GET", "/health")).status == 200
