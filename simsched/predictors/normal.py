"""The normal distribution and its inverse, to 1e-5: SciPy's take a quarter of a second to import."""

from __future__ import annotations

import math

import numpy as np

from simsched.workload.trace import FloatArray

_X = np.linspace(-8.5, 8.5, 16385)
_P = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in _X.tolist()])


def cumulative(x: FloatArray) -> FloatArray:
    """P(Z <= x)."""
    p: FloatArray = np.interp(x, _X, _P)
    return p


def quantile(p: FloatArray) -> FloatArray:
    """The x with P(Z <= x) = p, within ±8.5."""
    x: FloatArray = np.interp(p, _P, _X)
    return x


def normal_scores(n: int) -> FloatArray:
    """The quantiles at (k - 1/2) / n, k = 1 to n."""
    return quantile((np.arange(n) + 0.5) / n)
