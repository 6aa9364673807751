"""Fit what a step costs the host and the device to the intervals of an asynchronous engine.

No interval belongs to one batch (`recursion.py`), so all terms are fitted together, on the recursion as it
runs freely: given the measured end of the step before, the device would seem to start when it was told to.
First with a loss that stalls don't sway, then by least squares, each interval's error over its root: short
steps are many. Where a log has stamps of its own for launches or kernels, those are fitted too; where CUDA
events tell of enough kernels, the device is fitted to these alone (`device_fit.py`), and the rest to the
intervals.

A host is faster in one run than in the next, so each run has a speed (1 is the mean over the time that the
host bounds), held near 1 by a prior; the device has none. Last, launches, decodes and prefills are each
scaled so that the intervals that are theirs add up: waiting is made of sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

import numpy as np

from simsched.cost_model.device_fit import FEW, delay, fit_device, price
from simsched.cost_model.fit import STALL, FloatArray
from simsched.cost_model.host import HostCost, LaunchMode
from simsched.cost_model.models import TableCost
from simsched.cost_model.overlapped import BoolArray, OverlappedSteps
from simsched.cost_model.recursion import BatchTimes, Intervals, Recursion

MAX_TOKENS = 8192  # last knot of the table; its last slope goes on beyond
SPEED_WIDTH = 0.25  # of the prior on the logarithm of a run's host speed
# Without CUDA events `copy` may be traded for `before` and `tail`: it is a copy of some tokens and a wake-up
COPY, COPY_WIDTH = 0.1, 0.05  # ms
BEND = 0.3  # errors (ms / root ms) beyond which a step counts less in the first pass
NIL = 1e-12  # seconds: a coefficient that a bounded search leaves just above 0
STEP = 1e-3  # of a term, for differences

Loss = Literal["soft_l1", "linear"]


class Term(NamedTuple):
    """A coefficient: in ms, of K and Q per 1,000."""

    start: float
    low: float
    high: float
    what: str
    log: str
    """The batches that tell it."""


TERMS: Final = {
    "full": Term(3.0, 0.1, 100, "launch of one CUDA graph", "a few decodes at a time"),
    "piecewise": Term(9.0, 0.1, 200, "launch in piecewise graphs", "small prefills"),
    "none": Term(22.0, 0.1, 500, "launch without graphs", "prefills beyond the captured sizes"),
    "per_sequence": Term(0.04, 0, 2, "host, per decode", "prefills beside few and many decodes"),
    "per_chunk": Term(0.3, 0, 20, "host, per chunk", "as many prefill tokens in few and many chunks"),
    "per_prefill_token": Term(0.0005, 0, 0.2, "host, per prefill token", "prefills of 600 to 1,800 tokens"),
    "before": Term(2.0, 0.0, 100, "launch before the first kernel", "small prefills in a row"),
    "share": Term(0.7, 0, 1, "host's terms before the first kernel", "prefills beside few and many decodes"),
    "tail": Term(1.0, 0, 50, "kernels left behind a launch", "small prefills in a row"),
    "copy": Term(0.1, 0, 3, "device's end to the update", "CUDA events (simsched.vllm.TimedExecutor)"),
    "floor": Term(6.0, 0.05, 500, "device, least", "single decodes"),
    "slope": Term(0.003, 0, 2, "device, per token below the knee", "1 to 256 decodes, short contexts"),
    "compute": Term(0.5, 0, 500, "device, least beyond the knee", "300 to 2,000 tokens behind a full batch"),
    "per_token": Term(0.02, 1e-4, 2, "device, per token beyond the knee", "prefills of up to 2,000 tokens"),
    "context": Term(0.04, 0, 2, "device, decode context", "decodes with short and long contexts"),
    "attention": Term(0.001, 0, 1, "device, prefill attention", "long prompts and chunks behind a prefix"),
    "chunk": Term(0.1, 0, 10, "device, per chunk", "as many prefill tokens in few and many chunks"),
    "sequence": Term(0.003, 0, 1, "device, per sequence", "1 to 256 decodes, short contexts"),
}
NAMES: Final = tuple(TERMS)
HOST_TERMS: Final = ("full", "piecewise", "none", "per_sequence", "per_chunk", "per_prefill_token", "before")
DECODE_TERMS: Final = ("floor", "slope", "context", "sequence")
PREFILL_TERMS: Final = ("compute", "per_token", "attention", "chunk")
DEVICE_TERMS: Final = (*DECODE_TERMS, *PREFILL_TERMS)


@dataclass(frozen=True)
class OverlapFit:
    """What the steps tell."""

    terms: dict[str, float]
    """As in `TERMS`."""
    errors: dict[str, float]
    """Standard errors; twice what the fit gives, for neighbouring launches are alike. Infinite where no step
    depends on the term."""
    speeds: tuple[float, ...]
    """Of the host in each run; 2 takes twice as long."""
    timed: TableCost | None = None
    """The device by CUDA events; None: it is among the terms."""

    def times(self, steps: OverlappedSteps, speed: float | FloatArray = 1.0) -> BatchTimes:
        """What each step costs, in ms."""
        values = {name: np.array([value]) for name, value in self.terms.items()}
        factor = np.broadcast_to(np.asarray(speed, dtype=float), (len(steps),))[:, None]
        return _times(steps, values, factor, _priced(self.timed, steps))

    def intervals(self, steps: OverlappedSteps, speed: float | FloatArray = 1.0) -> Intervals:
        """The intervals of these steps, in ms, shape (steps, 1)."""
        return Recursion(steps.after_idle).run(self.times(steps, speed))

    def own_speeds(self, steps: OverlappedSteps) -> FloatArray:
        """The fitted host speed of each step's run."""
        return np.array(self.speeds)[steps.run]

    def device(self) -> TableCost:
        """The device's time, over padded tokens."""
        if self.timed is not None:
            return self.timed
        v = self.terms
        low, high = (v["floor"], v["slope"]), (v["compute"], v["per_token"])

        def at(tokens: float) -> float:
            return _six(max(base + slope * tokens for base, slope in (low, high)) * 1e-3)

        knots = [1, MAX_TOKENS]
        if high[1] > low[1] and low[0] > high[0]:
            knee = round((low[0] - high[0]) / (high[1] - low[1]))
            knots += [knee] if 1 < knee < MAX_TOKENS else []
        return TableCost(
            knots=tuple(sorted(knots)),
            g=tuple(at(knot) for knot in sorted(knots)),
            c=_six(v["context"] * 1e-6),
            d=_six(v["attention"] * 1e-6),
            h=_six(v["sequence"] * 1e-3),
            per_chunk=_six(v["chunk"] * 1e-3),
        )

    def host(self, output_per_sequence: float, provenance: str) -> HostCost:
        """The host's, with what output handling costs a sequence (s)."""
        v = {name: _six(value * 1e-3) for name, value in self.terms.items()}
        return HostCost(
            full=v["full"],
            piecewise=v["piecewise"],
            none=v["none"],
            per_sequence=v["per_sequence"],
            per_chunk=v["per_chunk"],
            per_prefill_token=v["per_prefill_token"],
            before_first_kernel=(v["before"], _six(self.terms["share"])),
            tail=v["tail"],
            copy=v["copy"],
            output_per_sequence=_six(output_per_sequence),
            sd=0.0,
            speed=1.0,
            provenance=provenance,
        )


