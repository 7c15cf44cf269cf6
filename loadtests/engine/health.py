"""The generator's own health while it works: CPU, the event loop's lag, how late it dispatches."""

from __future__ import annotations

import asyncio
import time
from array import array

import numpy as np

_TICK = 0.1


class HealthWatch:
    """Watches the process it runs in, from `start` to `stop`.

    Attributes:
        lateness: seconds between a request's due time and its hand-over, one per request.
    """

    def __init__(self) -> None:
        self.lateness = array("d")
        self._lag = array("d")
        self._marks: list[tuple[float, float]] = []
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin; needs a running loop."""
        self._loop = asyncio.get_running_loop()
        self._marks = [(time.perf_counter(), time.process_time())]
        self._expected = time.perf_counter() + _TICK
        self._handle = self._loop.call_later(_TICK, self._tick)

    def _tick(self) -> None:
        now = time.perf_counter()
        self._lag.append(max(0.0, now - self._expected))
        if now - self._marks[-1][0] >= 1.0:
            self._marks.append((now, time.process_time()))
        self._expected = now + _TICK
        self._handle = self._loop.call_later(_TICK, self._tick)

    def stop(self) -> None:
        """End; the figures stand from now on."""
        if self._handle is not None:
            self._handle.cancel()
        self._marks.append((time.perf_counter(), time.process_time()))

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds from start to stop."""
        return self._marks[-1][1] - self._marks[0][1]

    @property
    def cpu_share(self) -> float:
        """CPU seconds per second from start to stop."""
        return self.cpu_seconds / max(1e-9, self._marks[-1][0] - self._marks[0][0])

    @property
    def cpu_share_worst(self) -> float:
        """CPU seconds per second of the worst whole second."""
        shares = [
            (later[1] - earlier[1]) / (later[0] - earlier[0])
            for earlier, later in zip(self._marks, self._marks[1:], strict=False)
            if later[0] - earlier[0] >= 0.5
        ]
        return max(shares, default=self.cpu_share)

    def lateness_ms(self) -> dict[str, float]:
        """Quantiles of the lateness in ms."""
        return _quantiles_ms(self.lateness)

    def lag_ms(self) -> dict[str, float]:
        """Quantiles of the loop's lag in ms (its timers are exact to 1 ms)."""
        return _quantiles_ms(self._lag)


def _quantiles_ms(seconds: array[float]) -> dict[str, float]:
    if not seconds:
        return {"p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0}
    values = np.array(seconds) * 1e3
    p50, p95, p99 = np.quantile(values, (0.5, 0.95, 0.99))
    return {
        "p50": round(float(p50), 4),
        "p95": round(float(p95), 4),
        "p99": round(float(p99), 4),
        "max": round(float(values.max()), 4),
    }
