"""Locust drives the engine: the same rate, the same figures, and nothing left behind."""

import ast
import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtests.engine.measure import ROOT, measure, process_environment
from loadtests.engine.plan import Arrivals, Plan, Request, Schedule, encode
from loadtests.engine.samples import read
from loadtests.tests.stand_in import Behaviour, Seen, StandIn, answer, stand_in

USERS, STEPS, SECONDS = 20, 2.0, 8
RATE = USERS * STEPS


def plan_for(server: StandIn) -> Plan:
    """Two groups; a journey of two requests."""
    return Plan(
        origin=server.origin,
        ca=server.ca,
        schedule=Schedule(rate=RATE, seconds=SECONDS, arrivals=Arrivals.CONSTANT),
        requests=(
            Request(method="GET", path="/list", group="list"),
            Request(method="POST", path="/create", group="create", expect_status=(201,)),
        ),
        connections=10,
        journey_steps=STEPS,
    )


def answering() -> Behaviour:
    """Answers after 30 ms, lists twice as slowly."""

    async def behave(seen: Seen, writer: asyncio.StreamWriter) -> None:
        create = seen.method == "POST"
        await asyncio.sleep(0.03 if create else 0.06)
        writer.write(answer(b"x" * 100, status=201 if create else 200))

    return behave


def run_locust(folder: Path, *options: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
    """Locust headless, from the project's root."""
    command = [
        *(sys.executable, "-m", "locust", "-f", "loadtests", "--headless"),
        *("--json-file", str(folder / "locust"), "--samples", str(folder / "samples")),
        *options,
    ]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**process_environment(), "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        **keywords,
    )


def write_plan(server: StandIn, folder: Path) -> str:
    """The plan as a file."""
    file = folder / "plan"
    file.write_bytes(encode(plan_for(server)))
    return str(file)


def rounded_by_locust(milliseconds: float) -> float:
    """How Locust keeps a response time: three, then two significant figures."""
    if milliseconds < 100:
        return round(milliseconds)
    return round(milliseconds, -1) if milliseconds < 1000 else round(milliseconds, -2)


def quantile_of(histogram: dict[str, int], share: float) -> float:
    """A quantile of Locust's own histogram of response times."""
    values = np.repeat([float(key) for key in histogram], list(histogram.values()))
    return float(np.quantile(np.sort(values), share, method="inverted_cdf"))


def test_locust_and_the_engine_reach_the_same_rate_and_figures(tmp_path: Path) -> None:
    """Locust headless shows exactly the engine's samples, at the rate a direct run reaches."""
    with stand_in(answering(), tls_folder=tmp_path) as server:
        plan_file = write_plan(server, tmp_path)
        direct = measure(plan_for(server), tmp_path, "direct")
        done = run_locust(
            tmp_path,
            *("--plan", plan_file, "--run-time", f"{SECONDS + 2}s"),
            *("--users", str(USERS), "--spawn-rate", "100"),
        )
    assert done.returncode == 0, done.stderr[-3000:]
    (samples,) = (tmp_path / "samples").glob("*.npz")
    driven = read(samples.with_suffix(""))
    shown = {entry["name"]: entry for entry in json.loads((tmp_path / "locust.json").read_text())}

    # Every sample of the engine is in Locust's statistics, group by group, in its rounding.
    assert set(shown) == {"list", "create"}
    for group, entry in shown.items():
        latency = driven.latency(group) * 1e3
        assert entry["num_requests"] == len(latency)
        assert entry["num_failures"] == 0
        for share in (0.5, 0.95):
            truth = rounded_by_locust(float(np.quantile(latency, share, method="inverted_cdf")))
            assert quantile_of(entry["response_times"], share) == pytest.approx(truth, abs=1.0)

    # And the rate is the same as without Locust.
    def rate(due: np.ndarray) -> float:
        settled = due[due > 1.0]  # users are spawned during the first second
        return float((len(settled) - 1) / (settled[-1] - settled[0]))

    assert rate(direct.due) == pytest.approx(RATE, rel=0.01)
    assert rate(driven.due) == pytest.approx(RATE, rel=0.02)
    assert len(driven) >= RATE * SECONDS * 0.8
    # And so are the medians, as far as the machine stands still in neither run.
    noise = sum(m.summary.generator.lateness_ms["p95"] for m in (direct, driven))
    for group, least in (("create", 30.0), ("list", 60.0)):
        first, second = (float(np.median(m.latency(group))) * 1e3 for m in (direct, driven))
        assert min(first, second) >= least
        assert first == pytest.approx(second, abs=10.0 + 2 * noise)


