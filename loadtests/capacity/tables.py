"""The arithmetic as tables: for the report, and in Markdown for the documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from loadtests.capacity.law import Law
from loadtests.capacity.machines import REST, USED, Demand, Row, Sockets
from loadtests.capacity.search import Bracket
from loadtests.capacity.step import Gate, Step, judge


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table as the report draws it (a file ``….table.json`` among the evidence).

    Attributes:
        title: what it shows.
        note: how to read it; a sentence or two.
        columns: the heads; the first column holds names, the others figures.
        rows: texts, as many in each as there are columns.
    """

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def steps_table(steps: Sequence[Step], gate: Gate) -> Table:
    """Every rate that was looked at, lowest first."""
    return Table(
        title="Rates looked at",
        note=f"A rate meets the gate when every group's p95 lies below {gate.p95 * 1e3:g} ms with "
        f"its whole interval, at most {gate.errors:.1%} are errors and at least "
        f"{gate.delivered:.0%} of what was due was answered.",
        columns=("requests/s", "requests", "answers/s", "what decides", "gate"),
        rows=tuple(
            (
                f"{step.rate:g}",
                str(step.requests),
                f"{step.throughput:.1f}",
                "; ".join(step.generator_faults) or judge(step, gate)[1],
                "not told" if step.generator_faults else judge(step, gate)[0].lower(),
            )
            for step in sorted(steps, key=lambda step: step.rate)
        ),
    )


def demands_table(costs: Mapping[str, Demand], steps: Sequence[Step]) -> Table:
    """CPU for one request of the mix, and memory, of each part."""
    memory: dict[str, float] = {}
    for step in steps:
        for part, size in step.memory.items():
            memory[part] = max(memory.get(part, 0.0), size)
    return Table(
        title="What a request costs",
        note="CPU over all rates that met the gate, less what the part uses at rest; in brackets "
        f"the lowest and highest rate's. “{REST}” is edge, databases, broker and cache, and "
        "whatever else ran on the machine. Memory: the most that was seen.",
        columns=("part", "CPU a request", "at one full core", "memory"),
        rows=tuple(
            (
                part,
                f"{cost.seconds * 1e6:.0f} µs [{cost.low * 1e6:.0f} – {cost.high * 1e6:.0f}]",
                f"{1 / cost.seconds:.0f} requests/s" if cost.seconds else "–",
                f"{memory[part] / 2**20:.0f} MiB" if part in memory else "–",
            )
            for part, cost in costs.items()
        ),
    )


def machines_table(found: Sequence[Row], *, bracket: Bracket, law: Law | None, cores: int) -> Table:
    """Machines for each target rate, by three ways of counting."""
    parts = tuple(found[0].processes) if found else ()
    met = "–" if bracket.met is None else f"{bracket.met:g}"
    return Table(
        title="Machines for a rate",
        note=f"Processes = rate × CPU a request ÷ {USED:g}. By CPU: all parts' cores ÷ {cores} "
        f"cores a machine. By gate: rate ÷ {met} requests/s, the highest that met it. By law: "
        f"rate ÷ {_peak(law)}, the fitted law's peak; fewer cannot do, as far as the law fits. "
        "All three take it that machines do not hinder each other; rates beyond the highest one "
        "measured (×) are extrapolated, and databases, broker and cache have to be spread as well.",
        columns=(
            "requests/s",
            *(f"{part}, processes" for part in parts),
            "cores",
            "machines by CPU",
            "by gate",
            "by law",
            "× measured",
        ),
        rows=tuple(
            (
                f"{row.rate:g}",
                *(str(row.processes[part]) for part in parts),
                _amount(row.cores),
                _count(row.by_cpu),
                _count(row.by_gate),
                _count(row.by_law),
                _amount(row.times_measured),
            )
            for row in found
        ),
    )


def law_table(law: Law) -> Table:
    """The fitted law's parameters."""
    low, high = law.peak_interval
    bounds = f" [{_rate(low)} – {_rate(high)}]"
    return Table(
        title="Universal Scalability Law",
        note="X(N) = λN ÷ (1 + σ(N−1) + κN(N−1)), N requests in flight by Little's law. "
        f"Fitted to {law.points} rates with which the platform kept up; in brackets 95 %.",
        columns=("λ", "σ", "κ", "peak", "× highest throughput seen", "largest misfit"),
        rows=(
            (
                f"{law.throughput_of_one:.1f} requests/s",
                f"{law.contention:.3f}",
                f"{law.crosstalk:.2g}",
                _peak(law) + bounds,
                "–" if law.extrapolation is None else f"{law.extrapolation:.2f}",
                f"{law.fit_error:.0%}",
            ),
        ),
    )


def sockets_table(ways: Sequence[Sockets]) -> Table:
    """Gateways for a number of open WebSockets, by how many one is to hold."""
    return Table(
        title=f"Gateways for {ways[0].sockets:,} WebSockets" if ways else "Gateways",
        note="Memory = gateways × a process + sockets × a socket. Each gateway has a queue of its "
        "own (R3.6), so the broker hands every event out as many times as there are gateways.",
        columns=(
            "sockets a gateway",
            "gateways",
            "memory, all",
            "memory, each",
            "CPU of a broadcast, each",
            "deliveries an event",
        ),
        rows=tuple(
            (
                str(-(-way.sockets // way.gateways)),
                str(way.gateways),
                f"{way.memory_mib / 1024:.1f} GiB",
                f"{way.memory_mib / way.gateways:.0f} MiB",
                f"{way.broadcast_seconds * 1e3:.0f} ms",
                str(way.deliveries),
            )
            for way in ways
        ),
    )


def markdown(table: Table) -> str:
    """The table as Markdown."""
    lines = [
        f"**{table.title}.** {table.note}",
        "",
        "| " + " | ".join(table.columns) + " |",
        "|" + "---|" * len(table.columns),
        *("| " + " | ".join(row) + " |" for row in table.rows),
    ]
    return "\n".join(lines) + "\n"


def _peak(law: Law | None) -> str:
    return _rate(None if law is None else law.peak)


def _rate(value: float | None) -> str:
    return "no end seen" if value is None else f"{value:.0f} requests/s"


def _amount(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _count(value: int | None) -> str:
    return "–" if value is None else str(value)
