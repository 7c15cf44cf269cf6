"""What a search's steps come to: costs, law, machines; for the criterion and for the documents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from loadtests.capacity import tables
from loadtests.capacity.law import Law, TooFewPoints, fit
from loadtests.capacity.machines import Demand, Row, demands, rows
from loadtests.capacity.search import Bracket, Seen
from loadtests.capacity.step import Gate, Step, seen


class Conclusion(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that follows from the steps.

    Attributes:
        bracket: the highest rate that met the gate, and the lowest above that did not.
        costs: CPU of each part for one request.
        law: None when the platform kept up with too few of the rates.
        rows: machines for each target rate.
        tables: the arithmetic, to be shown.
    """

    bracket: Bracket
    costs: dict[str, Demand]
    law: Law | None
    rows: list[Row]
    tables: list[tables.Table]


def conclude(steps: Sequence[Step], gate: Gate, *, cores: int) -> Conclusion:
    """Draw the conclusion.

    Args:
        steps: every rate that was looked at.
        gate: what a rate has to meet.
        cores: of one machine like the one measured.
    """
    bracket = bracket_of(steps, gate)
    met = [step for step in steps if seen(step, gate) is Seen.MET]
    costs = demands(met)
    law = _law(steps)
    found = rows(costs, bracket, law, cores=cores)
    shown = [tables.steps_table(steps, gate)]
    if costs:
        shown.append(tables.demands_table(costs, met))
    if law is not None:
        shown.append(tables.law_table(law))
    shown.append(tables.machines_table(found, bracket=bracket, law=law, cores=cores))
    return Conclusion(bracket=bracket, costs=costs, law=law, rows=found, tables=shown)


def bracket_of(steps: Sequence[Step], gate: Gate) -> Bracket:
    """Between which of the rates that were looked at the highest one lies.

    A rate that was met by chance above one that missed does not count.
    """
    answers = sorted((step.rate, seen(step, gate)) for step in steps)
    missed = next((rate for rate, answer in answers if answer is not Seen.MET), None)
    met = max(
        (r for r, a in answers if a is Seen.MET and (missed is None or r < missed)), default=None
    )
    return Bracket(met, missed, untold=(missed, Seen.UNTOLD) in answers)


def _law(steps: Sequence[Step]) -> Law | None:
    try:
        return fit([step.point for step in steps if step.kept_up and not step.generator_faults])
    except TooFewPoints:
        return None


def steps_of(evidence: Mapping[str, Any]) -> list[Step]:
    """The steps of a recorded observation, whose JSON has null for what has no bound."""
    steps = [
        {**step, "groups": {g: _with_bounds(seen) for g, seen in step["groups"].items()}}
        for step in evidence["steps"]
    ]
    return msgspec.convert(steps, list[Step])


def _with_bounds(seen: Mapping[str, Any]) -> dict[str, Any]:
    unbound = {"value": math.nan, "low": -math.inf, "high": math.inf}
    return {**seen, **{name: end for name, end in unbound.items() if seen[name] is None}}
