"""The capacity search, the scalability law and the arithmetic of machines."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from loadtests.capacity import cost
from loadtests.capacity.__main__ import main
from loadtests.capacity.conclusion import bracket_of, conclude, steps_of
from loadtests.capacity.law import LEAST_POINTS, Point, TooFewPoints, fit
from loadtests.capacity.machines import (
    REST,
    USED,
    demands,
    for_sockets,
    rate_of_one_consumer,
    rows,
)
from loadtests.capacity.search import Bracket, Seen, search
from loadtests.capacity.step import Gate, Step, judge, seen
from loadtests.capacity.tables import markdown
from loadtests.engine.estimation import Decision, Percentile

GATE = Gate(p95=0.15, errors=0.001, delivered=0.98)


# --- the search ---------------------------------------------------------------------------------


def searched(truth: Callable[[float], Seen], **changes: float) -> tuple[Bracket, list[float]]:
    """The bracket, and the rates that were looked at."""
    looked: list[float] = []

    def look(rate: float) -> Seen:
        looked.append(rate)
        return truth(rate)

    settings = {"start": 100.0, "floor": 12.0, "ceiling": 3200.0, "resolution": 1.1, **changes}
    return search(look, **settings), looked


@pytest.mark.parametrize("highest", [13, 57, 99, 100, 101, 340, 799, 3199])
def test_search_finds_the_highest_rate(highest: float) -> None:
    """Whatever it is, the highest rate lies between the two ends, which are close together."""
    bracket, looked = searched(lambda rate: Seen.MET if rate <= highest else Seen.MISSED)

    assert bracket.met is not None
    assert bracket.missed is not None
    assert bracket.met <= highest < bracket.missed
    assert bracket.missed / bracket.met <= 1.1 or bracket.missed - bracket.met <= 2
    assert len(looked) == len(set(looked)) <= 12


@pytest.mark.parametrize(
    ("truth", "expected"),
    [
        (lambda rate: Seen.MET, Bracket(3200.0, None, False)),
        (lambda rate: Seen.MISSED, Bracket(None, 12.5, False)),
        (lambda rate: Seen.UNTOLD, Bracket(None, 12.5, True)),
    ],
)
def test_search_ends_at_its_bounds(truth: Callable[[float], Seen], expected: Bracket) -> None:
    """Without an end in sight it stops, and says which end it did not see."""
    assert searched(truth)[0] == expected


def test_a_generator_at_its_end_is_told_apart() -> None:
    """Above a rate that the generator cannot do nothing is known."""
    bracket, _ = searched(lambda rate: Seen.MET if rate <= 300 else Seen.UNTOLD)

    assert bracket.met is not None
    assert bracket.met <= 300
    assert bracket.untold


@pytest.mark.parametrize(
    "changes", [{"resolution": 1.0}, {"floor": 0.0}, {"floor": 101.0}, {"ceiling": 99.0}]
)
def test_search_refuses_bounds_that_mean_nothing(changes: dict[str, float]) -> None:
    """Each would loop for ever or look at nothing."""
    with pytest.raises(ValueError, match="expected 0 < floor"):
        searched(lambda rate: Seen.MET, **changes)


# --- the law ------------------------------------------------------------------------------------


def points(
    idle: float, queueing: float, coherency: float, flights: list[float], noise: float = 0.0
) -> list[Point]:
    """Ten seconds at each number in flight, as the law has it; `noise` is relative."""
    random = np.random.default_rng(7)
    found = []
    for flight in flights:
        latency = idle + queueing * flight + coherency * flight * (flight - 1)
        answers = tuple(max(1, round(flight / latency)) for _ in range(10))
        waited = tuple(n * latency * (1 + noise * float(random.standard_normal())) for n in answers)
        found.append(Point(answers=answers, waited=waited))
    return found


FLIGHTS = [0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0]


def test_law_is_recovered() -> None:
    """From points that follow a law, with noise, its parameters and its peak come back."""
    idle, queueing, coherency = 0.004, 0.001, 0.00001
    peak_flight = math.sqrt(idle / coherency)
    peak = peak_flight / (
        idle + queueing * peak_flight + coherency * peak_flight * (peak_flight - 1)
    )

    law = fit(points(idle, queueing, coherency, FLIGHTS, noise=0.02))

    assert law.idle == pytest.approx(idle, rel=0.1)
    assert law.contention == pytest.approx(queueing / (idle + queueing), rel=0.1)
    assert law.crosstalk == pytest.approx(coherency / (idle + queueing), rel=0.25)
    assert law.peak == pytest.approx(peak, rel=0.05)
    low, high = law.peak_interval
    assert low is not None
    assert high is not None
    assert low < peak < high
    assert law.extrapolation == pytest.approx(peak / law.highest_seen, rel=0.05)


def test_one_server_has_its_service_rate_as_peak() -> None:
    """A queue in front of one server, R = S(1 + N), never passes 1 ÷ S; no crosstalk is made up."""
    law = fit(points(0.005, 0.005, 0.0, FLIGHTS))

    assert law.peak == pytest.approx(200.0, rel=0.05)
    assert law.contention == pytest.approx(0.5, abs=0.02)
    assert law.crosstalk < 1e-3


def test_law_without_an_end_says_so() -> None:
    """Latency that does not grow allows no statement about an end."""
    law = fit(points(0.005, 0.0, 0.0, [0.5, 1.0, 1.5, 2.0]))

    assert law.peak is None or law.peak > 20 * law.highest_seen


def test_law_has_no_negative_parts() -> None:
    """Latency that falls with the rate (caches that warm up) is chance, not less than no queue."""
    falling = [
        Point(answers=(rate,) * 10, waited=(rate * latency,) * 10)
        for rate, latency in ((100, 0.012), (200, 0.009), (400, 0.007), (500, 0.006))
    ]

    law = fit(falling)

    assert min(law.idle, law.queueing, law.coherency) >= 0.0
    assert law.idle == pytest.approx(0.0079, rel=0.1)


def test_law_needs_points() -> None:
    """Three unknowns are not fitted to three points."""
    with pytest.raises(TooFewPoints, match="3 rates"):
        fit(points(0.004, 0.001, 0.0, [1.0, 2.0, 3.0]))
    assert LEAST_POINTS == 4


# --- steps --------------------------------------------------------------------------------------


def step(rate: float, p95: float = 0.02, **changes: object) -> Step:
    """A step with two groups, one of them fixed."""
    latency = 0.004 + 0.001 * rate / 200
    sound = Step(
        rate=rate,
        seconds=10.0,
        requests=round(rate * 10),
        errors=0,
        delivered=1.0,
        groups={
            "list": Percentile(share=0.95, value=0.01, low=0.009, high=0.011, n=300),
            "pay": Percentile(share=0.95, value=p95, low=p95 * 0.9, high=p95 * 1.1, n=300),
        },
        point=Point(answers=(round(rate),) * 10, waited=(rate * latency,) * 10),
        cpu={"gateway": rate * 10 * 400e-6, REST: rate * 10 * 2000e-6},
        memory={"gateway": 64 * 2**20},
    )
    return msgspec.structs.replace(sound, **changes)


@pytest.mark.parametrize(
    ("given", "decision", "said"),
    [
        (step(100), Decision.PASS, "p95 pay 20.0 ms"),
        (step(100, 0.2), Decision.FAIL, "p95 pay 200.0 ms"),
        (step(100, 0.15), Decision.UNDECIDED, "p95 pay"),
        (step(100, errors=2), Decision.FAIL, "0.20% errors"),
        (step(100, errors=1), Decision.PASS, "p95"),
        (step(100, delivered=0.97), Decision.FAIL, "97.0% of what was due"),
        (step(100, groups={}), Decision.UNDECIDED, "nothing was answered"),
        (
            step(100, groups={"pay": Percentile(share=0.95, value=0.01, low=0.0, high=0.02, n=58)}),
            Decision.UNDECIDED,
            "58",
        ),
    ],
)
def test_step_is_judged_by_its_worst_group(given: Step, decision: Decision, said: str) -> None:
    """The gate of api-latency, at one rate; too few samples are never a pass."""
    assert judge(given, GATE)[0] is decision
    assert said in judge(given, GATE)[1]
    assert (seen(given, GATE) is Seen.MET) == (decision is Decision.PASS)


def test_generator_at_its_end_tells_nothing() -> None:
    """A good figure of a bad generator is none."""
    assert seen(step(100, generator_faults=("late",)), GATE) is Seen.UNTOLD


def test_rate_met_above_one_that_missed_does_not_count() -> None:
    """Chance may let a higher rate pass; the lowest miss bounds the statement."""
    steps = [step(100), step(200, 0.3), step(400)]

    assert bracket_of(steps, GATE) == Bracket(100, 200, False)


# --- the arithmetic -----------------------------------------------------------------------------


def test_processes_and_machines_follow_from_cpu() -> None:
    """10,000/s × 400 µs ÷ 0.7 is 5.7 processes; with 2,000 µs beside it 34.3 cores."""
    steps = [step(100), step(200), step(400), step(500)]

    found = rows(demands(steps), Bracket(500, 550, False), None, cores=2, targets=[10_000])[0]

    assert found.processes == {"gateway": math.ceil(10_000 * 400e-6 / USED)}
    assert found.cores == pytest.approx(10_000 * 2400e-6 / USED)
    assert found.by_cpu == math.ceil(10_000 * 2400e-6 / USED / 2)
    assert found.by_gate == 20
    assert found.by_law is None
    assert found.times_measured == 20


def test_without_the_whole_machine_no_count_by_cpu() -> None:
    """Parts that tell no CPU are not taken for free."""
    steps = [step(100, cpu={"gateway": 0.4})]

    found = rows(demands(steps), Bracket(100, None, False), None, cores=2)

    assert {row.by_cpu for row in found} == {row.cores for row in found} == {None}


def test_conclusion_shows_its_arithmetic() -> None:
    """Tables of rates, costs, law and machines; as Markdown each row has as many cells."""
    steps = [step(rate) for rate in (100, 200, 400, 500)] + [step(800, 0.4)]

    found = conclude(steps, GATE, cores=2)

    assert found.bracket == Bracket(500, 800, False)
    assert found.costs["gateway"].seconds == pytest.approx(400e-6)
    assert found.law is not None
    assert [row.rate for row in found.rows] == [1_000, 10_000, 100_000]
    assert len(found.tables) == 4
    for table in found.tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}
        assert markdown(table).count("\n") == len(table.rows) + 4


def test_nothing_met_promises_nothing() -> None:
    """Without a rate that met the gate there is no figure, and no infinity either."""
    found = conclude([step(100, 0.3), step(50, 0.3)], GATE, cores=2)

    assert found.bracket == Bracket(None, 50, False)
    assert found.costs == {}
    assert {row[1:] for row in found.tables[-1].rows} == {("–",) * 5}


def test_steps_survive_being_written_down() -> None:
    """A group with few or no answers has no bound, for which JSON has null only."""
    few = Percentile(share=0.95, value=0.2, low=0.1, high=math.inf, n=20)
    none = Percentile(share=0.95, value=math.nan, low=-math.inf, high=math.inf, n=0)
    steps = [step(100), step(200, groups={"list": few, "pay": none})]

    read = steps_of(msgspec.json.decode(msgspec.json.encode({"steps": steps})))

    assert read[0] == steps[0]
    assert read[1].groups["list"] == few
    assert math.isnan(read[1].groups["pay"].value)
    assert judge(read[1], GATE)[0] is Decision.UNDECIDED


def test_sockets_and_events() -> None:
    """A million sockets at 5,000 each, and the rate at which one consumer is at its end."""
    found = for_sockets(1_000_000, each=5_000, kib=17.6, process_mib=62, message_seconds=35e-6)

    assert found.gateways == found.deliveries == 200
    assert found.memory_mib == pytest.approx(200 * 62 + 1_000_000 * 17.6 / 1024)
    assert found.broadcast_seconds == pytest.approx(0.175)
    assert rate_of_one_consumer(0.001, 0.1) == pytest.approx(7_000)


def test_the_command_prints_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run's observation, sockets and events, each as text for the documents."""
    steps = [step(rate) for rate in (100, 200, 400, 500)]
    observation = tmp_path / "observation.json"
    observation.write_bytes(msgspec.json.encode({"gate": GATE, "cores": 2, "steps": steps}))

    assert main(["run", str(observation)]) == 0
    text = capsys.readouterr().out
    assert "| gateway | 400 µs [400 – 400] | 2500 requests/s | 64 MiB |" in text
    assert text.count("**") == 8

    memory = ["--kib", "17.6", "--process-mib", "62", "--message-us", "35"]
    assert main(["sockets", "1000000", "--each", "5000", "--each", "10000", *memory]) == 0
    assert "| 5000 | 200 | 28.9 GiB | 148 MiB | 175 ms | 200 |" in capsys.readouterr().out

    assert main(["events", "--a-second", "1000", "--per-request", "0.1"]) == 0
    assert capsys.readouterr().out == "7000 requests/s\n"


