"""Tests that the benchmark measures what it says, briefly and without judging the machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from system.platform.events import bench
from system.platform.events.bench import (
    BareSide,
    CouldNotMeasure,
    HubSide,
    latency,
    main,
    percentile,
    throughput,
)

from .conftest import Broker


@pytest.mark.parametrize("side", [HubSide, BareSide])
async def test_each_side_handles_what_it_publishes(
    broker: Broker, side: type[HubSide] | type[BareSide]
) -> None:
    """Both count handled messages only, and every message of the latency run has its figure."""
    measured = await throughput(side(broker.url), 0.3)
    assert measured.rate > 0
    assert measured.cpu_us > 0

    figures = await latency(side(broker.url), 0.2, 100)
    assert len(figures) == 20
    assert min(figures) > 0


class LossySide:
    """Confirms all messages up to one that it refuses, and hands on every second."""

    name = "lossy"

    def __init__(self, refused: int | None = None) -> None:
        self._refused = refused

    async def open(self, handled: Callable[[int], None]) -> None:
        """See `Side.open`."""
        self._handled = handled

    async def publish(self, numbers: Sequence[int]) -> None:
        """See `Side.publish`."""
        if self._refused in numbers:
            raise ConnectionError("refused")
        for number in numbers[::2] if len(numbers) > 1 else numbers:
            if number % 2 == 0:
                self._handled(number)

    async def close(self) -> None:
        """See `Side.close`."""


async def test_what_was_not_handled_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost message, and one that is not confirmed, end the measurement with what was seen."""
    monkeypatch.setattr(bench, "SETTLE_S", 0.05)

    with pytest.raises(CouldNotMeasure, match=r"^lossy: 50 of 100 messages handled 0 s after"):
        await throughput(LossySide(), 0)
    with pytest.raises(CouldNotMeasure, match=r"lossy, 500/s: 5 of 10 .* TimeoutError"):
        await latency(LossySide(), 0.02)
    with pytest.raises(CouldNotMeasure, match=r"lossy, 500/s: \d of 10 .*ConnectionError"):
        await latency(LossySide(refused=4), 0.02)


def test_a_measurement_that_failed_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a line, with exit code 1."""

    async def fails(*_: object) -> int:
        raise CouldNotMeasure("hub: 1 of 2")

    monkeypatch.setenv("RABBITMQ_URL", "amqp://127.0.0.1:1/")
    monkeypatch.setattr(bench, "compare", fails)
    assert main([]) == 1
    assert capsys.readouterr().err.startswith("bench: hub: 1 of 2; load average ")


def test_percentiles() -> None:
    """By rank."""
    assert percentile(range(1, 101), 0.95) == 96
    assert percentile([7.0], 0.95) == 7.0


def test_without_a_broker_the_usage_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, with the variable's name."""
    monkeypatch.delenv("RABBITMQ_URL", raising=False)
    assert main([]) == 2
    assert "RABBITMQ_URL" in capsys.readouterr().err
