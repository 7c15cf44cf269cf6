"""The limit zones: exact bursts, honest refusals, addresses and zones apart (R5.17-R5.21)."""

from __future__ import annotations

import itertools
import time

import pytest

from system.edge.render import LIMITS, security_headers
from system.edge.tests.stand_in import EXEMPT, Edge

_addresses = (f"127.0.3.{last}" for last in itertools.count(1))

ZONES = [
    ("auth", "POST", "/api/auth/login", 6, "6"),
    ("auth", "POST", "/api/auth/refresh/", 6, "6"),
    ("auth", "POST", "/api//auth/%6cogin", 6, "6"),
    ("api", "GET", "/api/payments", 21, "1"),
    ("api", "GET", "/health", 21, "1"),
    ("api", "GET", "/ws", 21, "1"),
    ("api", "POST", "/graphql", 21, "1"),
    ("static", "GET", "/", 101, "1"),
    ("static", "GET", "/metrics", 101, "1"),
    ("static", "OPTIONS", "/mfe/auth/remoteEntry.js", 101, "1"),
]


def statuses(edge: Edge, address: str, method: str, path: str, count: int) -> list[int]:
    """The statuses of so many requests sent at once on one connection."""
    ask = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()
    last = ask.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    answers = edge.raw(ask * (count - 1) + last, address)
    return [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:] if part[:3].isdigit()]


@pytest.mark.parametrize(("zone", "method", "path", "at_once", "wait"), ZONES)
def test_r5_17_r5_18_r5_19_r5_21_burst_is_exact(
    edge: Edge, zone: str, method: str, path: str, at_once: int, wait: str
) -> None:
    """From idle exactly burst + 1 pass; the next gets 429 with the zone's Retry-After."""
    address = next(_addresses)
    limit = LIMITS[zone]
    started = time.monotonic()
    seen = statuses(edge, address, method, path, at_once + 20)

    passed = len([status for status in seen if status != 429])
    assert len(seen) == at_once + 20
    given_back = (time.monotonic() - started) * limit.per_minute / 60
    assert at_once <= passed <= at_once + given_back
    with edge.client(address) as client:
        refused = next(
            r for r in iter(lambda: client.request(method, path), None) if r.status_code == 429
        )
    assert refused.json() == {
        "success": False,
        "error": {
            "code": "RATE_LIMIT_EXCEEDED",
            "message": "Too many requests, please try again later",
        },
    }
    assert refused.headers.get_list("retry-after") == [wait]
    for name, value in security_headers(edge.settings).items():
        assert refused.headers.get_list(name) == [value]


def test_r5_21_zones_and_addresses_count_apart(edge: Edge) -> None:
    """Who is refused in one zone goes on in the others, and others go on everywhere."""
    address = next(_addresses)
    assert 429 in statuses(edge, address, "POST", "/api/auth/login", 10)

    assert statuses(edge, address, "GET", "/api/x", 3) == [200] * 3
    assert statuses(edge, address, "GET", "/", 3) == [200] * 3
    assert statuses(edge, next(_addresses), "POST", "/api/auth/login", 3) == [200] * 3


def test_r5_20_forged_address_does_not_help(edge: Edge) -> None:
    """The key is the peer; what headers claim changes nothing."""
    address = next(_addresses)
    assert 429 in statuses(edge, address, "POST", "/api/auth/login", 10)
    with edge.client(address) as client:
        for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
            assert client.post("/api/auth/login", headers={name: EXEMPT}).status_code == 429


def test_r5_20_exempt_address(edge: Edge) -> None:
    """An address in RATE_LIMIT_EXEMPT is not limited in any zone (R5.20)."""
    for _zone, method, path, at_once, _wait in ZONES:
        assert 429 not in statuses(edge, EXEMPT, method, path, at_once + 20)
