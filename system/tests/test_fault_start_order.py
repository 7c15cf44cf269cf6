"""Every process starts while all it depends on is down, and finds each dependency by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import httpx
import pytest

from system.conftest import RunningStack
from system.stack.parts import DATABASES
from system.tests.desks import (
    PROCESSES,
    SERVICES,
    Desk,
    is_ready,
    is_up,
    lives,
    new_key,
    pids,
    readiness,
    until,
)

pytestmark = pytest.mark.platform

_BACKING = ("redis", "rabbitmq", *DATABASES)
# R0.10: seconds until a process has found what came back.
_FOUND_S = {"rabbitmq": 15.0}
_OTHERWISE_S = 10.0


@contextmanager
def everything_down(stack: RunningStack) -> Iterator[None]:
    """All parts ended; started again in their usual order if the test does not get so far."""
    for part in ("edge", "gateway", *SERVICES, *_BACKING):
        stack.control(part, "stop")
    try:
        yield
    finally:
        for part in (*_BACKING, *SERVICES, "gateway", "edge"):
            stack.control(part, "start")


def test_r0_10_processes_start_before_what_they_need(well: RunningStack, desk: Desk) -> None:
    """Edge, gateway, services, Redis, broker, databases: started in the order nobody wants."""
    with everything_down(well):
        for part in ("edge", "gateway", *SERVICES):
            well.control(part, "start")
        started = pids(well)
        for process in PROCESSES:
            assert lives(well, process)
        for service in SERVICES:
            status, checks = readiness(well, service)
            assert (status, set(checks.values())) == (503, {"down"})
        answer = httpx.post(
            f"{well.services['gateway']}/api/auth/login", json=well.account("vendor"), timeout=10
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")

        for part in _BACKING:
            well.control(part, "start")
            name, users = _whose(part)
            began = time.monotonic()
            for process in users:
                left = began + _FOUND_S.get(part, _OTHERWISE_S) - time.monotonic()
                until(partial(is_up, well, process, name), left)
        for process in PROCESSES:
            until(partial(is_ready, well, process), _OTHERWISE_S)
        until(
            lambda: desk.ask("POST", "/api/auth/login", None, well.account("vendor")).is_success,
            _OTHERWISE_S,
        )
        for service in SERVICES:
            key = new_key()
            until(partial(desk.succeeds, service, key), _OTHERWISE_S)
            desk.all_arrived_once(service, [key], _FOUND_S["rabbitmq"])

        assert pids(well) == started


def _whose(part: str) -> tuple[str, tuple[str, ...]]:
    """A check's name, and the processes that have it."""
    if part in DATABASES:
        return "database", (part.removeprefix("postgres-"),)
    return part, PROCESSES


@pytest.mark.parametrize("service", SERVICES)
def test_r0_10_a_service_starts_without_its_database_only(
    well: RunningStack, desk: Desk, service: str
) -> None:
    """Lives, is not ready, and works within 10 s of the database's start."""
    key = new_key()
    well.control(f"postgres-{service}", "stop")
    try:
        well.control(service, "restart")
        assert lives(well, service)
        assert readiness(well, service)[0] == 503
    finally:
        well.control(f"postgres-{service}", "start")
    until(lambda: desk.write(service, key).is_success, _OTHERWISE_S)

    desk.all_arrived_once(service, [key])
