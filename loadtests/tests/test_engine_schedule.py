"""The engine's due times."""

import math

import numpy as np
import pytest

from loadtests.engine.plan import Arrivals, Schedule
from loadtests.engine.schedule import LiveSchedule, due_times


def test_constant_arrivals_are_evenly_spaced() -> None:
    """50/s for 60 s are 3,000 requests, 20 ms apart, from 0."""
    due = due_times(Schedule(rate=50, seconds=60, arrivals=Arrivals.CONSTANT))
    assert len(due) == 3000
    assert due[0] == 0.0
    assert np.allclose(np.diff(due), 0.02)


def test_poisson_arrivals_hold_rate_count_and_seed() -> None:
    """Exactly rate × seconds arrivals, rising, repeatable, with exponential gaps."""
    schedule = Schedule(rate=200, seconds=50, seed=7)
    due = due_times(schedule)
    assert len(due) == 10_000
    assert (due == due_times(schedule)).all()
    assert (np.diff(due) >= 0).all()
    assert due[0] >= 0
    assert due[-1] < 50
    gaps = np.diff(due)
    # Mean and standard deviation of an exponential distribution are equal.
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.05)
    assert (due != due_times(Schedule(rate=200, seconds=50, seed=8))).any()


def test_live_schedule_follows_its_rate() -> None:
    """A constant live schedule at 10/s, then 100/s from t = 1 s on, is due accordingly."""
    schedule = LiveSchedule(Arrivals.CONSTANT, seed=1)
    assert schedule.next_due == math.inf
    schedule.change_rate(10.0, now=0.0)
    first = [schedule.advance() for _ in range(10)]
    assert first == pytest.approx([0.1 * k for k in range(1, 11)])
    schedule.change_rate(100.0, now=1.0)
    assert [schedule.advance() for _ in range(3)] == pytest.approx([1.01, 1.02, 1.03])


def test_changing_the_live_rate_often_neither_loses_nor_adds() -> None:
    """Setting the same rate a thousand times leaves the arrivals where they were."""
    calm, nervous = (LiveSchedule(Arrivals.POISSON, seed=3) for _ in range(2))
    calm.change_rate(20.0, 0.0)
    nervous.change_rate(20.0, 0.0)
    now = 0.0
    arrivals: list[float] = []
    while len(arrivals) < 40:
        now += 0.003
        while nervous.next_due <= now:
            arrivals.append(nervous.advance())
        nervous.change_rate(20.0, now)
    assert arrivals == pytest.approx([calm.advance() for _ in arrivals])


def test_a_paused_live_schedule_keeps_what_was_left() -> None:
    """Half an interval before a pause is still half an interval after it."""
    schedule = LiveSchedule(Arrivals.CONSTANT, seed=1)
    schedule.change_rate(1.0, 0.0)
    schedule.change_rate(0.0, 0.5)
    assert schedule.next_due == math.inf
    schedule.change_rate(1.0, 10.0)
    assert schedule.next_due == pytest.approx(10.5)
