"""How a host's launches scatter around their usual time."""

from __future__ import annotations

from math import exp
from typing import Final

import numpy as np

LAG: Final = 0.35
"""Correlation of one launch's jitter with the next one's."""


class Jitter:
    """Factors for launches, log-normal around 1, each a little like the one before."""

    def __init__(self, sd: float, seed: int) -> None:
        self._sd = sd
        self._random = np.random.default_rng([seed, 0x686F7374])
        self._state = float(self._random.standard_normal())

    def factor(self) -> float:
        self._state = LAG * self._state + (1 - LAG**2) ** 0.5 * float(self._random.standard_normal())
        return exp(self._sd * self._state - self._sd**2 / 2)