def fit_overlap(steps: OverlappedSteps, known: BoolArray, near: OverlapFit | None = None) -> OverlapFit:
    """Terms of host and device, from the intervals of the `known` steps (the others are only passed through).

    Args:
        steps: of one or more runs.
        known: the steps whose times may be looked at, shape (steps,).
        near: a fit to other steps of these, near which this one will be.
    """
    known = known & steps.judged
    timed = fit_device(steps, known)
    problem = _Problem(steps, known, timed)
    speeds = [0.0] * problem.num_speeds
    starts = []
    if near is not None:
        logs = np.log(near.speeds) if problem.num_speeds else np.array([])
        terms = {name: near.terms.get(name, TERMS[name].start) for name in problem.names}
        starts.append(np.append(list(terms.values()), logs))
    stamped = _launches_as_stamped(steps, known)
    if near is None or stamped is not None:
        first = {name: TERMS[name].start for name in problem.names}
        for terms in (first, first | stamped) if stamped else (first,):
            starts.append(problem.solve(np.array([*terms.values(), *speeds]), "soft_l1"))
    # a search may end in a hollow of its own: the best of them
    ends = [problem.solve(start, "linear") for start in starts]
    best = min(ends, key=problem.cost)
    terms, of_runs, errors = problem.unpack(best)
    fit = OverlapFit(terms, errors, of_runs, timed)
    return _at_mean_speed(_level(fit, steps, known), steps, known)