# --- what the parts use -------------------------------------------------------------------------


def used(at: float, gateway: float, machine: float | None, own: float = 0.0) -> cost.Used:
    """A reading."""
    return cost.Used(at=at, cpu={"gateway": gateway}, memory={}, machine=machine, own=own)


def test_what_is_used_at_rest_and_by_the_generator_is_taken_off() -> None:
    """Only what the requests cost is left, of the parts and of the rest of the machine."""
    rest = cost.rates(used(0, 1.0, 10.0), used(10, 1.1, 10.6))
    assert rest == pytest.approx({"gateway": 0.01, REST: 0.05})

    found = cost.spent(used(20, 2.0, 20.0), used(30, 4.0, 30.0, 1.0), rest)

    assert found == pytest.approx({"gateway": 1.9, REST: 6.5})
    busy = {"gateway": 0.01, REST: 1.97}
    assert cost.spent(used(20, 2.0, 20.0), used(30, 4.0, 30.0, 1.0), busy).keys() == {"gateway"}
    assert cost.is_quiet({REST: 0.2}, cores=2)
    assert not cost.is_quiet({REST: 0.21}, cores=2)
    assert cost.spent(used(0, 1.0, None), used(1, 1.5, None), {}) == {"gateway": 0.5}


def test_machine_seconds_are_read_from_the_kernel(tmp_path: Path) -> None:
    """User, nice, system, interrupts; not idle, not waiting, not stolen."""
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 20 30 4000 500 6 4 999 50 0\ncpu0 1 2 3\n", encoding="ascii")

    assert cost.machine_seconds(stat) == pytest.approx(1.6)
    assert cost.machine_seconds(tmp_path / "none") is None
