"""All connections of a service's pool busy with slow statements: 503, no 500, and nothing lost."""

from __future__ import annotations

import pytest

from system.conftest import RunningStack
from system.tests.desks import (
    SERVICES,
    Burst,
    Desk,
    accepted_and_refused,
    locked,
    new_key,
    until,
)

pytestmark = pytest.mark.platform

# Three times the ten connections of a pool.
_CROWD = 30


@pytest.mark.parametrize("service", SERVICES)
def test_r1_14_a_pool_is_exhausted(well: RunningStack, desk: Desk, service: str) -> None:
    """Who gets no connection, or no lock in time, is told 503; whoever is told 2xx is kept."""
    with locked(well, service) as blocked:
        burst = Burst(desk, service, _CROWD)
        until(lambda: blocked() > 0, 5)
        until(burst.done, 10)
    taken, turned_away = accepted_and_refused(burst.answers())
    assert len(turned_away) == _CROWD
    assert taken == []
    until(lambda: desk.write(service, new_key()).is_success, 10)
    for key in turned_away:
        assert desk.effects(service, key) == 0

    again = Burst(desk, service, 1)
    assert [answer.is_success for answer in again.answers().values()] == [True]
    for key in turned_away[:5]:
        assert desk.write(service, key).is_success
    desk.all_arrived_once(service, turned_away[:5])


@pytest.mark.parametrize("service", SERVICES)
def test_r1_14_a_pool_is_exhausted_for_a_moment(
    well: RunningStack, desk: Desk, service: str
) -> None:
    """Those who hold a connection when the lock goes are served, though others were turned away."""
    with locked(well, service) as blocked:
        burst = Burst(desk, service, _CROWD)
        until(lambda: blocked() > 0, 5)
        # The first who are answered are those who got no connection: they wait less long.
        until(burst.begun, 5)
    taken, turned_away = accepted_and_refused(burst.answers())

    assert taken
    assert turned_away
    desk.all_arrived_once(service, taken)
    assert {desk.effects(service, key) for key in turned_away} == {0}