def test_failures_are_shown_with_their_reason(tmp_path: Path) -> None:
    """A target that answers 500 fails every request in Locust too, and its exit code says so."""

    async def behave(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(status=500))

    with stand_in(behave) as server:
        done = run_locust(
            tmp_path,
            *("--plan", write_plan(server, tmp_path), "--run-time", "5s"),
            *("--users", "5", "--spawn-rate", "100", "--csv", str(tmp_path / "table")),
        )
    assert done.returncode == 1
    assert "status (status 500)" in (tmp_path / "table_failures.csv").read_text()
    shown = json.loads((tmp_path / "locust.json").read_text())
    assert all(entry["num_failures"] == entry["num_requests"] > 0 for entry in shown)


SLOW_ENGINES = """
import sys, time
if "loadtests.engine" in sys.orig_argv:
    time.sleep(4)
"""


def test_two_workers_share_the_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --processes 2 two engines send; together they reach the rate.

    Though the master does not wait until its workers are prepared.
    """
    (tmp_path / "sitecustomize.py").write_text(SLOW_ENGINES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with stand_in(answering()) as server:
        done = run_locust(
            tmp_path,
            *("--plan", write_plan(server, tmp_path), "--run-time", "30s"),
            *("--users", str(USERS), "--spawn-rate", "100", "--processes", "2"),
        )
    assert done.returncode == 0, done.stderr[-3000:]
    files = list((tmp_path / "samples").glob("*.npz"))
    assert len(files) == 2
    parts = [read(file.with_suffix("")) for file in files]
    assert all(part.ok.all() for part in parts)
    rates = [(len(part) - 1) / (part.due[-1] - part.due[0]) for part in parts]
    assert rates == pytest.approx([RATE / 2] * 2, rel=0.15)


def test_without_a_target_locust_says_what_it_needs(tmp_path: Path) -> None:
    """Exit code 2 and the two options that would help."""
    done = run_locust(tmp_path, "--users", "1", "--run-time", "20s")
    assert done.returncode == 2
    assert "--target FILE" in done.stderr
    assert "--plan FILE" in done.stderr


def test_an_engine_that_dies_ends_the_run(tmp_path: Path) -> None:
    """A plan that is no plan is an error, not an empty green run."""
    (tmp_path / "plan").write_bytes(b"garbage")
    done = run_locust(tmp_path, "--plan", str(tmp_path / "plan"), "--run-time", "20s")
    assert done.returncode == 2
    assert "not readable" in done.stderr


def test_no_module_bears_a_name_of_the_standard_library() -> None:
    """``locust -f loadtests`` loads every module under its bare name and would replace it."""
    modules = [p for p in (ROOT / "loadtests").rglob("*.py") if not p.name.startswith("_")]
    assert modules
    clashes = {p.stem for p in modules} & set(sys.stdlib_module_names)
    assert not clashes


def test_no_module_does_anything_when_it_is_loaded() -> None:
    """For the same reason: on the top level only definitions, constants and guarded mains."""
    allowed = (
        *(ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
        *(ast.Assign, ast.AnnAssign, ast.If, ast.Expr),
    )
    for path in (ROOT / "loadtests").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            assert isinstance(node, allowed), f"{path}:{node.lineno}"
            if isinstance(node, ast.Expr):
                assert isinstance(node.value, ast.Constant), f"{path}:{node.lineno}"
