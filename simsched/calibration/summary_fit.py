"""A linear cost met to the means of runs, by simulating those runs.

Means at several rates tell three prices apart at most: a step's (TPOT at low rates), a prefill token's (TTFT
at low rates) and a sequence's (how both grow with the rate). A decode's context grows with its sequence, and
a prompt's attention with its tokens, so at one workload their prices cannot be told from those of a sequence
and of a prefill token: they are taken from a profile that is named, or from what the card can do at best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from simsched.calibration.measured import MeasuredRun
from simsched.cost_model.models import LinearCost, TableCost
from simsched.metrics import summarize
from simsched.policies.spec import make_policy
from simsched.sweep.inputs import Inputs
from simsched.sweep.run import run
from simsched.text.table import counted
from simsched.workload.trace import FloatArray

TERMS = {"t0": "a step", "a": "a prefill token", "b": "a sequence"}
SPREAD = 0.05  # of a mean between runs of the same requests on one server
RUNS = 2  # simulated runs that a mean is taken over, where the requests themselves are not known
SAMPLES = 4  # simulated runs that say how much a mean depends on the requests drawn
WIDEST = 2.0  # a 95 % interval that goes further than this factor to either side says nothing
POOR = 0.15  # mean error beyond which the runs are not those that were simulated

Prepare = Callable[[MeasuredRun, int], Inputs]
"""The inputs of a measured run, with requests of the i-th draw."""


@dataclass(frozen=True)
class SummaryFit:
    """Prices, and how well the runs tell them."""

    cost: LinearCost
    intervals: dict[str, tuple[float, float]]
    """95 % intervals of the fitted terms, in seconds."""
    errors: list[dict[str, float]]
    """A dict a run: metric -> relative error of the simulated mean."""

    @property
    def mean_error(self) -> float:
        return float(np.mean([abs(error) for each in self.errors for error in each.values()]))

    @property
    def worst_error(self) -> float:
        return max((error for each in self.errors for error in each.values()), key=abs)


class UnidentifiedError(ValueError):
    """Terms that the runs don't tell; the message says which, and why."""

    def __init__(self, terms: Sequence[str], reason: str) -> None:
        super().__init__(reason)
        self.terms = tuple(terms)


def fit_means(
    runs: Sequence[MeasuredRun], prepare: Prepare, rest: LinearCost, free: Sequence[str]
) -> SummaryFit:
    """The terms `free` of a linear cost, by least squares over the logarithms of the means.

    Args:
        runs: what was measured.
        prepare: makes the inputs of a run.
        rest: all other terms; what it has of the free ones is not used.
        free: some of `TERMS`.

    Raises:
        UnidentifiedError: fewer means than terms, or an interval beyond a factor of `WIDEST`.
    """
    from scipy.optimize import least_squares

    measured = np.array([value for each in runs for value in each.means.values()])
    if len(measured) < len(free):
        raise UnidentifiedError(free, f"{counted(len(measured), 'mean')} for {counted(len(free), 'term')}")
    draws = [1 if each.trace is not None else RUNS for each in runs]
    inputs = [[prepare(each, i) for i in range(n)] for each, n in zip(runs, draws, strict=True)]

    def cost_of(x: FloatArray) -> LinearCost:
        return replace(rest, **dict(zip(free, np.exp(x).tolist(), strict=True)))

    def simulated(x: FloatArray) -> FloatArray:
        cost = cost_of(x)
        means = [
            np.mean([_means(one, cost, each) for one in drawn], axis=0)
            for each, drawn in zip(runs, inputs, strict=True)
        ]
        return np.concatenate(means)

    start = np.log([_start(runs)[name] for name in free])
    spread = np.hypot(SPREAD, _chance(runs, prepare, cost_of(start)))

    def residuals(x: FloatArray) -> FloatArray:
        ratios: FloatArray = np.log(simulated(x) / measured) / spread
        return ratios

    # differences wide enough for arrivals that fall into one step or the next
    solved = least_squares(
        residuals,
        start,
        diff_step=[0.01] * len(free),
        x_scale=0.3,
        max_nfev=20,
        bounds=(start - 8, start + 5),
    )
    found = np.asarray(solved.x)
    errors = np.expm1(residuals(found) * spread)
    intervals = _intervals(found, np.asarray(solved.jac), np.log1p(errors) / spread)
    unknown = [
        name
        for name, (_, high), value in zip(free, intervals, found, strict=True)
        if high > WIDEST * math.exp(value)
    ]
    if unknown:
        wide = "; ".join(
            f"{TERMS[name]} ({name}): 95 % interval {low:.2g} to {high:.2g} s"
            for name, (low, high) in zip(free, intervals, strict=True)
            if name in unknown
        )
        raise UnidentifiedError(unknown, wide)
    each = iter(errors.tolist())
    return SummaryFit(
        cost=cost_of(found),
        intervals=dict(zip(free, intervals, strict=True)),
        errors=[{name: next(each) for name in one.means} for one in runs],
    )


def terms_of(cost: LinearCost | TableCost) -> dict[str, float]:
    """The terms of a cost by name, without those that are 0."""
    values = {field.name: getattr(cost, field.name) for field in fields(cost) if field.init}
    return {name: value for name, value in values.items() if isinstance(value, float) and value}


def _means(inputs: Inputs, cost: LinearCost, each: MeasuredRun) -> list[float]:
    found = summarize(run(replace(inputs, cost=cost, policy=make_policy(each.policy))))
    return [found[name] for name in each.means]


def _start(runs: Sequence[MeasuredRun]) -> dict[str, float]:
    """Orders of magnitude: a step takes what a token takes where it takes least."""
    each_token = [value for each in runs for name, value in each.means.items() if name != "mean_e2el_ms"]
    least = min(each_token or [each.means["mean_e2el_ms"] / 200 for each in runs])
    step = 0.8e-3 * least
    return {"t0": step, "a": step / 200, "b": step / 200}


def _chance(runs: Sequence[MeasuredRun], prepare: Prepare, cost: LinearCost) -> FloatArray:
    """How far means depend on the requests that were drawn, as a spread of their logarithms; 0 where they
    are known."""
    spreads = []
    for each in runs:
        if each.trace is not None:
            spreads.append(np.zeros(len(each.means)))
            continue
        samples = [_means(prepare(each, RUNS + i), cost, each) for i in range(SAMPLES)]
        spreads.append(np.log(samples).std(axis=0, ddof=1) * math.sqrt(1 + 1 / RUNS))
    return np.concatenate(spreads)


def _intervals(x: FloatArray, jacobian: FloatArray, scaled: FloatArray) -> list[tuple[float, float]]:
    """95 % intervals of the terms; wide beyond all bounds where the means don't tell one apart."""
    noise = max(1.0, math.sqrt(float((scaled**2).sum()) / max(1, len(scaled) - len(x))))
    information = jacobian.T @ jacobian
    # what no mean depends on stays finite, if only just
    information += 1e-9 * max(1.0, float(np.abs(information).max())) * np.eye(len(x))
    half = np.minimum(1.96 * noise * np.sqrt(np.diag(np.linalg.inv(information))), 50)
    return [(math.exp(value - width), math.exp(value + width)) for value, width in zip(x, half, strict=True)]