def _launches_as_stamped(steps: OverlappedSteps, known: BoolArray) -> dict[str, float] | None:
    """Where to begin: the host's terms by stamped launches alone; None where there are too few."""
    from scipy.optimize import nnls

    launched = known & np.isfinite(steps.launch)
    if launched.sum() < FEW:
        return None
    modes = [(steps.mode == mode).astype(float) for mode in LaunchMode]
    columns = np.column_stack([*modes, steps.batch.N, steps.batch.S, steps.batch.P])[launched]
    measured = steps.launch[launched] * 1e3
    host = nnls(columns / measured[:, None], np.ones(len(measured)))[0].tolist()
    return {**dict(zip(HOST_TERMS, host, strict=False)), "before": 0.8 * host[0]}


def _priced(device: TableCost | None, steps: OverlappedSteps) -> FloatArray | None:
    """What each step costs the device, in ms, shape (steps, 1)."""
    return None if device is None else price(device, steps)[:, None] * 1e3


class _Problem:
    """The residuals of a fit, for many sets of parameters at once."""

    def __init__(self, steps: OverlappedSteps, known: BoolArray, timed: TableCost | None) -> None:
        """`timed`: the device by CUDA events, if they tell it; its terms are then none of the parameters."""
        self._steps, self._known = steps, known
        self._device = _priced(timed, steps)
        self.names = tuple(name for name in NAMES if timed is None or name not in DEVICE_TERMS)
        copied = delay(steps, known)
        self._copy = (COPY, COPY_WIDTH) if copied is None else (copied * 1e3, COPY_WIDTH / 5)
        self._recursion = Recursion(steps.after_idle)
        self._interval = steps.batch.time[:, None] * 1e3
        self._root = np.sqrt(self._interval)
        self.num_speeds = steps.num_runs if steps.num_runs > 1 else 0
        more = self.num_speeds
        terms = [TERMS[name] for name in self.names]
        self._low = np.array([term.low for term in terms] + [-1.5] * more)
        self._high = np.array([term.high for term in terms] + [1.5] * more)
        self._scale = np.array([max(term.start, 0.05) for term in terms] + [0.3] * more)
        self._launched = known & np.isfinite(steps.launch)
        self._timed = known & np.isfinite(steps.gpu) & (timed is None)

    def residuals(self, values: FloatArray) -> FloatArray:
        """Errors over the root of the time, and the prior's; `values` has a set of parameters a column."""
        steps = self._steps
        logs = values[len(self.names) :]
        terms = dict(zip(self.names, values, strict=False))
        times = _times(steps, terms, self._speeds(values), self._device)
        interval = self._recursion.run(times).interval
        usual, width = self._copy
        copy = (terms["copy"] - usual) / width
        parts = [((interval - self._interval) / self._root)[self._known], logs / SPEED_WIDTH, copy[None]]
        if self._launched.any():
            launch = steps.launch[self._launched, None] * 1e3
            parts.append((times.host[self._launched] - launch) / np.sqrt(launch))
        if self._timed.any():
            gpu = steps.gpu[self._timed, None] * 1e3
            parts.append((times.gpu[self._timed] - gpu) / np.sqrt(gpu))
        return np.vstack(parts)

    def solve(self, start: FloatArray, loss: Loss) -> FloatArray:
        """The best parameters from these on."""
        from scipy.optimize import least_squares

        low, high, scale = self._low, self._high, self._scale

        def residuals(values: FloatArray) -> FloatArray:
            return self.residuals(values[:, None])[:, 0]

        found = least_squares(
            residuals,
            np.clip(start, low + 1e-6, high - 1e-6),
            jac=self._differences,
            bounds=(low, high),
            loss=loss,
            f_scale=BEND,
            x_scale=scale,
            ftol=1e-6,
            xtol=1e-5,
            max_nfev=60,
        )
        return np.asarray(found.x)

    def _differences(self, values: FloatArray) -> FloatArray:
        """The residuals' derivatives by each parameter, all in one pass."""
        steps = STEP * np.maximum(np.abs(values), 0.1 * self._scale)
        steps = np.where(values + steps > self._high, -steps, steps)
        moved = np.repeat(values[:, None], len(values) + 1, axis=1)
        moved[np.arange(len(values)), np.arange(1, len(values) + 1)] += steps
        found = self.residuals(moved)
        return np.asarray((found[:, 1:] - found[:, :1]) / steps)

    def cost(self, values: FloatArray) -> float:
        """Sum of the squares."""
        return float((self.residuals(values[:, None]) ** 2).sum())

    def unpack(self, values: FloatArray) -> tuple[dict[str, float], tuple[float, ...], dict[str, float]]:
        """Terms, host speeds of the runs, and standard errors of the terms."""
        residuals, jacobian = self.residuals(values[:, None]), self._differences(values)
        free = max(len(residuals) - len(values), 1)
        covariance = np.linalg.pinv(jacobian.T @ jacobian) * float((residuals**2).sum()) / free
        errors = 2 * np.sqrt(np.abs(np.diag(covariance)))
        errors[~jacobian.any(axis=0)] = np.inf  # no interval depends on it
        logs = values[len(self.names) :]
        speeds = np.exp(logs - logs.mean()) if len(logs) else np.ones(self._steps.num_runs)
        terms = dict(zip(self.names, values.tolist(), strict=False))
        return terms, tuple(speeds.tolist()), dict(zip(self.names, errors.tolist(), strict=False))

    def _speeds(self, values: FloatArray) -> FloatArray:
        logs = values[len(self.names) :]
        if not len(logs):
            return np.ones((len(self._steps), values.shape[1]))
        return np.asarray(np.exp(logs - logs.mean(axis=0))[self._steps.run])


