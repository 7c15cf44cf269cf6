"""Schemathesis' process never outlives the one that asked for it, and its failure is told."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from harness.probe import CouldNotObserve
from security import contract_fuzzing
from security.contract_fuzzing import People, Plan
from security.contract_settings import Person

# Starts a process of its own, says both ids, and goes on for longer than any test.
_ENDLESS = """
import os, subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
with open(sys.argv[1] + ".new", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A plan over one operation."""
    somebody = [Person(f"id-{n}", f"{n}@trial.invalid", "secret") for n in range(5)]
    return Plan(
        document={"openapi": "3.1.0", "paths": {"/api/admin/users/{id}": {"delete": {}}}},
        origin="https://localhost:9",
        ca="/ca.pem",
        address="127.0.0.2",
        prefix="trial-x",
        people=People(*somebody),
        protected=(),
        examples=5,
        most=5,
        time_limit=60,
        journal=tmp_path / "journal",
    )


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("raised", [KeyboardInterrupt, CouldNotObserve])
def test_whatever_is_raised_ends_it_and_all_it_started(
    raised: type[BaseException], plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C, a time limit: neither the process nor its children are left."""
    pids = tmp_path / "pids"
    command = (sys.executable, "-c", _ENDLESS, str(pids))
    monkeypatch.setattr(contract_fuzzing, "COMMAND", command)

    def interrupt(*given: Any) -> None:
        while not pids.exists():
            os.sched_yield()
        raise raised

    monkeypatch.setattr(contract_fuzzing, "_watch", interrupt)
    with pytest.raises(raised):
        contract_fuzzing.observe(plan, lambda text: None)

    ours, theirs = map(int, pids.read_text().split())
    assert not _is_alive(ours)
    for _ in range(1000):  # its parent is gone; it ends as soon as the system comes to it
        if not _is_alive(theirs):
            break
        os.sched_yield()
    assert not _is_alive(theirs)


def test_a_time_limit_is_a_reason(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how long was waited."""
    monkeypatch.setattr(contract_fuzzing, "COMMAND", ("sleep", "600"))

    with pytest.raises(CouldNotObserve, match="did not end within 0 s"):
        contract_fuzzing.observe(
            Plan(**{name: getattr(plan, name) for name in plan.__struct_fields__}
                 | {"time_limit": 0}),
            lambda text: None,
        )  # fmt: skip


def test_a_process_that_breaks_is_told_without_secrets(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of its output is the reason."""
    script = "print('it broke, token=abcdefgh'); raise SystemExit(2)"
    monkeypatch.setattr(contract_fuzzing, "COMMAND", (sys.executable, "-c", script))

    with pytest.raises(CouldNotObserve, match="code 2, expected 0 or 1: it broke") as told:
        contract_fuzzing.observe(plan, lambda text: None)

    assert "abcdefgh" not in str(told.value)


def test_each_operation_has_its_asker(plan: Plan) -> None:
    """What lies behind the administrator's role is asked by the administrator of the run."""
    settings = contract_fuzzing._settings(plan)

    assert settings.identities == {"DELETE /api/admin/users/{id}": "id-2"}
    assert {"id-0", "1@trial.invalid", "id-2"} <= set(settings.protected)
    assert settings.parent == os.getpid()


def test_the_configuration_is_what_was_decided(plan: Plan) -> None:
    """Fixed seed, peers, every failure looked at, no second worker, two checks left out."""
    configuration = tomllib.loads(contract_fuzzing._configuration(plan))

    assert configuration["seed"] == contract_fuzzing.SEED
    assert configuration["continue-on-failure"] is True
    assert configuration["auth"]["wfc"]["peers"] == ["id-0", "id-1"]
    assert "workers" not in configuration
    (deletions,) = configuration["operations"]
    assert deletions["include-method"] == "DELETE"
    assert deletions["phases"]["fuzzing"]["extra-data-sources"] == {"responses": False}
    assert {name for name, check in configuration["checks"].items() if not check["enabled"]} == {
        "unsupported_method",
        "allow_header_conformance",
    }
