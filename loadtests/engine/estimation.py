"""What samples allow to be said: percentiles with intervals, proportions with bounds, decisions.

Pure functions over arrays. (Not called `statistics`: ``locust -f loadtests`` loads every module
below this folder under its bare name, which must not be one of the standard library's.)
"""

from __future__ import annotations

import math
from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
_REPLICATES = 1000
_Z = 1.959963984540054  # the normal distribution's 97.5 % point


class Decision(StrEnum):
    """What an interval says about a limit."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"


class Percentile(msgspec.Struct, frozen=True, kw_only=True):
    """An estimated percentile, in the unit of its samples.

    Attributes:
        share: which one, e.g. 0.95.
        value: the estimate; nan without samples.
        low, high: the 95 % interval; infinite where the samples do not bound it.
        n: samples.
    """

    share: float
    value: float
    low: float
    high: float
    n: int


class PercentileDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A percentile held against its limit.

    Attributes:
        estimate: the percentile.
        limit: in the same unit.
        decision: PASS, FAIL or UNDECIDED.
        reason: one sentence with the figures.
    """

    estimate: Percentile
    limit: float
    decision: Decision
    reason: str


def enough_samples(share: float) -> int:
    """The fewest samples whose maximum bounds a percentile with 95 % confidence.

    59 for p95 and 299 for p99: the probability that all n lie below the percentile, share^n,
    must not be over 5 %.
    """
    return math.ceil(math.log(1.0 - CONFIDENCE) / math.log(share))


def percentile(
    values: NDArray[np.float64],
    times: NDArray[np.float64],
    share: float,
    *,
    block: float | None = None,
    seed: int = 1,
) -> Percentile:
    """A percentile with its 95 % interval, by a bootstrap over blocks of time.

    Neighbours in time are alike (a pause hits many requests at once), so whole blocks are drawn,
    not single samples. The interval is never narrower than the exact one for independent samples
    (binomial order statistics), which also says when there are too few of them.

    Args:
        values: the samples.
        times: when each was due, in seconds; decides its block.
        share: which percentile, e.g. 0.95.
        block: length of a block in seconds; default a thirtieth of the whole, 1 to 10 s.
        seed: of the bootstrap.
    """
    n = len(values)
    if n == 0:
        return Percentile(share=share, value=math.nan, low=-math.inf, high=math.inf, n=0)
    order = np.argsort(values, kind="stable")
    rising = values[order]
    value = float(rising[_rank(n, share)])
    low, high = _order_statistic_interval(rising, share)
    blocks = _blocks(times, block)[order]
    replicates = _bootstrap(rising, blocks, share, np.random.default_rng(seed))
    tail = (1.0 - CONFIDENCE) / 2.0
    boot_low, boot_high = np.quantile(replicates, (tail, 1.0 - tail))
    return Percentile(
        share=share,
        value=value,
        low=min(low, float(boot_low)),
        high=max(high, float(boot_high)),
        n=n,
    )


def _rank(n: int, share: float) -> int:
    """Index of the percentile in n rising samples: the smallest with `share` at or below it."""
    return min(n - 1, max(0, math.ceil(share * n - 1e-9) - 1))


def _blocks(times: NDArray[np.float64], block: float | None) -> NDArray[np.int64]:
    start = float(times.min())
    span = float(times.max()) - start
    length = block if block is not None else min(10.0, max(1.0, span / 30.0))
    numbers: NDArray[np.int64] = ((times - start) / length).astype(np.int64)
    return numbers


