"""Each service's database stopped, frozen and killed: 503 meanwhile, nothing lost, back at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from system.conftest import RunningStack
from system.tests.desks import (
    SERVICES,
    Desk,
    accepted_and_refused,
    away,
    lives,
    new_key,
    pids,
    readiness,
    refused,
    until,
)

pytestmark = pytest.mark.platform

# The shortest time within which the gateway gives an upstream up (R0.16); the service is first.
_UPSTREAM_S = 3.0
_CHECKS = ("database", "redis", "rabbitmq")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("manner", ["stop", "pause"])
def test_r1_14_a_database_is_away_and_returns(
    well: RunningStack, desk: Desk, service: str, manner: str
) -> None:
    """503 with Retry-After while it is away, the others go on; R0.10: works within 10 s after."""
    before, lost = new_key(), new_key()
    assert desk.write(service, before).is_success
    processes = pids(well)
    others = [other for other in SERVICES if other != service]
    kept = {other: new_key() for other in others}

    with away(well, f"postgres-{service}", manner):
        until(lambda: readiness(well, service)[0] == 503, 5)
        assert readiness(well, service)[1]["database"] == "down"
        assert lives(well, service)
        began = time.monotonic()
        refused(desk.write(service, lost))
        assert time.monotonic() - began < _UPSTREAM_S
        refused(desk.read(service))
        for other in others:
            assert readiness(well, other)[0] == 200
            assert desk.write(other, kept[other]).is_success
    until(lambda: desk.write(service, new_key()).is_success, 10)
    until(lambda: readiness(well, service) == (200, dict.fromkeys(_CHECKS, "up")), 10)

    assert desk.effects(service, lost) == 0
    assert desk.write(service, lost).is_success
    assert pids(well) == processes
    desk.all_arrived_once(service, [before, lost])
    for other in others:
        desk.all_arrived_once(other, [kept[other]])


@pytest.mark.parametrize("whose", ["own", "one"])
def test_r6_11_many_log_in_while_auth_db_hangs(well: RunningStack, desk: Desk, whose: str) -> None:
    """Each is told 503 by the service, in time, however many came before it (R1.14, R1.81).

    They come all the while, each with an account of its own, or all with one.
    """

    def attempt(number: int) -> httpx.Response:
        email = f"{'nobody' if whose == 'one' else number}@x.test"
        body = {"email": email, "password": "Wrong-Pass-123!"}
        return desk.ask("POST", "/api/auth/login", None, body)

    with away(well, "postgres-auth", "pause"), ThreadPoolExecutor(40) as pool:
        attempts = []
        for number in range(40):
            attempts.append(pool.submit(attempt, number))
            time.sleep(0.1)
        found = [begun.result() for begun in attempts]
    until(lambda: desk.write("auth", new_key()).is_success, 10)

    for answer in found:
        refused(answer)


@pytest.mark.parametrize("service", SERVICES)
def test_r3_16_a_database_dies_among_writes(well: RunningStack, desk: Desk, service: str) -> None:
    """Killed while writes are under way: each is a success that stands, or 503; no other answer."""
    answers = {}
    over = threading.Event()

    def write_on() -> None:
        while not over.is_set():
            key = new_key()
            answers[key] = desk.write(service, key)

    writers = [threading.Thread(target=write_on) for _ in range(4)]
    for writer in writers:
        writer.start()
    try:
        until(lambda: len(answers) >= 8, 20)
        with away(well, f"postgres-{service}", "kill"):
            until(lambda: not all(answer.is_success for answer in list(answers.values())), 5)
        until(lambda: desk.write(service, new_key()).is_success, 10)
    finally:
        over.set()
        for writer in writers:
            writer.join()

    taken, turned_away = accepted_and_refused(answers)
    assert len(taken) >= 8
    assert turned_away
    desk.all_arrived_once(service, taken, 30)
    for key in turned_away[:20]:
        # A commit whose answer was lost with the server may stand (R1.114 tells the client).
        assert desk.effects(service, key) <= 1
    if service == "payments":
        for key in turned_away[:20]:
            assert desk.write(service, key).is_success
        desk.all_arrived_once(service, turned_away[:20])
