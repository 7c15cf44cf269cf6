"""1.6: the gateway's limiters on the platform, by REST and GraphQL, with one process and two."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from system.gateway.tests.processes import second_gateway

pytestmark = pytest.mark.platform

# Each test takes addresses of its own, which no other test of the session uses.
_ADDRESSES = (f"127.0.3.{last}" for last in itertools.count(221))
REFUSED = {
    "success": False,
    "error": {
        "code": "RATE_LIMIT_EXCEEDED",
        "message": "Too many requests, please try again later",
    },
}


def client(url: str, address: str) -> httpx.Client:
    """Asks a gateway from an address."""
    return httpx.Client(
        base_url=url, transport=httpx.HTTPTransport(local_address=address), timeout=20
    )


@pytest.fixture
def fresh(stack: Any) -> Iterator[httpx.Client]:
    """A client at the gateway whose address has not been seen."""
    with client(stack.services["gateway"], next(_ADDRESSES)) as http:
        yield http


@pytest.fixture
def thirty(stack: Any) -> Iterator[None]:
    """The gateway with a general limit of thirty."""
    stack.restart_with("gateway", {"RATE_LIMIT_MAX": "30"})
    yield
    stack.restart("gateway")
    stack.until_ready()


def quota(answer: httpx.Response) -> dict[str, str]:
    """The headers of R1.42."""
    return {
        name: answer.headers[name]
        for name in ("RateLimit-Policy", "RateLimit-Limit", "RateLimit-Remaining")
    }


def test_r1_41_r1_42_the_general_limit(stack: Any, thirty: None, fresh: httpx.Client) -> None:
    """Exactly so many pass, whatever the answer; health and metrics count for nothing."""
    paths = itertools.cycle(("/api/auth/me", "/api/nothing", "/api-docs.json", "/graphql"))
    for used in range(1, 31):
        fresh.get("/health")
        answer = fresh.get(next(paths))
        assert answer.status_code != 429
        assert quota(answer) == {
            "RateLimit-Policy": "30;w=900",
            "RateLimit-Limit": "30",
            "RateLimit-Remaining": str(30 - used),
        }
        assert 1 <= int(answer.headers["RateLimit-Reset"]) <= 900
    refused = fresh.get("/api/auth/me")
    assert (refused.status_code, refused.json()) == (429, REFUSED)
    assert quota(refused)["RateLimit-Remaining"] == "0"
    assert 1 <= int(refused.headers["Retry-After"]) <= 900
    assert len(refused.headers.get_list("X-Correlation-ID")) == 1
    for path in ("/health", "/health/live", "/health/ready", "/metrics"):
        uncounted = fresh.get(path)
        assert uncounted.status_code == 200
        assert "RateLimit-Limit" not in uncounted.headers
    with client(stack.services["gateway"], next(_ADDRESSES)) as neighbour:
        assert neighbour.get("/api/auth/me").status_code == 401
    with client(stack.services["gateway"], stack.exempt) as exempt:
        assert {exempt.get("/api/auth/me").status_code for _ in range(40)} == {401}


def test_r1_41_two_thousand_in_a_quarter_of_an_hour(fresh: httpx.Client) -> None:
    """The limit as it is without any setting."""
    assert quota(fresh.get("/api/auth/me")) == {
        "RateLimit-Policy": "2000;w=900",
        "RateLimit-Limit": "2000",
        "RateLimit-Remaining": "1999",
    }


async def test_r1_41_r1_43_two_gateways_count_together(stack: Any) -> None:
    """The general window and the credential bucket of an address are one for all processes."""
    address = next(_ADDRESSES)

    def attempts(other: str) -> None:
        with client(stack.services["gateway"], address) as one, client(other, address) as two:
            left = [
                int(http.get("/api/auth/me").headers["RateLimit-Remaining"])
                for http in (one, two, one, two)
            ]
            assert left == [left[0] - done for done in range(4)]
            body = {"refreshToken": "x"}
            seen = [
                http.post("/api/auth/refresh", json=body).status_code
                for http in (one, two, one, two, one, two)
            ]
            assert seen == [401] * 6
            for http in (one, two):
                assert http.post("/api/auth/refresh", json=body).status_code == 429

    async with second_gateway(stack) as url:
        await asyncio.to_thread(attempts, url)


def test_r1_43_credentials_are_counted_together(fresh: httpx.Client) -> None:
    """Register, login and refresh, by REST and GraphQL: six at once, the next after 6 s."""
    nobody = f"{uuid.uuid4()}@x.test"
    login = {
        "query": "mutation($i:LoginInput!){login(input:$i){accessToken}}",
        "variables": {"i": {"email": f"{uuid.uuid4()}@x.test", "password": "x"}},
    }
    began = time.monotonic()
    passed = [
        fresh.post("/api/auth/register", json={}),
        fresh.post("/api/auth/login", json={"email": nobody, "password": "x"}),
        fresh.post("/api/auth/refresh", json={"refreshToken": "x"}),
        fresh.post("/graphql", json=login),
        fresh.post("/api/auth/register", json={}),
        fresh.post(
            "/graphql", json={"query": 'mutation{refreshToken(refreshToken:"x"){expiresIn}}'}
        ),
    ]
    assert 429 not in [answer.status_code for answer in passed]
    for refused in (
        fresh.post("/api/auth/register", json={}),
        fresh.post("/api/auth/login", json={"email": nobody, "password": "x"}),
        fresh.post("/api/auth/refresh", json={"refreshToken": "x"}),
        fresh.post("/graphql", json=login),
    ):
        assert time.monotonic() - began < 6, "too slow to judge the burst"
        assert (refused.status_code, refused.json()) == (429, REFUSED)
        assert 1 <= int(refused.headers["Retry-After"]) <= 6
    # Other requests of this address go on, and refusals have not moved the moment.
    assert fresh.get("/api/auth/me").status_code == 401
    time.sleep(max(0.0, began + 6.3 - time.monotonic()))
    assert fresh.post("/api/auth/refresh", json={"refreshToken": "x"}).status_code == 401


def test_r1_45_r6_11_without_redis(stack: Any, thirty: None, fresh: httpx.Client) -> None:
    """The general limiter lets all pass, the credential limiter holds; both count again after."""
    stack.control("redis", "stop")
    try:
        open_ = [fresh.get("/api/auth/me").status_code for _ in range(40)]
        held = [
            fresh.post("/api/auth/refresh", json={"refreshToken": "x"}).status_code
            for _ in range(12)
        ]
    finally:
        stack.control("redis", "start")
    stack.until_ready()
    assert open_ == [401] * 40
    assert held[:6] == [401] * 6
    assert 429 in held[6:]
    give_up = time.monotonic() + 10  # R0.10
    while "RateLimit-Limit" not in fresh.get("/api/auth/me").headers:
        assert time.monotonic() < give_up, "not counted again 10 s after the return of Redis"
        time.sleep(0.05)
    counted = [fresh.get("/api/auth/me").status_code for _ in range(31)]
    assert counted.count(401) <= 30
    assert counted[-1] == 429
