"""A predictor with a chosen Kendall tau, through a Gaussian copula.

With z the normal score of a request's true length among the trace's, the prediction is

    s = rho z + sqrt(1 - rho²) e,  e ~ N(0, 1),  rho = sin(pi tau / 2),

for which Kendall's tau of (z, s) is tau. Equal lengths get their z at random, so they carry no information;
where very many are equal no score can reach a tau-b of 1. Everything else follows from the same s: a ranker
sorts by s, a classifier says the most probable class given s, a regressor the mean length given s, and a
distribution is that of the length given s, or one narrower or wider.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from simsched.errors import InputError
from simsched.predictors.base import LEVELS, Buckets
from simsched.predictors.normal import cumulative, normal_scores, quantile
from simsched.streams import stream
from simsched.workload.trace import FloatArray, IntArray

Region = Literal["all", "shortest", "longest"]
REGIONS: dict[str, Region] = {"all": "all", "shortest": "shortest", "longest": "longest"}
_GRID = np.linspace(-6, 6, 4097)  # the latent score, in standard deviations
_COARSE = np.linspace(-6, 6, 513)  # enough for a posterior mean, which is smooth
_NODES = 128  # lengths over which that mean is taken


@dataclass(frozen=True)
class Emulated:
    """Noise of a chosen tau. With a region, only the shortest or longest share of requests is noisy.

    Inside the region the score keeps a tau of 1 - (1 - tau) / share², so that over all requests it is tau;
    the region's requests stay behind or ahead of all others, as when a part of a perfect order is shuffled.
    """

    tau: float
    region: Region = "all"
    share: float = 1.0

    def __post_init__(self) -> None:
        if not -1 <= self._tau_inside <= 1:
            raise InputError(
                f"--predictor emulated: noise in the {self.region} {self.share:g} cannot bring tau down to "
                f"{self.tau:g}; expected at least {1 - 2 * self.share**2:.3g}"
            )

    @property
    def _tau_inside(self) -> float:
        return 1 - (1 - self.tau) / self.share**2

    @property
    def _rho(self) -> float:
        return math.sin(math.pi * self._tau_inside / 2)

    def scores(self, lengths: IntArray, seed: int) -> FloatArray:
        """s, shape (n,): standard normal, lower = expected shorter."""
        n = len(lengths)
        order = _random_order(lengths, seed)
        count = round(self.share * n)
        inside = order[n - count :] if self.region == "longest" else order[:count]
        noise = stream(seed, "predictor").standard_normal(n)
        rho = self._rho
        noisy = rho * normal_scores(count) + math.sqrt(1 - rho * rho) * noise[inside]
        if count == n:
            scores = np.empty(n)
            scores[order] = noisy
            return scores
        # the region keeps its places in the order; the noise only deals them anew
        places = np.array(order)
        at = slice(n - count, n) if self.region == "longest" else slice(0, count)
        places[at] = inside[np.argsort(noisy, kind="stable")]
        scores = np.empty(n)
        scores[places] = normal_scores(n)
        return scores

    def classes(self, lengths: IntArray, buckets: Buckets, seed: int) -> IntArray:
        """The most probable bucket given s, shape (n,); 0 = shortest."""
        bounds = buckets.upper_bounds(lengths)
        scores = self.scores(lengths, seed)
        if self.tau >= 1 or self.region != "all":
            return np.searchsorted(bounds, self._as_lengths(scores, lengths), side="left")
        below = np.searchsorted(np.sort(lengths), bounds, side="right") / len(lengths)
        share = np.concatenate(([0.0], below, [1.0]))
        edges = np.concatenate(([-np.inf], quantile(below), [np.inf]))
        used = np.flatnonzero(np.diff(share) > 0)  # an empty bucket is never the most probable
        spread = math.sqrt(1 - self._rho**2)
        best = np.zeros(len(_GRID), dtype=np.int64)
        most = np.full(len(_GRID), -1.0)
        for bucket in used:
            mass = cumulative((edges[bucket + 1] - self._rho * _GRID) / spread)
            mass -= cumulative((edges[bucket] - self._rho * _GRID) / spread)
            better = mass > most
            best[better], most[better] = bucket, mass[better]
        return best[_nearest(scores)]

    def lengths(self, lengths: IntArray, seed: int) -> FloatArray:
        """The mean length given s, in tokens, shape (n,)."""
        scores = self.scores(lengths, seed)
        if self.tau >= 1 or self.region != "all":
            return self._as_lengths(scores, lengths)
        nodes = normal_scores(_NODES)
        spread = math.sqrt(1 - self._rho**2)
        ordered = np.sort(lengths).astype(np.float64)
        z = self._rho * _COARSE[:, None] + spread * nodes[None, :]
        mean = np.interp(cumulative(z), (np.arange(len(ordered)) + 0.5) / len(ordered), ordered).mean(axis=1)
        given_s: FloatArray = np.interp(scores, _COARSE, mean)
        return given_s

    def quantiles(self, lengths: IntArray, seed: int, spread: float = 1.0) -> FloatArray:
        """The distribution of the length given s, as equally probable lengths; shape (n, LEVELS).

        Args:
            lengths: the true ones, shape (n,).
            seed: of s.
            spread: of the latent score around its mean; 1 is calibrated, less too sure of itself.

        Raises:
            InputError: the noise is in a region, whose scores have no such distribution.
        """
        if self.region != "all":
            raise InputError("--predictor emulated: length_quantiles go with region=all only")
        scores = self.scores(lengths, seed)
        if self.tau >= 1:
            return self._as_lengths(scores, lengths)[:, None]
        around = spread * math.sqrt(1 - self._rho**2) * normal_scores(LEVELS)
        z = self._rho * scores[:, None] + around[None, :]
        ordered = np.sort(lengths).astype(np.float64)
        given_s: FloatArray = np.interp(
            cumulative(z), (np.arange(len(ordered)) + 0.5) / len(ordered), ordered
        )
        return given_s

    @staticmethod
    def _as_lengths(scores: FloatArray, lengths: IntArray) -> FloatArray:
        """The k-th lowest score taken for the k-th shortest length."""
        taken = np.empty(len(lengths))
        taken[np.argsort(scores, kind="stable")] = np.sort(lengths)
        return taken


def _random_order(lengths: IntArray, seed: int) -> IntArray:
    """Indices by rising length, equal lengths in random order (else their index would leak into tau)."""
    return np.lexsort((stream(seed, "ties").random(len(lengths)), lengths))


def _nearest(scores: FloatArray) -> IntArray:
    step = _GRID[1] - _GRID[0]
    index = np.rint((scores - _GRID[0]) / step).astype(np.int64)
    nearest: IntArray = np.clip(index, 0, len(_GRID) - 1)
    return nearest
