"""Redis refusing, hanging and back: everything works on without it, and nothing stale follows."""

from __future__ import annotations

import ipaddress
import statistics
import time
from collections.abc import Callable
from functools import partial

import httpx
import pytest

from system.conftest import RunningStack
from system.tests.desks import (
    PROCESSES,
    SERVICES,
    Desk,
    away,
    is_down,
    is_ready,
    new_key,
    pids,
    readiness,
    until,
)

pytestmark = pytest.mark.platform

_READS = 9
# R6.9: at most 250 ms later than usual; after three failures in a row without any waiting.
_LATER_S = 0.25
_FAILURES = 3
# R1.43: six attempts at once, then one every 6 s.
_AT_ONCE = 6
_FEW = 4


def _seen(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.headers.get("X-Cache")


def _is_hit(read: Callable[[str], tuple[int, str | None]], service: str) -> bool:
    return read(service) == (200, "HIT")


def _timed(act: Callable[[], httpx.Response]) -> float:
    began = time.monotonic()
    assert act().status_code == 200
    return time.monotonic() - began


@pytest.mark.parametrize("manner", ["stop", "pause"])
def test_r6_9_redis_is_away_and_returns(well: RunningStack, desk: Desk, manner: str) -> None:
    """Degraded but ready; the same answers, in time, with BYPASS; within 10 s after, as ever."""
    made = desk.write("payments", new_key()).json()["data"]["id"]
    path = f"/api/payments/{made}"

    def read() -> httpx.Response:
        return desk.ask("GET", path)

    before = read().json()
    until(lambda: _seen(read()) == (200, "HIT"), 5)
    usual = statistics.median(_timed(read) for _ in range(_READS))
    processes = pids(well)
    keys = {service: new_key() for service in SERVICES}

    with away(well, "redis", manner):
        for _ in range(_FAILURES):
            answer = read()
            assert (_seen(answer), answer.json()) == ((200, "BYPASS"), before)
        meanwhile = statistics.median(_timed(read) for _ in range(_READS))
        assert meanwhile < usual + _LATER_S
        for process in PROCESSES:
            until(partial(is_down, well, process, "redis"), 5)
            assert readiness(well, process)[0] == 200
        for service, key in keys.items():
            assert desk.write(service, key).is_success
        changed = desk.ask("PATCH", f"{path}/status", "admin", {"status": "processing"})
        assert changed.is_success, changed.text
        assert desk.ask("POST", "/api/auth/login", None, well.account("vendor")).is_success
    assert read().json()["data"]["status"] == "processing"
    until(lambda: _seen(read()) == (200, "HIT"), 10)
    assert read().json()["data"]["status"] == "processing"
    for process in PROCESSES:
        until(partial(is_ready, well, process), 10)

    assert pids(well) == processes
    for service, key in keys.items():
        desk.all_arrived_once(service, [key])


def test_r6_2_services_that_were_idle_while_redis_restarted(well: RunningStack, desk: Desk) -> None:
    """Each answers its next read with MISS and the one after with HIT: nobody asked meanwhile."""
    reads = {
        "auth": ("/api/auth/me", "customer"),
        "payments": ("/api/payments", "customer"),
        "profile": ("/api/profile", "vendor"),
    }

    def read(service: str) -> tuple[int, str | None]:
        path, role = reads[service]
        return _seen(desk.ask("GET", path, role))

    for service in reads:
        until(partial(_is_hit, read, service), 10)
    well.control("redis", "restart")

    seen = {service: [read(service), read(service)] for service in reads}

    assert seen == {service: [(200, "MISS"), (200, "HIT")] for service in reads}


def test_r1_45_limits_without_redis(well: RunningStack) -> None:
    """The general limiter lets everybody pass; the one for credentials stays in force."""
    addresses = ipaddress.ip_network(well.target["addresses"]["limited"])
    transport = httpx.HTTPTransport(local_address=str(addresses.broadcast_address - 2))
    well.restart_with("gateway", {"RATE_LIMIT_MAX": str(_FEW)})
    try:
        with httpx.Client(
            base_url=well.services["gateway"], transport=transport, timeout=10
        ) as somebody:

            def ask() -> int:
                return somebody.get("/api/payments").status_code

            assert [ask() for _ in range(_FEW + 1)] == [401] * _FEW + [429]
            with away(well, "redis"):
                assert [ask() for _ in range(_FEW + 1)] == [401] * (_FEW + 1)
                attempts = [
                    somebody.post("/api/auth/refresh", json={"refreshToken": "x"}).status_code
                    for _ in range(_AT_ONCE + 3)
                ]
            assert attempts[:_AT_ONCE] == [401] * _AT_ONCE
            assert 429 in attempts[_AT_ONCE:]
    finally:
        well.restart("gateway")