def _times(
    steps: OverlappedSteps, v: Mapping[str, FloatArray], speed: FloatArray, device: FloatArray | None
) -> BatchTimes:
    """Costs in ms for each set of parameters: `v` (sets,) for each term, `speed` (steps, sets or 1), `device`
    (steps, 1) where it is known."""
    P, N, S, K, Q = (getattr(steps.batch, name)[:, None] for name in ("P", "N", "S", "K", "Q"))
    tokens = steps.tokens[:, None]
    counted = v["per_sequence"] * N + v["per_chunk"] * S
    base = np.stack([v["full"], v["piecewise"], v["none"]])[steps.mode]
    host = speed * (base + counted + v["per_prefill_token"] * P)
    if device is None:
        gpu = np.maximum(v["floor"] + v["slope"] * tokens, v["compute"] + v["per_token"] * tokens)
        gpu = gpu + v["context"] * (K * 1e-3) + v["attention"] * (Q * 1e-3)
        gpu = gpu + v["chunk"] * S + v["sequence"] * (N + S)
    else:
        gpu = np.broadcast_to(device, host.shape)
    return BatchTimes(
        host=host,
        before=np.minimum(speed * (v["before"] + v["share"] * counted), host),
        gpu=gpu,
        tail=np.where(steps.mode[:, None] == LaunchMode.FULL, -np.inf, v["tail"]),
        settle=v["copy"],
    )


def _level(fit: OverlapFit, steps: OverlappedSteps, known: BoolArray) -> OverlapFit:
    """The terms of launches, of decodes and of prefills on the device scaled, each so that the intervals that
    are theirs add up to the measured ones."""
    measured = steps.batch.time * 1e3
    terms = dict(fit.terms)
    decodes = steps.mode == LaunchMode.FULL
    for _ in range(5):
        now = replace(fit, terms=terms)
        found = now.intervals(steps, now.own_speeds(steps))
        interval = found.interval[:, 0]
        usual = known & ~steps.after_idle & (measured < STALL * interval)
        by_host = (found.by_host > found.by_device)[:, 0]
        for rows, names in (
            (by_host, HOST_TERMS),
            (~by_host & decodes, DECODE_TERMS),
            (~by_host & ~decodes, PREFILL_TERMS),
        ):
            if names[0] in terms and (usual & rows).any():
                factor = float(measured[usual & rows].sum() / interval[usual & rows].sum())
                terms.update({name: terms[name] * factor for name in names})
    return replace(fit, terms=terms)


def _at_mean_speed(fit: OverlapFit, steps: OverlappedSteps, known: BoolArray) -> OverlapFit:
    """The same fit with 1 the mean speed of the host over the time that it bounded: runs in which it hardly
    showed say nothing of how fast it usually is."""
    found = fit.intervals(steps, fit.own_speeds(steps))
    by_host = known & (found.by_host > found.by_device)[:, 0]
    if not by_host.any():
        return fit
    mean = float(np.average(fit.own_speeds(steps)[by_host], weights=steps.batch.time[by_host]))
    terms = {**fit.terms, **{name: fit.terms[name] * mean for name in HOST_TERMS}}
    errors = {**fit.errors, **{name: fit.errors[name] * mean for name in HOST_TERMS}}
    return replace(fit, terms=terms, errors=errors, speeds=tuple(speed / mean for speed in fit.speeds))


def _six(value: float) -> float:
    """Six digits: more would be noise, and so the file holds what was tested."""
    return float(f"{value:.6g}") if value > NIL else 0.0