def _bootstrap(
    rising: NDArray[np.float64],
    blocks: NDArray[np.int64],
    share: float,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Percentiles of resamples made of whole blocks; `rising` and `blocks` are in one order."""
    used, positions = np.unique(blocks, return_inverse=True)
    count = len(used)
    draws = generator.multinomial(count, np.full(count, 1.0 / count), size=_REPLICATES)
    found = np.empty(_REPLICATES)
    for number, weights in enumerate(draws):
        cumulated = np.cumsum(weights[positions])
        wanted = max(1, math.ceil(share * cumulated[-1] - 1e-9)) if cumulated[-1] else 1
        found[number] = rising[min(len(rising) - 1, int(np.searchsorted(cumulated, wanted)))]
    return found


def _order_statistic_interval(rising: NDArray[np.float64], share: float) -> tuple[float, float]:
    """The exact 95 % interval for independent samples; infinite where n does not bound it.

    The number of samples below the percentile is binomial(n, share). The lower end is two-sided
    (2.5 %); the upper one as well where n allows it, else one-sided (5 %), which is the rule of
    59 and 299.
    """
    n = len(rising)
    below = np.cumsum(_binomial(n, share))  # below[k] = P(at most k samples below)
    tail = (1.0 - CONFIDENCE) / 2.0
    lower = int(np.searchsorted(below, tail, side="right")) - 1
    upper = int(np.searchsorted(below, 1.0 - tail, side="left")) + 1
    if upper >= n and n >= enough_samples(share):
        upper = n - 1
    low = float(rising[lower]) if lower >= 0 else -math.inf
    high = float(rising[upper]) if upper < n else math.inf
    return low, high


def _binomial(n: int, share: float) -> NDArray[np.float64]:
    """P(k) for k = 0…n of a binomial distribution, by logarithms (n may be a million)."""
    steps = np.log(np.arange(1, n + 1, dtype=np.float64))
    factorial = np.concatenate(([0.0], np.cumsum(steps)))
    k = np.arange(n + 1)
    logarithm = (
        factorial[n]
        - factorial[k]
        - factorial[n - k]
        + k * math.log(share)
        + (n - k) * math.log1p(-share)
    )
    probabilities: NDArray[np.float64] = np.exp(logarithm)
    return probabilities


def decide_percentile(
    values: NDArray[np.float64],
    times: NDArray[np.float64],
    share: float,
    limit: float,
    *,
    at_least: int = 0,
    block: float | None = None,
) -> PercentileDecision:
    """Hold a percentile against its limit: the interval decides, not the point.

    PASS when the interval's upper end is below the limit, FAIL when its lower end is above,
    UNDECIDED in between and with fewer samples than `enough_samples` or `at_least`.

    Args:
        values: latencies of successes only; failures are judged apart.
        times: when each was due, in seconds.
        share: which percentile, e.g. 0.95.
        limit: in the unit of the values.
        at_least: how many samples the gate asks for, if more than `enough_samples`.
        block: see `percentile`.
    """
    estimate = percentile(values, times, share, block=block)
    wanted = max(at_least, enough_samples(share))
    name = f"p{share * 100:g}"
    seen = f"{name} {estimate.value:.4g}, 95 % interval {estimate.low:.4g} to {estimate.high:.4g}"
    if estimate.n < wanted:
        decision, reason = Decision.UNDECIDED, f"{estimate.n} samples, {wanted} needed for {name}"
    elif estimate.high < limit:
        decision, reason = Decision.PASS, f"{seen}, below {limit:g} ({estimate.n} samples)"
    elif estimate.low > limit:
        decision, reason = Decision.FAIL, f"{seen}, above {limit:g} ({estimate.n} samples)"
    else:
        decision = Decision.UNDECIDED
        reason = f"{seen}, holds the limit {limit:g} ({estimate.n} samples)"
    return PercentileDecision(estimate=estimate, limit=limit, decision=decision, reason=reason)


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """How many times as large one quantity is as another.

    Attributes:
        value: median over median.
        low, high: the 95 % interval.
        n: pairs.
    """

    value: float
    low: float
    high: float
    n: int


def ratio_of_medians(
    numerators: NDArray[np.float64], denominators: NDArray[np.float64], *, seed: int = 1
) -> Ratio:
    """The ratio of two medians measured in turn, with its 95 % interval by a paired bootstrap.

    Pairs are drawn together, so that what slowed the machine for a moment slows both.

    Args:
        numerators, denominators: measurements in the same unit, pair by pair.
        seed: of the bootstrap.

    Raises:
        ValueError: no pairs, or not as many of the one as of the other.
    """
    n = len(numerators)
    if n == 0 or n != len(denominators):
        raise ValueError(f"{n} and {len(denominators)} measurements, expected as many, at least 1")
    drawn = np.random.default_rng(seed).integers(0, n, size=(_REPLICATES, n))
    ratios = np.median(numerators[drawn], axis=1) / np.median(denominators[drawn], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    value = float(np.median(numerators) / np.median(denominators))
    return Ratio(value=value, low=float(low), high=float(high), n=n)


def wilson(successes: int, n: int, z: float = _Z) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion; (0, 1) without observations."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
