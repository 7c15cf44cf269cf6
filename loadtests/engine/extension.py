"""Extension: measure on, segment by segment, while the interval holds the limit, up to a cap."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loadtests.engine.estimation import Decision
from loadtests.engine.measure import measure
from loadtests.engine.plan import Plan
from loadtests.engine.samples import Measurement, join, write


def measure_until_decided(
    plan_of: Callable[[int], Plan],
    decide: Callable[[Measurement], Decision],
    folder: Path,
    name: str,
    *,
    cap: int,
) -> tuple[Measurement, Decision]:
    """Measure segment after segment until the samples decide, at most `cap` segments.

    Args:
        plan_of: gives the plan of segment 0, 1, …; another seed each, otherwise alike.
        decide: judges all samples so far.
        folder: where ``<name>.npz`` and ``<name>.json`` (all segments end to end) go, and each
            segment as ``<name>-<number>``.
        name: a file name without suffix.
        cap: most segments; at least one is measured.

    Returns:
        All samples as one measurement, and what they decide: UNDECIDED after the cap means
        inconclusive.
    """
    parts: list[Measurement] = []
    while True:
        number = len(parts)
        parts.append(measure(plan_of(number), folder, f"{name}-{number}"))
        whole = join(parts)
        write(whole, folder / name)
        decision = decide(whole)
        if decision is not Decision.UNDECIDED or len(parts) >= max(1, cap):
            return whole, decision
