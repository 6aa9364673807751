"""Paired statistics over runs. Runs of one seed see the same requests, so policies are compared pair by pair:
what the requests of a run have in common cancels, and few runs say a lot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.05  # of tests; intervals cover 1 - LEVEL
SHOWN = 1.005
"""A ratio from here on is not rounded to 1.00."""


class Ratio(NamedTuple):
    """A ratio of two means over n runs, with its interval and P value; those are None with one run, and where
    all runs have the same ratio."""

    ratio: float
    low: float | None
    high: float | None
    p: float | None
    n: int

    @property
    def identical(self) -> bool:
        """Are the two equal run by run? As far as is known: one run, or a ratio that all share, is enough."""
        return abs(math.log(self.ratio)) < 1e-12 and self.low == self.high

    @property
    def close(self) -> bool:
        """Does the ratio round to 1.00?"""
        return 1 / SHOWN < self.ratio < SHOWN


def paired_ratio(values: Sequence[float], baseline: Sequence[float]) -> Ratio:
    """Geometric mean of values / baseline over n pairs, with a 95 % t-interval of the mean log ratio.

    All values are positive. The P value is that of the paired t-test on logarithms (null hypothesis:
    ratio 1); two samples that are equal pair by pair have P = 1.
    """
    return _from_logs(np.log(np.asarray(values, dtype=float) / np.asarray(baseline, dtype=float)))


def unpaired_ratio(values: Sequence[float], baseline: Sequence[float]) -> Ratio:
    """Geometric mean of the values over that of the baseline, with Welch's t-interval on logarithms."""
    a, b = (np.log(np.asarray(sample, dtype=float)) for sample in (values, baseline))
    n = min(len(a), len(b))
    if n < 2:
        return Ratio(math.exp(a.mean() - b.mean()), None, None, None, n)
    va, vb = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    difference, error = float(a.mean() - b.mean()), math.sqrt(va + vb)
    if error == 0:
        return _exactly(difference, n)
    freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    return _interval(difference, error, float(freedom), n)


def _from_logs(logs: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Ratio:
    n, mean = len(logs), float(logs.mean())
    if n < 2:
        return Ratio(math.exp(mean), None, None, None, n)
    error = float(logs.std(ddof=1)) / math.sqrt(n)
    return _interval(mean, error, n - 1, n) if error > 1e-12 else _exactly(mean, n)


def _interval(mean: float, error: float, freedom: float, n: int) -> Ratio:
    from scipy.special import stdtr, stdtrit

    half = float(stdtrit(freedom, 1 - LEVEL / 2)) * error
    p = 2 * float(stdtr(freedom, -abs(mean) / error))
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half), p, n)


def _exactly(mean: float, n: int) -> Ratio:
    """Every pair has the same ratio: equal samples, or runs that repeat one another (a trace replayed as it
    is), which tell no more than one of them."""
    return Ratio(1.0, 1.0, 1.0, 1.0, n) if abs(mean) < 1e-12 else Ratio(math.exp(mean), None, None, None, n)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for being tested together (Holm, 1979): their family errs with 5 % at most."""
    m = len(p_values)
    adjusted = [0.0] * m
    largest = 0.0
    for rank, i in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (m - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def adjusted(ratios: Mapping[str, Ratio | None]) -> dict[str, float]:
    """Holm's P value of each ratio that has one; the ratios are tested together."""
    p_values = {name: ratio.p for name, ratio in ratios.items() if ratio is not None and ratio.p is not None}
    return dict(zip(p_values, holm(list(p_values.values())), strict=True))


def kendall_tau(x: Sequence[float], y: Sequence[float]) -> float:
    """Kendall's tau-b of two samples: 1 = same order, -1 = reversed; NaN if either is constant."""
    from scipy.stats import kendalltau

    return float(kendalltau(x, y).statistic) if len(x) > 1 else math.nan
