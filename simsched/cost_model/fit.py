"""Fit a cost model to steps with known times, by relative error.

Relative, because a step of one decode and one of 8,192 prefill tokens differ forty-fold in time and matter
alike; plain least squares is 13 % off on small decode batches. Coefficients are kept non-negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsched.cost_model.base import CostModel, StepFeatures
from simsched.cost_model.models import LinearCost, TableCost
from simsched.cost_model.profile import FitError
from simsched.errors import InputError

FloatArray = NDArray[np.float64]

# Matrix products run in tiles: the times jump behind 64, 128, 256 and 384 tokens.
TILE_KNOTS = (1, 32, 64, 65, 128, 129, 256, 257, 384, 385, 512, 768, 1024, 2048, 4096, 8192)

MIN_SUPPORT = 5  # steps that a knot of the table needs around it
OUTLIER = 4.685  # Tukey's biweight: steps that many spreads off count nothing
# So no step within 23 % is an outlier: steady decodes must not make outliers of prefills that a form misses.
MIN_SPREAD = 0.05
STALL = 3.0  # a step that many times as long as its batch should take was held up by something else


@dataclass(frozen=True)
class Steps:
    """Observed steps, one row each: the features of `StepFeatures`, and seconds."""

    P: FloatArray
    N: FloatArray
    S: FloatArray
    K: FloatArray
    Q: FloatArray
    time: FloatArray

    def __len__(self) -> int:
        return len(self.time)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Steps:
        """These rows alone."""
        return Steps(*(getattr(self, name)[rows] for name in ("P", "N", "S", "K", "Q", "time")))

    def predict(self, cost: CostModel) -> FloatArray:
        """The cost model's seconds for each step."""
        rows = zip(*(column.tolist() for column in (self.P, self.N, self.S, self.K, self.Q)), strict=True)
        return np.array(
            [cost.step_time(StepFeatures(int(P), int(N), int(S), int(K), Q)) for P, N, S, K, Q in rows]
        )


def split(steps: Steps, held_out: float, seed: int = 0) -> tuple[Steps, Steps]:
    """Train and test rows at random, `held_out` (a share) of them for the test."""
    order = np.random.default_rng(seed).permutation(len(steps))
    cut = round(len(steps) * held_out)
    return steps.select(np.sort(order[cut:])), steps.select(np.sort(order[:cut]))


def fit_error(cost: LinearCost | TableCost, test: Steps, num_train: int) -> FitError:
    """Absolute relative errors of the prediction on `test`."""
    error = np.abs(test.predict(cost) / test.time - 1)
    return FitError(
        mean=float(np.mean(error)),
        median=float(np.median(error)),
        p95=float(np.percentile(error, 95)),
        num_train=num_train,
        num_test=len(test),
        device=None,
        host=None,
        total=None,
    )


def fit_linear(steps: Steps, *, robust: bool = False) -> LinearCost:
    """`t0 + a·P + b·N + c·K + d·Q` with the least relative squared error.

    Args:
        steps: to fit.
        robust: they were measured: steps far off the others' line count less or nothing, and a chunk has a
            cost of its own (`per_chunk·S`).
    """
    t0, a, b, c, d, per_chunk = _relative_nnls(linear_columns(steps, robust), steps, robust).tolist()
    return LinearCost(t0=t0, a=a, b=b, c=c, d=d, per_chunk=per_chunk)


def fit_table(
    steps: Steps, knots: Sequence[int] = TILE_KNOTS, *, robust: bool = False, mixed: bool = False
) -> TableCost:
    """`interp(P + N; knots) + h·(N + S) + c·K + d·Q` with the least relative squared error.

    Knots without data around them are left out; the smallest and largest step become the end knots.
    `robust` as above; `mixed`: decodes cost more beside chunks (`per_mixed_decode`).
    """
    used = _supported(steps.P + steps.N, knots)
    columns = table_columns(steps, used, robust, mixed)
    *g, h, c, d, per_chunk, per_mixed_decode = _relative_nnls(columns, steps, robust).tolist()
    while len(g) > 2 and g[-1] < g[-2]:  # noise at the far end must not be extrapolated downwards
        del g[-1], used[-1]
    return TableCost(
        knots=tuple(used), g=tuple(g), h=h, c=c, d=d, per_chunk=per_chunk, per_mixed_decode=per_mixed_decode
    )


