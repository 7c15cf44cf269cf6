"""Tests that the benchmark measures what it says, briefly and without judging the machine."""

from __future__ import annotations

import pytest

from system.platform.events.bench import BareSide, HubSide, latency, main, percentile, throughput

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
