"""What a batch costs the device, from CUDA events alone.

A step that was all launched before the device came to it runs undisturbed: between its two events lies what
its kernels take, and nothing of the host. Where a log has enough of these, of decodes and of prefills, the
device needs no recursion to be told apart from the host.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simsched.cost_model.fit import FloatArray, Steps, fit_table
from simsched.cost_model.models import TableCost
from simsched.cost_model.overlapped import BoolArray, OverlappedSteps

FEW = 50  # stamped steps of a kind (with prefills, without): fewer say too little
# from what weights cost to what tokens cost there is no sharp bend
KNOTS = (1, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192)


def fit_device(steps: OverlappedSteps, known: BoolArray) -> TableCost | None:
    """The device's time over padded tokens, by the events of `known` steps; None where they say too little.

    Args:
        steps: of one or more runs.
        known: the steps whose times may be looked at, shape (steps,).
    """
    batches = timed_batches(steps, known)
    prefill = batches.S > 0
    if min(prefill.sum(), (~prefill).sum()) < FEW:
        return None
    return fit_table(batches, KNOTS, robust=True, mixed=True)


def timed_batches(steps: OverlappedSteps, known: BoolArray) -> Steps:
    """The `known` steps that ran undisturbed, and their time between events; what pads them is in `P`."""
    return replace(_padded(steps), time=steps.gpu).select(known & np.isfinite(steps.gpu))


def price(device: TableCost, steps: OverlappedSteps) -> FloatArray:
    """Seconds on the device of each step, by its padded tokens."""
    return _padded(steps).predict(device)


def _padded(steps: OverlappedSteps) -> Steps:
    return replace(steps.batch, P=steps.tokens - steps.batch.N)


def delay(steps: OverlappedSteps, known: BoolArray) -> float | None:
    """Seconds from the device's end to the update in the middle of the `known` steps that were waited for;
    None where too few of them are timed."""
    copied = steps.copied[known & np.isfinite(steps.copied)]
    return float(np.median(copied)) if len(copied) >= FEW else None