def level(cost: LinearCost | TableCost, steps: Steps) -> LinearCost | TableCost:
    """The same cost scaled so that the predicted times of measured steps add up to the measured ones.

    A robust fit goes through the middle of the steps, but waiting is made of their sum, and a busy machine
    makes some late and none early. Stalls are left out.
    """
    predicted = steps.predict(cost)
    usual = steps.time < STALL * predicted
    return cost.scaled(float(steps.time[usual].sum() / predicted[usual].sum()))


def linear_columns(steps: Steps, chunks: bool) -> FloatArray:
    """What each coefficient of the linear form is multiplied by: (steps, 6), in the order t0 a b c d and
    per_chunk, which without `chunks` is never seen."""
    return np.column_stack([np.ones(len(steps)), steps.P, steps.N, steps.K, steps.Q, steps.S * chunks])


def table_columns(steps: Steps, knots: Sequence[int], chunks: bool, mixed: bool = False) -> FloatArray:
    """Likewise of the table: (steps, knots + 5), in the order g h c d per_chunk per_mixed_decode."""
    hats = [np.interp(steps.P + steps.N, knots, row) for row in np.eye(len(knots))]
    beside = steps.N * (steps.S > 0) * mixed
    return np.column_stack([*hats, steps.N + steps.S, steps.K, steps.Q, steps.S * chunks, beside])


def _supported(tokens: FloatArray, knots: Sequence[int]) -> list[int]:
    low, high = int(tokens.min()), int(tokens.max())
    if low == high:
        raise InputError(f"every step has {low} tokens: a table needs steps of different sizes; fit linear")
    # the last segment is extrapolated, so it must be long enough to have a slope
    used = [low, *(knot for knot in knots if low < knot < 0.8 * high), high]
    while True:
        # a knot's support: the weight of the steps in its hat
        support = [float(np.interp(tokens, used, row).sum()) for row in np.eye(len(used))]
        inner = [(weight, index) for index, weight in enumerate(support[1:-1], 1) if weight < MIN_SUPPORT]
        if not inner:
            return used
        del used[min(inner)[1]]


def _relative_nnls(columns: FloatArray, steps: Steps, robust: bool) -> FloatArray:
    from scipy.optimize import nnls

    relative = columns / steps.time[:, None]
    scale = np.linalg.norm(relative, axis=0)
    scale[scale == 0] = 1.0  # a feature that never occurs gets the coefficient 0
    relative = relative / scale
    weights = np.ones(len(steps))
    solution = np.zeros(columns.shape[1])
    for _ in range(30 if robust else 1):
        root = np.sqrt(weights)
        previous, solution = solution, nnls(relative * root[:, None], root)[0]
        if np.allclose(solution, previous, rtol=1e-9, atol=0):
            break
        weights = _biweight(relative @ solution - 1, steps.P > 0)
    # six digits: more would be noise, and this way the file holds what was tested
    return np.array([float(f"{value:.6g}") for value in solution / scale])


def _biweight(residual: FloatArray, prefill: NDArray[np.bool_]) -> FloatArray:
    """Tukey's weights, each kind of step with a spread of its own."""
    spread = np.full(len(residual), MIN_SPREAD)
    for rows in (prefill, ~prefill):
        if rows.any():
            spread[rows] = max(MIN_SPREAD, 1.4826 * float(np.median(np.abs(residual[rows]))))
    return np.asarray(np.clip(1 - (residual / (OUTLIER * spread)) ** 2, 0, 1) ** 2)
