"""The whole platform comes up, is what the contract says, and leaves nothing when it ends."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from system.conftest import RunningStack
from system.stack import acts, process, rolling
from system.stack.native import Stack
from system.stack.parts import PARTS, PROGRAMS, SERVICES, TITLED_PROGRAMS, with_members
from system.stack.state import PROJECT, StateFolder

pytestmark = pytest.mark.platform

_MOST_MEMORY = 1.5e9  # bytes, all parts together


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Iterator[StateFolder]:
    """The state folder of a stack that only this test starts; ended whatever happens."""
    state = StateFolder(f"test-{os.getpid()}-{request.node.name[:40]}")
    yield state
    Stack(state.name).down()


def test_every_part_is_ready_and_the_whole_is_small(stack: RunningStack) -> None:
    """Twelve parts, each ready, together below 1.5 GB."""
    states = stack.states()

    assert {state.part: state.state for state in states} == dict.fromkeys(PARTS, "ready")
    assert 100e6 < sum(state.memory for state in states) < _MOST_MEMORY


def test_the_target_file_is_for_its_owner_only(stack: RunningStack) -> None:
    """It holds passwords."""
    assert stack.folder.joinpath("target.toml").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_enters_its_own_database_only(stack: RunningStack, service: str) -> None:
    """R0.19: neither another cluster, nor another database, nor the schema."""
    access = stack.target["access"]["db"]
    own_url = access[service]["service_url"]
    with psycopg.connect(own_url) as session:
        facts = session.execute(
            "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        assert facts == (False, False, False)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("CREATE TABLE intruder (id int)")

    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
        psycopg.connect(own_url.replace(f"/{service}_db", "/postgres"))
    for other in SERVICES:
        if other != service:
            place = access[other]["url"].rpartition("@")[2]
            with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
                psycopg.connect(f"{own_url.rpartition('@')[0]}@{place}")


def test_servers_are_as_durable_as_in_production(stack: RunningStack) -> None:
    """What is fast in tests only would prove nothing (R0.6, R3.51)."""
    with psycopg.connect(stack.database("payments")) as session:
        settings = session.execute(
            "SELECT current_setting('fsync'), current_setting('synchronous_commit')"
        ).fetchone()

    assert settings == ("on", "on")


def test_a_part_comes_back_where_it_was(stack: RunningStack) -> None:
    """By the command of the target file, from another process; others go on meanwhile."""
    control = stack.target["control"]["redis"]
    began = time.monotonic()
    subprocess.run(control["stop"], shell=True, check=True)
    assert {state.part for state in stack.states() if state.pid == 0} == {"redis"}

    subprocess.run(control["start"], shell=True, check=True)

    assert time.monotonic() - began < 30.0
    stack.until_ready()


@pytest.mark.parametrize("moment", ["folder", "first process", "most processes"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_whatever_ends_up_half_way_nothing_stays(
    stack: RunningStack, own: StateFolder, how: signal.Signals, moment: str
) -> None:
    """Killed: `down` ends what it started. Interrupted: it does so itself. Neighbours go on."""
    starting = subprocess.Popen(
        [sys.executable, "-m", "system", "--stack", own.name, "up"],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    _wait_for(own, moment)
    starting.send_signal(how)
    said, _ = starting.communicate(timeout=60)
    if how is signal.SIGKILL:
        subprocess.run(
            [sys.executable, "-m", "system", "--stack", own.name, "down"], cwd=PROJECT, check=True
        )
    else:
        assert starting.returncode == 130, said.decode()

    assert not list(process.belonging(own.path, own.marker, TITLED_PROGRAMS))
    assert not own.path.exists()
    assert not own.pointer.exists()
    stack.until_ready()


def _wait_for(own: StateFolder, moment: str) -> None:
    """Wait until the start has got as far as ``moment``."""
    deadline = time.monotonic() + 60.0
    processes = {"folder": 0, "first process": 1, "most processes": 5}[moment]
    while not (own.path / "stack.json").exists() or _started(own) < processes:
        assert time.monotonic() < deadline, f"`up` did not get to: {moment}"
        time.sleep(0.005)


def _started(own: StateFolder) -> int:
    return len(list(own.path.glob("run/*.pid")))


def test_the_target_file_says_what_runs(stack: RunningStack) -> None:
    """Its commands name this stack, and its files are there."""
    written: dict[str, Any] = tomllib.loads(stack.folder.joinpath("target.toml").read_text())

    assert written == stack.target
    assert Path(written["http"]["ca"]).is_file()
    assert Path(written["access"]["logs"]["folder"], "auth.log").is_file()


def test_two_of_each_are_restarted_while_they_serve(own: StateFolder) -> None:
    """Every member is ready and known to the others; a rolling restart is never noticed."""
    stack = Stack(own.name, replicas=2, progress=lambda _: None)
    stack.up()
    expected = with_members(PARTS, own.read()["ports"])
    assert len(expected) == len(PARTS) + len(PROGRAMS)
    assert {state.part: state.state for state in stack.status()} == dict.fromkeys(expected, "ready")
    target = tomllib.loads(stack.target_file.read_text(encoding="utf-8"))
    before = {member: own.process_of(member) for member in ("gateway-1", "gateway-2", "profile-1")}

    statuses: set[int] = set()
    done = threading.Event()

    def ask() -> None:
        exempt = httpx.HTTPTransport(
            verify=ssl.create_default_context(cafile=target["http"]["ca"]),
            local_address=target["addresses"]["exempt"][0],
        )
        with httpx.Client(transport=exempt, base_url=target["http"]["origin"]) as client:
            while not done.is_set():
                statuses.add(client.get("/health/ready").status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        restarted = [member for member, _ in rolling.restart(own, ("gateway",), acts)]
    finally:
        done.set()
        asking.join()

    assert restarted == ["gateway-1", "gateway-2"]
    assert statuses == {200}
    after = {member: own.process_of(member) for member in before}
    assert {member for member in after if after[member] != before[member]} == set(restarted)
