"""Latency pictures from whole samples, as inline SVG: the distribution and the time line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WIDTH = 640
HEIGHT = 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 14, 34
_MARKS = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Samples:
    """Whole samples of one measurement.

    Attributes:
        due: when each request was due, seconds since the start.
        latency: answer complete − due, milliseconds; successes only count.
        naive: answer complete − sent, milliseconds.
        ok: whether it succeeded.
    """

    due: NDArray[np.float64]
    latency: NDArray[np.float64]
    naive: NDArray[np.float64]
    ok: NDArray[np.bool_]


def load(path: Path) -> Samples:
    """Read a samples file (.npz with due, sent, done, ok).

    Raises:
        OSError, KeyError, ValueError: it is not such a file.
    """
    with np.load(path) as arrays:
        due = np.asarray(arrays["due"], dtype=np.float64)
        sent = np.asarray(arrays["sent"], dtype=np.float64)
        done = np.asarray(arrays["done"], dtype=np.float64)
        ok = np.asarray(arrays["ok"], dtype=np.bool_) & np.isfinite(done)
    return Samples(due, (done - due) * 1000.0, (done - sent) * 1000.0, ok)


def distribution(samples: Samples, limit_ms: float | None = None) -> str:
    """Share of requests answered within a time, log scale, due-time beside naive latency.

    Returns an empty string when no request succeeded.
    """
    latency = np.sort(samples.latency[samples.ok])
    naive = np.sort(samples.naive[samples.ok])
    if latency.size == 0:
        return ""
    low = max(0.05, float(min(latency[0], naive[0])))
    high = max(float(latency[-1]), limit_ms or 0.0, low * 10) * 1.15
    parts = [_frame("share of requests answered within", "ms")]
    for tick in _decades(low, high):
        x = _log_x(tick, low, high)
        parts.append(_grid_x(x, _number(tick)))
    for share in (0.0, 0.5, 0.95, 1.0):
        parts.append(_grid_y(_y(share), f"{share:.0%}"))
    parts.append(_curve(naive, low, high, "naive"))
    parts.append(_curve(latency, low, high, "due"))
    if limit_ms is not None:
        parts.append(_vertical(_log_x(limit_ms, low, high), f"limit {limit_ms:g} ms"))
    for mark in _MARKS:
        value = float(np.quantile(latency, mark))
        parts.append(
            f'<circle class="mark" cx="{_log_x(value, low, high):.1f}" cy="{_y(mark):.1f}" r="3.5">'
            f"<title>p{mark * 100:g} {value:.1f} ms</title></circle>"
        )
    text = ", ".join(f"p{m * 100:g} {np.quantile(latency, m):.1f} ms" for m in _MARKS)
    return _svg(parts, f"Latency distribution from the due time: {text}")


def time_line(samples: Samples, limit_ms: float | None = None) -> str:
    """Median, 95th percentile and worst latency of each second; failures as marks on the axis.

    Returns an empty string when no request succeeded.
    """
    if not samples.ok.any():
        return ""
    seconds = np.floor(samples.due).astype(int)
    last = int(seconds.max()) + 1
    rows = []
    for second in range(last):
        here = samples.latency[samples.ok & (seconds == second)]
        if here.size:
            rows.append((second + 0.5, *np.quantile(here, (0.5, 0.95, 1.0))))
    table = np.array(rows)
    high = max(float(table[:, 3].max()), limit_ms or 0.0) * 1.1
    inner = WIDTH - _LEFT - _RIGHT

    def x_of(second: float) -> float:
        return _LEFT + inner * second / max(last, 1)

    parts = [_frame("latency from the due time, ms", "s into the run")]
    for tick in _steps(high):
        parts.append(_grid_y(_y(tick / high), _number(tick)))
    for tick in _steps(float(last)):
        parts.append(_grid_x(x_of(tick), _number(tick)))
    for column, name in ((3, "worst"), (2, "p95"), (1, "median")):
        points = " ".join(
            f"{x_of(row[0]):.1f},{_y(min(row[column] / high, 1.0)):.1f}" for row in table
        )
        parts.append(f'<polyline class="{name}" points="{points}"/>')
    if limit_ms is not None:
        y = _y(limit_ms / high)
        parts.append(
            f'<line class="limit" x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}"/>'
        )
    for second in np.unique(samples.due[~samples.ok].round(1)):
        parts.append(
            f'<rect class="failed" x="{x_of(float(second)):.1f}" y="{HEIGHT - _BOTTOM - 6}" '
            'width="2" height="6"/>'
        )
    return _svg(parts, f"Latency over {last} s: median, p95 and worst of each second")


def _svg(parts: list[str], label: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"<title>{label}</title>{''.join(parts)}</svg>"
    )


def _frame(y_label: str, x_label: str) -> str:
    return (
        f'<text class="label" x="{_LEFT}" y="10">{y_label}</text>'
        f'<text class="label end" x="{WIDTH - _RIGHT}" y="{HEIGHT - 4}">{x_label}</text>'
    )


def _grid_x(x: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{HEIGHT - _BOTTOM}"/>'
        f'<text class="tick mid" x="{x:.1f}" y="{HEIGHT - _BOTTOM + 14}">{text}</text>'
    )


def _grid_y(y: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}"/>'
        f'<text class="tick end" x="{_LEFT - 6}" y="{y + 4:.1f}">{text}</text>'
    )


def _vertical(x: float, text: str) -> str:
    return (
        f'<line class="limit" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{HEIGHT - _BOTTOM}"/>'
        f'<text class="tick end limit-text" x="{x - 4:.1f}" y="{_TOP + 10}">{text}</text>'
    )


def _curve(ordered: NDArray[np.float64], low: float, high: float, name: str) -> str:
    shares = np.linspace(0.0, 1.0, min(200, max(2, ordered.size)))
    values = np.quantile(ordered, shares)
    points = " ".join(
        f"{_log_x(float(value), low, high):.1f},{_y(float(share)):.1f}"
        for value, share in zip(values, shares, strict=True)
    )
    return f'<polyline class="{name}" points="{points}"/>'


def _log_x(value: float, low: float, high: float) -> float:
    span = np.log(high) - np.log(low)
    position = (np.log(max(value, low)) - np.log(low)) / span
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * float(position)


def _y(share: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share


def _decades(low: float, high: float) -> list[float]:
    ticks = []
    for exponent in range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1):
        ticks += [m * 10.0**exponent for m in (1, 2, 5) if low <= m * 10.0**exponent <= high]
    return ticks if len(ticks) <= 10 else [t for t in ticks if f"{t:e}"[0] == "1"]


def _steps(high: float) -> list[float]:
    raw = high / 5
    magnitude = 10.0 ** np.floor(np.log10(raw))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= raw)
    return [float(v) for v in np.arange(0.0, high, step)]


def _number(value: float) -> str:
    return f"{value:g}"
