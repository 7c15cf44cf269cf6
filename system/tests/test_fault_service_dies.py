"""A service is killed among writes: each is whole or not there, and none is lost or told twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from system.conftest import RunningStack
from system.tests.desks import SERVICES, Desk, away, new_key, until

pytestmark = pytest.mark.platform

WRITERS = 12
# How often a write's own row is there; a profile keeps the last change only.
ROWS = {
    "auth": "SELECT count(*) FROM users WHERE email = %s || '@x.test'",
    "payments": "SELECT count(*) FROM payments WHERE description = %s",
    "admin": "SELECT count(*) FROM system_config WHERE key = %s",
}


def rows(stack: RunningStack, service: str, key: str) -> int:
    """How often a write is in the database itself."""
    with psycopg.connect(stack.database(service)) as db:
        found = db.execute(ROWS[service].encode(), [key]).fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.parametrize("service", SERVICES)
def test_r3_16_a_service_dies_among_writes(well: RunningStack, desk: Desk, service: str) -> None:
    """Never a change without its event nor the other way round; what was accepted is there."""
    answers: dict[str, int] = {}

    def write_until_it_fails() -> None:
        going_on = True
        while going_on:
            key = new_key()
            try:
                answers[key] = desk.write(service, key).status_code
            except httpx.RemoteProtocolError:
                answers[key] = 0  # it died between the head of its answer and the rest
            going_on = 200 <= answers[key] < 300

    with ThreadPoolExecutor(WRITERS) as pool:
        for _ in range(WRITERS):
            pool.submit(write_until_it_fails)
        until(lambda: len(answers) >= 2 * WRITERS, 20)
        well.control(service, "kill")
    well.control(service, "start")

    well.until_ready(60)
    accepted = [key for key, status in answers.items() if 200 <= status < 300]
    assert len(answers) == len(accepted) + WRITERS, "all writers met its death"
    assert set(answers.values()) <= {0, 200, 201, 502, 503, 504}
    written = [key for key in answers if desk.effects(service, key)]
    assert set(accepted) <= set(written)
    if service in ROWS:
        assert {key: rows(well, service, key) for key in answers} == {
            key: desk.effects(service, key) for key in answers
        }
    desk.all_arrived_once(service, written, 30)


@pytest.mark.parametrize("service", SERVICES)
def test_r3_17_a_service_dies_with_events_unpublished(
    well: RunningStack, desk: Desk, service: str
) -> None:
    """Its next process publishes what the broker never got, or never confirmed."""
    with away(well, "rabbitmq", "pause"):
        keys = [new_key() for _ in range(20)]
        for key in keys:
            assert desk.write(service, key).is_success
        assert desk.waiting(service) >= len(keys)
        well.control(service, "kill")
    well.control(service, "start")

    well.until_ready(60)
    desk.all_arrived_once(service, keys, 30)
    until(lambda: desk.has_published(service), 10)
