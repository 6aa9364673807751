"""A weighted histogram of durations: 0.1 % wide logarithmic bins, exact count, sum and extremes.

A run emits hundreds of tokens a request; keeping each gap between tokens would cost more than the
simulation. A leap adds all its gaps at once, as a ramp.
"""

from __future__ import annotations

import math
from array import array

import numpy as np
from numpy.typing import NDArray

SMALLEST = 1e-6  # seconds; shorter gaps share the first bin
BINS_PER_E = 1000  # 0.1 % wide
NUM_BINS = int(math.log(1e5 / SMALLEST) * BINS_PER_E) + 2
_FLUSH = 1 << 15


class WeightedHistogram:
    """Durations in seconds with integer weights."""

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(NUM_BINS, dtype=np.int64)
        self.total = 0.0
        self.total_squared = 0.0
        self._pending = array("d")

    def add(self, value: float, weight: int = 1) -> None:
        """Add one duration."""
        self.add_ramp(value, 0.0, 1, weight)

    def add_ramp(self, start: float, slope: float, steps: int, weight: int) -> None:
        """Add `steps` durations start, start + slope, start + 2 slope, …, each `weight` times."""
        pending = self._pending
        pending.extend((start, slope, steps, weight))
        if len(pending) >= 4 * _FLUSH:
            self._flush()

    def add_ramps(self, ramps: array[float]) -> None:
        """Add many ramps at once: (start, slope, steps, weight) of each, one after the other."""
        if not len(ramps):
            return
        start, slope, steps, weight = np.frombuffer(ramps, dtype=np.float64).reshape(-1, 4).T
        n = steps.astype(np.int64)
        last = start + slope * (n - 1)
        # sums of an arithmetic progression, exact in closed form
        self.total += float(np.sum(weight * n * (start + last) / 2))
        squares = n * start**2 + start * slope * n * (n - 1) + slope**2 * (n - 1) * n * (2 * n - 1) / 6
        self.total_squared += float(np.sum(weight * squares))
        first_bin = _bin(start)
        one_bin = first_bin == _bin(last)
        np.add.at(self.counts, first_bin[one_bin], (weight * n)[one_bin].astype(np.int64))
        rest = ~one_bin
        if rest.any():
            lengths = n[rest]
            offsets = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            values = np.repeat(start[rest], lengths) + offsets * np.repeat(slope[rest], lengths)
            np.add.at(self.counts, _bin(values), np.repeat(weight[rest], lengths).astype(np.int64))

    def _flush(self) -> None:
        pending, self._pending = self._pending, array("d")
        self.add_ramps(pending)

    def merge(self, other: WeightedHistogram) -> None:
        """Add everything the other holds."""
        self._flush()
        other._flush()
        self.counts += other.counts
        self.total += other.total
        self.total_squared += other.total_squared

    @property
    def count(self) -> int:
        self._flush()
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Seconds; NaN if empty."""
        n = self.count
        return self.total / n if n else math.nan

    @property
    def std(self) -> float:
        """Population standard deviation, in seconds; NaN if empty."""
        n = self.count
        return math.sqrt(max(0.0, self.total_squared / n - (self.total / n) ** 2)) if n else math.nan

    def percentile(self, q: float) -> float:
        """The q-th percentile (0 to 100), in seconds, to within half a bin (0.05 %); NaN if empty.

        Between two neighbouring samples it is interpolated, as in `numpy.percentile`.
        """
        n = self.count
        if not n:
            return math.nan
        rank = q / 100 * (n - 1)
        below = math.floor(rank)
        upto = np.cumsum(self.counts)
        bins = np.searchsorted(upto, (below, min(below + 1, n - 1)), side="right")
        low, high = (SMALLEST * np.exp((bins + 0.5) / BINS_PER_E)).tolist()
        return float(low + (rank - below) * (high - low))


def _bin(values: NDArray[np.float64]) -> NDArray[np.int64]:
    scaled = np.log(np.maximum(values, SMALLEST) / SMALLEST) * BINS_PER_E
    bins: NDArray[np.int64] = np.clip(scaled, 0, NUM_BINS - 1).astype(np.int64)
    return bins
