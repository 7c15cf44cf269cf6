"""Measuring in an engine process: samples come back, and no process outlives its caller."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from loadtests.engine import calibration, samples
from loadtests.engine import measure as measuring
from loadtests.engine.__main__ import main
from loadtests.engine.calibration import calibrate, faults_during
from loadtests.engine.estimation import Decision, percentile
from loadtests.engine.extension import measure_until_decided
from loadtests.engine.measure import EngineFailed, measure, run_process
from loadtests.engine.null_endpoint import null_endpoint
from loadtests.engine.plan import Arrivals, Plan, PlanError, Request, Schedule, encode
from loadtests.engine.samples import Measurement, join, read
from loadtests.tests.stand_in import Seen, answer, stand_in

ANY = (Request(method="GET", path="/", group="any"),)


def short_plan(origin: str, ca: str = "", **changes: object) -> Plan:
    """20 requests in 0.4 s."""
    schedule = Schedule(rate=50, seconds=0.4, arrivals=Arrivals.CONSTANT)
    values = {"schedule": schedule, "requests": ANY, "connections": 2, "timeout": 60.0, **changes}
    return Plan(origin=origin, ca=ca, **values)  # type: ignore[arg-type]  # the test's own values


def test_samples_come_back_and_stay_on_disk(tmp_path: Path) -> None:
    """The measurement, the .npz and the .json say the same."""
    with stand_in(tls_folder=tmp_path) as server:
        measurement = measure(short_plan(server.origin, server.ca), tmp_path / "new", "first")
    assert len(measurement) == 20
    assert measurement.ok.all()
    with np.load(tmp_path / "new" / "first.npz") as file:
        assert file["due"].dtype == np.float64
        assert file["status"].dtype == np.int16
        assert file["group"].dtype == np.int16
        assert file["ok"].dtype == np.bool_
        assert set(file["status"]) == {200}
    document = json.loads((tmp_path / "new" / "first.json").read_text())
    assert document["groups"] == ["any"]
    assert document["rate"] == pytest.approx(50)
    assert document["seconds"] == pytest.approx(0.4)
    assert document["started"].endswith("Z")
    assert document["generator"]["cpu_share"] > 0


def test_a_bad_plan_never_reaches_the_engine(tmp_path: Path) -> None:
    """All its faults are said at once."""
    with pytest.raises(PlanError, match="expected http"):
        measure(short_plan("nonsense"), tmp_path, "x")
    assert not list(tmp_path.iterdir())


def test_the_engine_refuses_what_is_no_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and the reason."""
    file = tmp_path / "plan"
    file.write_bytes(b"garbage")
    assert main([str(file), str(tmp_path / "out")]) == 2
    assert "not readable" in capsys.readouterr().err
    assert main([str(tmp_path / "missing"), str(tmp_path / "out")]) == 2


def test_the_engine_runs_in_process_too(tmp_path: Path) -> None:
    """`main` writes the same files."""
    with stand_in() as server:
        (tmp_path / "plan").write_bytes(encode(short_plan(server.origin)))
        assert main([str(tmp_path / "plan"), str(tmp_path / "out")]) == 0
    assert len(read(tmp_path / "out")) == 20


def test_a_process_is_killed_at_its_time_limit() -> None:
    """It neither runs on nor passes."""
    began = time.monotonic()
    with pytest.raises(EngineFailed, match=r"did not end within 0\.5 s and was killed"):
        run_process([sys.executable, "-c", "import time; time.sleep(60)"], 0.5, what="the sleeper")
    assert time.monotonic() - began < 20


