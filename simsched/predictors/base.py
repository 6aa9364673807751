"""What predictors share: the classes a length can be put into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from simsched.workload.trace import IntArray


@dataclass(frozen=True)
class Buckets:
    """Length classes, 0 = shortest. The paper's are 10 of 820 tokens (fixed): class = length // width."""

    kind: Literal["fixed", "percentile"] = "fixed"
    width: int = 820
    """Tokens a bucket (fixed)."""
    count: int = 10
    """Number of buckets (percentile: equally many requests in each, as far as equal lengths allow)."""

    @property
    def as_published(self) -> bool:
        """Are these the paper's 820 tokens (819.2 rounded up)?"""
        return self.kind == "fixed" and self.width == 820

    def upper_bounds(self, lengths: IntArray) -> IntArray:
        """The longest length of each bucket but the last, rising."""
        if self.kind == "fixed":
            last = int(lengths.max()) // self.width + 1
            return np.arange(1, last) * self.width - 1
        ordered = np.sort(lengths)
        cuts = ordered[np.arange(1, self.count) * len(ordered) // self.count - 1]
        return np.unique(cuts[cuts < ordered[-1]])

    def classify(self, lengths: IntArray) -> IntArray:
        """The class of each length."""
        return np.searchsorted(self.upper_bounds(lengths), lengths, side="left")

    def __str__(self) -> str:
        if self.kind == "percentile":
            return f"{self.count} percentile buckets"
        return f"buckets of {self.width} tokens"
