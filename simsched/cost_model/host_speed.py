"""How fast the host of a run was, by the step log of that run alone.

The same host prepares the same launch now in one time and now in a third more, for seconds or for a run (a
virtual machine's, above all). A profile can't know; a replay's step log can. Two readings of it, both in
units of the profile's host (2 takes twice as long):

`by_total`: at this speed the run's own batches take as long in all as they did. It is what a simulation with
one speed needs, for a host that is now slow and now fast costs more than one that is always like its mean
(an interval is the longer of two things). A prior holds it near `by_launches`, so that a run whose host
never shows gets no speed from small errors of the device.

`by_launches`: measured over modelled time of the intervals that a launch clearly bounds.
"""

from __future__ import annotations

import numpy as np

from simsched.cost_model.base import StepFeatures
from simsched.cost_model.fit import FloatArray
from simsched.cost_model.host import HostedCost, LaunchMode
from simsched.cost_model.overlapped import OverlappedSteps
from simsched.cost_model.recursion import BatchTimes, Intervals, Recursion

SPEEDS = np.exp(np.linspace(np.log(0.25), np.log(4.0), 279))  # 1 % apart
CLEARLY = 1.1  # an interval is a launch's where that takes so many times as long as the device would
LEAST = 5  # such intervals
FEW = 200  # decodes: so many that no host is slower than the device
TOTAL_WIDTH = 0.01  # of the total time: what a device model may be off
SPEED_WIDTH = 0.25  # of the logarithm of a speed


def intervals(steps: OverlappedSteps, cost: HostedCost, speeds: FloatArray) -> Intervals:
    """The intervals (s) of these steps at each of these host speeds, shape (steps, speeds)."""
    tokens = (steps.batch.P + steps.batch.N).astype(int)
    padded = np.arange(int(tokens.max()) + 1)
    padded[tokens] = steps.tokens.astype(int)
    device, host = cost.device.on_graphs(padded.tolist()), cost.host
    rows = []
    columns = (steps.batch.P, steps.batch.N, steps.batch.S, steps.batch.K, steps.batch.Q)
    for (P, N, S, K, Q), number in zip(np.transpose(columns).tolist(), steps.mode.tolist(), strict=True):
        batch, mode = StepFeatures(int(P), int(N), int(S), int(K), Q), LaunchMode(number)
        rows.append((host.launch(batch, mode), host.before(batch, mode), device.step_time(batch)))
    launch, before, gpu = np.array(rows).T[:, :, None]
    shape = (len(steps), len(speeds))
    tail = np.where(steps.mode == LaunchMode.FULL, -np.inf, host.tail)
    times = BatchTimes(
        host=launch * speeds,
        before=before * speeds,
        gpu=np.broadcast_to(gpu, shape),
        tail=np.broadcast_to(tail[:, None], shape),
        settle=np.full(len(speeds), host.copy),
    )
    return Recursion(steps.after_idle).run(times)


def by_launches(steps: OverlappedSteps, cost: HostedCost) -> float | None:
    """The speed that launches show; None where too few of them do.

    Only launches of a batch with prefills count: those of decodes are short, and a wrong device hides them.
    """
    found = intervals(steps, cost, np.ones(1))
    by_host, by_device = found.by_host[:, 0], found.by_device[:, 0]
    rows = steps.judged & ~steps.after_idle & (steps.followed_by() > LaunchMode.FULL)
    rows &= np.isfinite(by_host) & (by_host > CLEARLY * by_device)
    if rows.sum() < LEAST:
        return None
    return float(steps.batch.time[rows].sum() / by_host[rows].sum())


def by_total(steps: OverlappedSteps, cost: HostedCost) -> float:
    """The speed at which the run's batches take as long in all as they did."""
    found = intervals(steps, cost, SPEEDS).interval[steps.judged].sum(axis=0)
    off = found / steps.batch.time[steps.judged].sum() - 1
    prior = np.log(SPEEDS / (by_launches(steps, cost) or 1.0))
    return float(SPEEDS[np.argmin((off / TOTAL_WIDTH) ** 2 + (prior / SPEED_WIDTH) ** 2)])


def total_error(steps: OverlappedSteps, cost: HostedCost, speed: float) -> float:
    """Predicted over measured time of all steps, less 1, at this host speed."""
    found = intervals(steps, cost, np.array([speed])).interval[steps.judged, 0]
    return float(found.sum() / steps.batch.time[steps.judged].sum() - 1)


def decode_error(steps: OverlappedSteps, cost: HostedCost, speed: float) -> float | None:
    """Median absolute relative error of intervals of up to `FEW` decodes amid decodes; None without any.

    These are the device's alone on most machines: neither this step nor its neighbours have a prefill."""
    alone = steps.batch.S == 0
    rows = alone & np.append(True, alone[:-1]) & np.append(alone[1:], True)
    rows &= steps.judged & ~steps.after_idle & (steps.batch.N <= FEW)
    if not rows.any():
        return None
    found = intervals(steps, cost, np.array([speed])).interval[rows, 0]
    return float(np.median(np.abs(found / steps.batch.time[rows] - 1)))
