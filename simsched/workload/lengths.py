"""Distributions of token counts, as quantile tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np

from simsched.workload.trace import FloatArray, IntArray

# where a parametric shape is tabulated: dense in both tails
_TAIL = (0.0, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1)
PROBABILITIES = (*_TAIL, *(i / 40 for i in range(5, 36)), *(1 - p for p in reversed(_TAIL)))


@dataclass(frozen=True)
class QuantileTable:
    """A distribution of whole token counts, given by values at rising probabilities from 0 to 1.

    Between two knots the logarithm of the value is linear in the probability.
    """

    probabilities: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        p, v = self.probabilities, self.values
        if len(p) != len(v) or p[0] != 0 or p[-1] != 1 or list(p) != sorted(p) or list(v) != sorted(v):
            raise ValueError("expected rising probabilities from 0 to 1 with rising values")
        if v[0] < 1:
            raise ValueError("token counts start at 1")

    @staticmethod
    def of(percentiles: Mapping[int, float] | Mapping[float, float]) -> QuantileTable:
        """From percentiles (0 to 100) to values."""
        return QuantileTable(tuple(q / 100 for q in percentiles), tuple(map(float, percentiles.values())))

    @cached_property
    def _log_values(self) -> FloatArray:
        return np.log(np.array(self.values, dtype=np.float64))

    def quantile(self, u: FloatArray) -> FloatArray:
        """Values (not rounded) at probabilities u in [0, 1]."""
        values: FloatArray = np.exp(np.interp(u, self.probabilities, self._log_values))
        return values

    def sample(self, generator: np.random.Generator, n: int) -> IntArray:
        """n whole token counts, at least 1; one uniform draw each."""
        return np.maximum(1, np.rint(self.quantile(generator.random(n)))).astype(np.int64)

    @cached_property
    def mean(self) -> float:
        """In closed form, before rounding."""
        p, v = np.asarray(self.probabilities), np.asarray(self.values)
        low, high = v[:-1], v[1:]
        ratio = np.log(high / low)
        flat = ratio < 1e-9
        segment = np.where(flat, low, (high - low) / np.where(flat, 1.0, ratio))
        return float(np.sum(np.diff(p) * segment))

    def scaled_to(self, mean: float, low: float = 1, high: float = math.inf) -> QuantileTable:
        """The same shape, multiplied and then cut to [low, high], with this mean."""

        def scaled(factor: float) -> QuantileTable:
            values = tuple(min(max(v * factor, low), high) for v in self.values)
            return QuantileTable(self.probabilities, values)

        return _with_mean(scaled, mean, 1e-3, 1e3)


def lognormal(mean: float, sigma: float, low: float, high: float) -> QuantileTable:
    """A lognormal with this log standard deviation, truncated to [low, high], with this mean after it."""
    normal = NormalDist()

    def table(median: float) -> QuantileTable:
        first = normal.cdf(math.log(low / median) / sigma)
        last = normal.cdf(math.log(high / median) / sigma)
        inside = [first + p * (last - first) for p in PROBABILITIES[1:-1]]
        values = (median * math.exp(sigma * normal.inv_cdf(p)) for p in inside)
        return QuantileTable(PROBABILITIES, (low, *values, high))

    return _with_mean(table, mean, mean / 20, mean * 3)


def exponential(mean: float, low: float, high: float) -> QuantileTable:
    """An exponential, truncated to [low, high], with this mean after it."""

    def table(scale: float) -> QuantileTable:
        mass = -math.expm1(-(high - low) / scale)
        values = (low - scale * math.log1p(-p * mass) for p in PROBABILITIES[1:-1])
        return QuantileTable(PROBABILITIES, (low, *values, high))

    return _with_mean(table, mean, mean / 20, mean * 20)


def _with_mean(
    table: Callable[[float], QuantileTable], mean: float, low: float, high: float
) -> QuantileTable:
    """Bisect the one scale parameter, in whose logarithm the mean rises."""
    for _ in range(60):
        middle = math.sqrt(low * high)
        if table(middle).mean < mean:
            low = middle
        else:
            high = middle
    found = table(math.sqrt(low * high))
    if abs(found.mean / mean - 1) > 1e-3:
        raise ValueError(f"no such table has mean {mean:g}")
    return found
