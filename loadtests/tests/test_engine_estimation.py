"""Percentiles, intervals and decisions against distributions whose truth is known."""

import math

import numpy as np
import pytest

from loadtests.engine.estimation import (
    Decision,
    decide_percentile,
    enough_samples,
    percentile,
    ratio_of_medians,
    wilson,
)

P95_OF_EXPONENTIAL = -math.log(0.05)


def test_enough_samples_is_the_known_rule() -> None:
    """59 bound p95, 299 bound p99."""
    assert enough_samples(0.95) == 59
    assert enough_samples(0.99) == 299


def test_the_estimate_is_the_order_statistic() -> None:
    """The p95 of 1…100 is 95, of a single sample that sample."""
    values = np.arange(1.0, 101.0)
    assert percentile(values, values, 0.95).value == 95.0
    assert percentile(values, values, 0.5).value == 50.0
    assert percentile(np.array([7.0]), np.array([0.0]), 0.95).value == 7.0


@pytest.mark.parametrize(("share", "n"), [(0.95, 300), (0.95, 1500), (0.5, 500), (0.99, 1000)])
def test_the_interval_holds_the_truth(share: float, n: int) -> None:
    """Of 120 intervals over independent exponential samples about 95 % hold the true value."""
    generator = np.random.default_rng(11)
    truth = -math.log(1 - share)
    held = 0
    for _ in range(120):
        values = generator.exponential(size=n)
        times = np.sort(generator.uniform(0, 60, n))
        estimate = percentile(values, times, share)
        held += estimate.low <= truth <= estimate.high
    assert held >= 108  # 114 expected; below 108 has a probability of 1 %


def test_the_interval_is_wider_when_neighbours_are_alike() -> None:
    """Slow phases widen the interval beyond what independent samples would give."""
    generator = np.random.default_rng(5)
    times = np.linspace(0, 60, 3000, endpoint=False)
    slow = (times // 5).astype(int) % 4 == 3  # 5 s out of 20 are ten times slower
    values = generator.exponential(size=3000) * np.where(slow, 10.0, 1.0)
    shuffled = generator.permutation(values)
    alike, independent = (percentile(v, times, 0.95) for v in (values, shuffled))
    assert alike.high - alike.low > 1.5 * (independent.high - independent.low)


def test_intervals_of_correlated_samples_hold_the_truth() -> None:
    """A load whose level changes every 2 s: at least 85 % of 100 intervals hold the true p95."""
    generator = np.random.default_rng(3)

    def draw(seconds: int) -> np.ndarray:
        levels = np.repeat(generator.lognormal(0.0, 0.5, seconds // 2), 2 * 50)
        return levels * generator.exponential(size=seconds * 50)

    truth = float(np.quantile(draw(40_000), 0.95))
    times = np.arange(60 * 50) / 50
    held = 0
    for _ in range(100):
        estimate = percentile(draw(60), times, 0.95)
        held += estimate.low <= truth <= estimate.high
    assert held >= 85


def test_few_samples_do_not_bound() -> None:
    """With 58 samples the p95 has no upper bound, with 59 it has."""
    values = np.linspace(1, 2, 59)
    assert percentile(values, values, 0.95).high == 2.0
    assert percentile(values[:58], values[:58], 0.95).high == math.inf
    assert math.isnan(percentile(values[:0], values[:0], 0.95).value)


def exponential(n: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Samples whose p95 is 3.00, over a minute."""
    generator = np.random.default_rng(1)
    return generator.exponential(size=n), np.linspace(0, 60, n)


@pytest.mark.parametrize(
    ("limit", "decision"),
    [
        pytest.param(P95_OF_EXPONENTIAL * 1.2, Decision.PASS, id="well below"),
        pytest.param(P95_OF_EXPONENTIAL * 0.8, Decision.FAIL, id="well above"),
        pytest.param(P95_OF_EXPONENTIAL * 1.01, Decision.UNDECIDED, id="too near"),
        pytest.param(P95_OF_EXPONENTIAL * 0.99, Decision.UNDECIDED, id="too near, above"),
    ],
)
def test_the_interval_decides_and_not_the_point(limit: float, decision: Decision) -> None:
    """PASS below, FAIL above, UNDECIDED while the interval holds the limit."""
    assert decide_percentile(*exponential(), 0.95, limit).decision is decision


def test_too_few_samples_decide_nothing() -> None:
    """However good they are, and also against a gate's own number."""
    values, times = np.full(58, 0.001), np.arange(58.0)
    decided = decide_percentile(values, times, 0.95, 1.0)
    assert decided.decision is Decision.UNDECIDED
    assert decided.reason == "58 samples, 59 needed for p95"
    values, times = np.full(298, 0.001), np.arange(298.0)
    assert decide_percentile(values, times, 0.95, 1.0).decision is Decision.PASS
    wanted = decide_percentile(values, times, 0.95, 1.0, at_least=299)
    assert wanted.decision is Decision.UNDECIDED


def test_no_samples_decide_nothing() -> None:
    """An empty measurement is never a pass."""
    decided = decide_percentile(np.array([]), np.array([]), 0.95, 1.0)
    assert decided.decision is Decision.UNDECIDED


def test_a_single_moment_is_one_block() -> None:
    """All samples at one time still give an interval (the exact one)."""
    values = np.random.default_rng(2).exponential(size=500)
    estimate = percentile(values, np.zeros(500), 0.95)
    assert estimate.low < estimate.value < estimate.high


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 0, 0.0, 1.0), (80, 100, 0.7112, 0.8666), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)],
)
def test_wilson_gives_the_published_values(successes: int, n: int, low: float, high: float) -> None:
    """Against tabulated intervals."""
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-4)


def test_a_ratio_of_medians_is_found_where_both_drift_together() -> None:
    """Twice as slow is twice as slow, also on a machine that slows down by half meanwhile."""
    chance = np.random.default_rng(3)
    drift = np.linspace(1.0, 1.5, 400)
    fast, slow = (base * drift * chance.lognormal(0.0, 0.2, 400) for base in (1.0, 2.0))
    ratio = ratio_of_medians(slow, fast)
    assert ratio.n == 400
    assert ratio.low < 2.0 < ratio.high
    assert 1.8 < ratio.low < ratio.value < ratio.high < 2.2


def test_equal_things_are_not_told_apart() -> None:
    """The interval of no difference holds 1."""
    chance = np.random.default_rng(4)
    ratio = ratio_of_medians(chance.lognormal(size=200), chance.lognormal(size=200))
    assert ratio.low < 1.0 < ratio.high


@pytest.mark.parametrize(("left", "right"), [(0, 0), (3, 2)])
def test_a_ratio_needs_pairs(left: int, right: int) -> None:
    """Nothing, or halves of pairs, give no ratio."""
    with pytest.raises(ValueError, match="expected as many"):
        ratio_of_medians(np.ones(left), np.ones(right))