def test_a_process_is_killed_when_its_caller_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while measuring leaves no engine behind."""
    marker = tmp_path / "pid"
    program = f"import os, time; open({str(marker)!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    def interrupt(self: object, timeout: float) -> None:
        deadline = time.monotonic() + 20
        while not (marker.exists() and marker.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_process([sys.executable, "-c", program], 60, what="the sleeper")
    with pytest.raises(ProcessLookupError):
        os.kill(int(marker.read_text()), 0)


def test_a_dead_engine_says_why() -> None:
    """Its last words are in the error."""
    program = "import sys; print('no such luck', file=sys.stderr); sys.exit(3)"
    with pytest.raises(EngineFailed, match="code 3, expected 0: no such luck"):
        run_process([sys.executable, "-c", program], 20, what="it")


def test_the_plan_file_is_private_and_gone_afterwards() -> None:
    """It holds tokens."""
    with measuring.plan_file(short_plan("http://localhost:1")) as path:
        assert path.stat().st_mode & 0o077 == 0
    assert not path.exists()


def test_a_freeze_shows_in_the_due_time_and_not_in_the_naive_one(tmp_path: Path) -> None:
    """A server that freezes for 3 s of 15 s: due-time p95 about 2 s, naive p95 small.

    Of 15 s of arrivals 5 % are those of the first 0.75 s of the freeze, so the p95 is the wait
    of a request that was due 0.75 s into it: 2.25 s.
    """
    state = {"begun": 0.0, "frozen": False}

    async def freeze(seen: Seen, writer: asyncio.StreamWriter) -> None:
        state["begun"] = state["begun"] or time.monotonic()
        if not state["frozen"] and time.monotonic() - state["begun"] > 5.0:
            state["frozen"] = True
            time.sleep(3.0)  # noqa: ASYNC251 - the whole server freezes, that is the point
        writer.write(answer())

    with stand_in(freeze) as server:
        plan = Plan(
            origin=server.origin,
            schedule=Schedule(rate=50, seconds=15),
            requests=ANY,
            connections=10,
            max_connections=10,
        )
        measurement = measure(plan, tmp_path, "freeze")
    assert state["frozen"]
    assert measurement.delivered() == 1.0
    due = percentile(measurement.latency(), measurement.due_of(), 0.95)
    naive = percentile(measurement.naive_latency(), measurement.due_of(), 0.95)
    # Wide, because a shared machine adds freezes of its own; the contrast is the promise.
    assert 1.5 < due.value < 4.5
    assert naive.value < min(0.5, due.value / 4)
    assert np.sum(measurement.latency() > 1.0) >= 80  # 2 s × 50/s saw more than a second


def test_a_segment_is_added_until_the_samples_decide(tmp_path: Path) -> None:
    """Two undecided segments are followed by a third, and all lie end to end in one file."""
    decisions = iter([Decision.UNDECIDED, Decision.UNDECIDED, Decision.PASS])
    seen: list[int] = []

    def decide(measurement: Measurement) -> Decision:
        seen.append(len(measurement))
        return next(decisions)

    with stand_in() as server:
        plan = short_plan(server.origin)
        whole, decision = measure_until_decided(
            lambda number: plan, decide, tmp_path, "segments", cap=9
        )
    assert decision is Decision.PASS
    assert seen == [20, 40, 60]
    assert np.allclose(np.diff(whole.due), 0.02)
    assert len(read(tmp_path / "segments")) == 60
    assert {path.stem for path in tmp_path.glob("*.npz")} == {
        "segments",
        "segments-0",
        "segments-1",
        "segments-2",
    }


def test_extension_ends_at_its_cap(tmp_path: Path) -> None:
    """Undecided to the end is undecided."""
    with stand_in() as server:
        plan = short_plan(server.origin)
        whole, decision = measure_until_decided(
            lambda number: plan, lambda m: Decision.UNDECIDED, tmp_path, "s", cap=2
        )
    assert decision is Decision.UNDECIDED
    assert len(whole) == 40


def test_watched_headers_survive_the_joining(tmp_path: Path) -> None:
    """HIT and MISS keep their meaning although each part numbered them in its own way."""
    values = iter(["X-Cache: MISS\r\n", "X-Cache: HIT\r\n", "", "X-Cache: HIT\r\n"] * 5 + 20 * [""])

    async def behave(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(headers=next(values)))

    with stand_in(behave) as server:
        plan = short_plan(server.origin, watch_header="x-cache")
        first, second = (measure(plan, tmp_path, name) for name in ("a", "b"))
    whole = join([second, first])
    assert whole.watched_counts() == {"MISS": 5, "HIT": 10, "": 25}


def test_the_null_endpoint_answers_as_many_bytes_as_asked(tmp_path: Path) -> None:
    """Over TLS, verified, and nothing else than bytes."""
    requests = tuple(
        Request(method=method, path=path, group=path, body=body, expect_status=(status,))
        for method, path, body, status in (
            ("GET", "/bytes/0", None, 200),
            ("POST", "/bytes/70000", b"{}", 200),
            ("GET", "/other", None, 404),
            ("GET", "/bytes/x", None, 404),
        )
    )
    with null_endpoint() as (origin, ca):
        measurement = measure(short_plan(origin, ca, requests=requests), tmp_path, "null")
    assert measurement.ok.all()
    assert measurement.size[:4].tolist() == [0, 70_000, 0, 0]


def test_calibration_measures_the_generator(tmp_path: Path) -> None:
    """At 50/s against a lenient threshold it is fit, against a nanosecond it is not."""
    plan = short_plan("https://somewhere.invalid", schedule=Schedule(rate=50, seconds=60))
    result = calibrate(plan, tmp_path, "calibration", limit=30.0, seconds=2.0)
    assert result.faults == ()
    assert result.p95.n == 100
    assert result.delivered == 1.0
    measurement = read(tmp_path / "calibration")
    strict = calibration.judge(measurement, 1e-9)
    assert len(strict.faults) == 1
    assert "own p95" in strict.faults[0]


def test_calibration_over_plain_http_for_a_plain_origin(tmp_path: Path) -> None:
    """The null endpoint speaks what the target speaks."""
    plan = short_plan("http://somewhere.invalid")
    assert calibrate(plan, tmp_path, "c", limit=30.0, seconds=1.0).delivered == 1.0


def undelivered(measurement: Measurement, share: float) -> Measurement:
    """The measurement with this share of its requests unanswered."""
    lost = round(share * len(measurement))
    arrays = {name: array.copy() for name, array in measurement.arrays().items()}
    arrays["done"][:lost] = np.nan
    arrays["ok"][:lost] = False
    return Measurement(arrays, measurement.summary)


def test_a_generator_that_does_not_deliver_is_unfit(tmp_path: Path) -> None:
    """97 % delivered is too little, whatever the latency; nothing delivered is unfit too."""
    with null_endpoint() as (origin, ca):
        requests = (Request(method="GET", path="/bytes/9", group="a"),)
        plan = short_plan(origin, ca, requests=requests, schedule=Schedule(rate=200, seconds=0.5))
        measurement = measure(plan, tmp_path, "null")
    assert calibration.judge(undelivered(measurement, 0.02), 30.0).faults == ()
    assert "97.0%" in calibration.judge(undelivered(measurement, 0.03), 30.0).faults[0]
    assert len(calibration.judge(undelivered(measurement, 1.0), 30.0).faults) == 2


def with_generator(measurement: Measurement, **changes: object) -> Measurement:
    """The measurement with other words about its generator."""
    generator = msgspec.structs.replace(measurement.summary.generator, **changes)
    summary = msgspec.structs.replace(measurement.summary, generator=generator)
    return Measurement(measurement.arrays(), summary)


def test_a_busy_or_late_generator_is_noticed_during_the_run(tmp_path: Path) -> None:
    """More than 90 % of a core in one second, or late by over 20 % of the threshold."""
    with stand_in() as server:
        measurement = measure(short_plan(server.origin), tmp_path, "x")
    calm = {"p50": 0.1, "p95": 0.2, "p99": 0.3, "max": 1.0}
    good = with_generator(measurement, cpu_share_worst=0.5, lateness_ms=calm)
    assert faults_during(good, 0.15) == ()
    assert "95%" in faults_during(with_generator(good, cpu_share_worst=0.95), 0.15)[0]
    late = with_generator(good, lateness_ms={**calm, "p95": 31.0})
    assert "31 ms late" in faults_during(late, 0.15)[0]


def test_joined_segments_have_the_worst_generator(tmp_path: Path) -> None:
    """A busy first and a late second segment make a busy and late whole."""
    with stand_in() as server:
        measurement = measure(short_plan(server.origin), tmp_path, "x")
    calm = {"p50": 0.1, "p95": 0.2, "p99": 0.3, "max": 1.0}
    good = with_generator(measurement, cpu_share_worst=0.1, lateness_ms=calm)
    busy = with_generator(good, cpu_share_worst=0.95)
    late = with_generator(good, lateness_ms={**calm, "p95": 31.0})
    assert len(faults_during(join([busy, late, good]), 0.15)) == 2
    assert faults_during(join([good, good]), 0.15) == ()


def test_an_incomplete_pair_of_files_is_no_measurement(tmp_path: Path) -> None:
    """Samples without their JSON were never finished."""
    np.savez(tmp_path / "half.npz", due=np.zeros(1))
    with pytest.raises(FileNotFoundError):
        samples.read(tmp_path / "half")
