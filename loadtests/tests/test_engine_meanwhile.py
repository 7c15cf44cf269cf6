"""Load that lasts as long as something else: it flows, ends when told, and never lives on."""

import time
from pathlib import Path

import pytest

from loadtests.engine.meanwhile import SteadyLoad
from loadtests.engine.measure import EngineFailed
from loadtests.engine.plan import Arrivals, Plan, PlanError, Request, Schedule
from loadtests.engine.samples import read
from loadtests.tests.stand_in import stand_in

ANY = (Request(method="GET", path="/", group="any"),)


def plan(origin: str) -> Plan:
    """100 requests a second; its second is not what ends it."""
    schedule = Schedule(rate=100, seconds=0.01, arrivals=Arrivals.CONSTANT)
    return Plan(origin=origin, schedule=schedule, requests=ANY, connections=2, timeout=10.0)


def test_it_flows_until_it_is_ended(tmp_path: Path) -> None:
    """The samples are those of the whole time, and lie on disk as after any measurement."""
    with stand_in() as server, SteadyLoad(plan(server.origin), tmp_path, "meanwhile") as load:
        load.wait_until_flowing()
        time.sleep(1.0)  # something that takes a second, which is what the load lies around
        measured = load.end()

    assert len(measured) >= 90
    assert measured.ok.all()
    assert len(read(tmp_path / "meanwhile")) == len(measured)


def test_nobody_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load that never flowed is no load."""
    monkeypatch.setattr("loadtests.engine.meanwhile._START", 0.5)
    with (
        SteadyLoad(plan("http://127.0.0.1:1"), tmp_path, "nobody") as load,
        pytest.raises(EngineFailed, match=r"no request was answered in 0\.5 s"),
    ):
        load.wait_until_flowing()


def test_it_is_killed_when_the_block_is_left(tmp_path: Path) -> None:
    """Whatever happened in it; nothing was written."""
    with stand_in() as server, SteadyLoad(plan(server.origin), tmp_path, "killed") as load:
        load.wait_until_flowing()
        process = load._process

    assert process is not None
    assert process.poll() is not None
    assert list(tmp_path.iterdir()) == []


def test_a_bad_plan_starts_nothing(tmp_path: Path) -> None:
    """All its faults are said at once."""
    with pytest.raises(PlanError, match="expected http"):
        SteadyLoad(plan("nonsense"), tmp_path, "x")
