"""One rate of the search: what was seen at it, and whether it meets the gate."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from loadtests.capacity.law import Point
from loadtests.capacity.search import Seen
from loadtests.engine.estimation import Decision, Percentile, enough_samples, percentile
from loadtests.engine.samples import Measurement

SHARE = 0.95
KEPT_UP = 0.98  # of what was due was answered; with less, a line grows and no mean stands


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What a rate has to meet: api-latency's.

    Attributes:
        p95: seconds, of each group.
        errors: largest share of requests without their contracted answer.
        delivered: least share of what was due.
    """

    p95: float
    errors: float
    delivered: float


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen at one rate.

    Attributes:
        rate: requests due a second.
        seconds: length of the schedule.
        requests: due in all.
        errors: those without their contracted answer.
        delivered: share of those due that were answered.
        groups: the p95 of each group's successes, seconds.
        point: second by second, for the law.
        cpu: CPU seconds of each part over the step, less what it uses at rest.
        memory: resident bytes of each part afterwards, all its members.
        generator_faults: why the generator cannot tell; empty when it can.
    """

    rate: float
    seconds: float
    requests: int
    errors: int
    delivered: float
    groups: dict[str, Percentile]
    point: Point
    cpu: dict[str, float] = {}
    memory: dict[str, float] = {}
    generator_faults: tuple[str, ...] = ()

    @property
    def throughput(self) -> float:
        """Answers a second."""
        return sum(self.point.answers) / max(1, len(self.point.answers))

    @property
    def worst(self) -> str:
        """The group with the worst upper bound."""
        return max(self.groups, key=lambda group: self.groups[group].high, default="")

    @property
    def kept_up(self) -> bool:
        """Whether the platform answered as fast as requests came."""
        return self.delivered >= KEPT_UP


def summarise(
    measurement: Measurement,
    *,
    rate: float,
    seconds: float,
    cpu: Mapping[str, float],
    memory: Mapping[str, float],
    faults: tuple[str, ...],
) -> Step:
    """What a measurement says about its rate; arguments as the attributes of `Step`."""
    end = max(1, int(np.ceil(float(measurement.due[-1])))) if len(measurement) else 1
    place = measurement.due_of().astype(int)
    latency = measurement.latency()
    return Step(
        rate=rate,
        seconds=seconds,
        requests=len(measurement),
        errors=measurement.errors(),
        delivered=measurement.delivered(),
        groups={
            group: percentile(measurement.latency(group), measurement.due_of(group), SHARE)
            for group in measurement.summary.groups
        },
        point=Point(
            answers=tuple(int(n) for n in np.bincount(place, minlength=end)),
            waited=tuple(float(w) for w in np.bincount(place, weights=latency, minlength=end)),
        ),
        cpu=dict(cpu),
        memory=dict(memory),
        generator_faults=faults,
    )


def judge(step: Step, gate: Gate) -> tuple[Decision, str]:
    """Whether the rate meets the gate, with the figure that decides.

    A group's interval decides. What makes the p95 of some group miss, or errors, or a line that
    grows, is a FAIL; an interval that holds the limit, or too few samples, is UNDECIDED.
    """
    share = step.errors / max(1, step.requests)
    if step.delivered < gate.delivered:
        return Decision.FAIL, f"{step.delivered:.1%} of what was due was answered"
    if share > gate.errors:
        return Decision.FAIL, f"{share:.2%} errors"
    worst = step.groups.get(step.worst)
    if worst is None:
        return Decision.UNDECIDED, "nothing was answered"
    few = {g: p.n for g, p in step.groups.items() if p.n < enough_samples(SHARE)}
    missed = [g for g, p in step.groups.items() if p.low > gate.p95 and g not in few]
    name = missed[0] if missed else step.worst
    shown = step.groups[name]
    figure = (
        f"p95 {name} {shown.value * 1e3:.1f} ms [{shown.low * 1e3:.1f} – {shown.high * 1e3:.1f}]"
    )
    if missed:
        return Decision.FAIL, figure
    if few:
        return Decision.UNDECIDED, f"{few} samples, {enough_samples(SHARE)} needed of each"
    return (Decision.PASS if worst.high < gate.p95 else Decision.UNDECIDED), figure


def seen(step: Step, gate: Gate) -> Seen:
    """The step's answer to the search: a rate is met when that is shown, and not otherwise."""
    if step.generator_faults:
        return Seen.UNTOLD
    return Seen.MET if judge(step, gate)[0] is Decision.PASS else Seen.MISSED
