"""A profile of host and device from step logs of an asynchronous GPU engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simsched.cost_model.device_fit import timed_batches
from simsched.cost_model.fit import FloatArray, Steps
from simsched.cost_model.host import HostCost
from simsched.cost_model.identify import unidentified
from simsched.cost_model.models import TableCost
from simsched.cost_model.overlap_fit import TERMS, OverlapFit, fit_overlap
from simsched.cost_model.overlapped import BoolArray, OverlappedSteps, output_per_sequence, read_overlapped
from simsched.cost_model.profile import FitError

MAX_ERROR = 0.5  # of a term's value: beyond it the steps do not tell the term
HELD_OUT = 0.25  # of the intervals


@dataclass(frozen=True)
class Overlapped:
    """Host and device, and what shows how good they are."""

    cost: TableCost
    host: HostCost
    fit: FitError
    test: Steps
    """Intervals that the first fit has not seen, with the features of the batch that was on the device."""
    predicted: FloatArray
    """Seconds of each of them."""
    train: Steps
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def calibrate_overlapped(paths: Sequence[Path], seed: int, provenance: str) -> Overlapped:
    """Fit host and device to these logs: once without a quarter of the intervals, for the error, then to all.

    Args:
        paths: logs or results directories.
        seed: of the intervals held out.
        provenance: of the host block.

    Raises:
        InputError: as `read_overlapped`.
    """
    steps = read_overlapped(paths)
    rng = np.random.default_rng(seed)
    held_out = (rng.random(len(steps)) < HELD_OUT) & steps.judged
    first = fit_overlap(steps, ~held_out)
    error, predicted = _held_out(first, steps, held_out)
    fit = fit_overlap(steps, np.ones(len(steps), dtype=bool), first)
    output = output_per_sequence(paths, steps)
    notes = [
        "host and device: least squares on the recursion of an asynchronous engine's intervals, soft L1 "
        "first; then each scaled to the total time that it bounds",
    ]
    if len(fit.speeds) > 1:
        speeds = ", ".join(f"{speed:.2f}" for speed in fit.speeds)
        notes.append(
            f"host speeds of the runs: {speeds} (2 takes twice as long); 1 is the mean over what it bounds"
        )
    warnings = [*_unidentified(fit)]
    if fit.timed is not None:
        batches = timed_batches(steps, np.ones(len(steps), dtype=bool))
        unseen = timed_batches(steps, held_out)
        notes.append(
            f"device: {len(batches)} steps between CUDA events; a step held out is "
            f"{np.abs(unseen.predict(first.device()) / unseen.time - 1).mean():.1%} off in the mean"
        )
        warnings += unidentified(batches, fit.timed)
    if output is None:
        warnings.append(
            "output_per_sequence is not identified: no requests.parquet beside the logs; taken for 0"
        )
    return Overlapped(
        cost=fit.device(),
        host=fit.host(output or 0.0, provenance),
        fit=error,
        test=steps.batch.select(held_out),
        predicted=predicted,
        train=steps.batch,
        notes=tuple(notes),
        warnings=tuple(warnings),
    )


def _held_out(fit: OverlapFit, steps: OverlappedSteps, rows: BoolArray) -> tuple[FitError, FloatArray]:
    """Errors on these rows, each run at the host speed that the fit gave it."""
    found = fit.intervals(steps, fit.own_speeds(steps))
    predicted = found.interval[:, 0] / 1e3
    error = np.abs(predicted / steps.batch.time - 1)
    by_host = (found.by_host > found.by_device)[:, 0]
    total = predicted[rows].sum() / steps.batch.time[rows].sum() - 1

    def mean(some: BoolArray) -> float | None:
        return float(error[some].mean()) if some.any() else None

    return (
        FitError(
            mean=float(error[rows].mean()),
            median=float(np.median(error[rows])),
            p95=float(np.percentile(error[rows], 95)),
            num_train=int((~rows & steps.judged).sum()),
            num_test=int(rows.sum()),
            device=mean(rows & ~by_host),
            host=mean(rows & by_host),
            total=float(total),
        ),
        predicted[rows],
    )


def _unidentified(fit: OverlapFit) -> Iterator[str]:
    """A line for each term that the steps do not tell: what it is, how unsure, and what would tell it."""
    for name, value in fit.terms.items():
        term, error = TERMS[name], fit.errors[name]
        if np.isinf(error):
            unsure = "no step depends on it"
        elif value <= max(2 * term.low, 1e-6):
            unsure = "it came out as 0" if term.low == 0 else "it came out at its lower bound"
        elif error > MAX_ERROR * value:
            unsure = f"{value:.3g} +- {error:.2g}"
        else:
            continue
        yield f"{name} ({term.what}) is not identified: {unsure}; log {term.log}"


def describe_error(error: FitError) -> str:
    """Held-out errors of host and device, and of the total, in words."""
    parts = []
    if error.device is not None:
        parts.append(f"where the device bounds it {error.device:.1%}")
    if error.host is not None:
        parts.append(f"where the host does {error.host:.1%}")
    if error.total is not None:
        parts.append(f"total {error.total:+.1%}")
    return ", ".join(parts)
