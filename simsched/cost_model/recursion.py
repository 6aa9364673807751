"""Intervals between the updates of an asynchronous engine, computed from what each batch costs.

One host thread forms and launches step k + 1, then waits for step k on the device, then updates from it; so
the interval from one update to the next belongs to no single batch:

    launched(k+1) = end(k-1) + host(k+1)                          after idle: launched(k) + host(k+1)
    device(k)     = max(max(device(k-1), end(k-2) + before(k)) + gpu(k), launched(k) + tail(k))
    end(k)        = max(device(k) + settle, launched(k+1))

A fit runs this over all steps for every parameter it moves. Runs, and what lies between two idle times of
one, don't depend on each other: step j of all of them is computed at once, for all sets of parameters.
Source of the order of events: vllm/v1/engine/core.py (`step_with_batch_queue`), vLLM 0.25.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class BatchTimes:
    """What each step costs, in one unit of time, for several sets of parameters: shape (steps, sets)."""

    host: FloatArray
    """From the update before last to the end of the launch."""
    before: FloatArray
    """Of which before the first kernel."""
    gpu: FloatArray
    """The kernels, undisturbed."""
    tail: FloatArray
    """Kernels left when a launch of many pieces is over; -inf where one graph is the whole step."""
    settle: FloatArray
    """From the end of the kernels to the update, shape (sets,)."""


@dataclass(frozen=True)
class Intervals:
    """What the recursion gives, in the batches' unit of time, shape (steps, sets)."""

    interval: FloatArray
    """From the update before (after idle: from the schedule call) to this step's."""
    by_host: FloatArray
    """The same if only the launch of the next step bounded it; -inf where none follows."""
    by_device: FloatArray
    """The same if only the device bounded it."""


class Recursion:
    """The order in which the steps of some runs are computed."""

    def __init__(self, after_idle: BoolArray) -> None:
        """`after_idle`: does step k start on an engine that is idle, or a run? In the order of the log."""
        starts = np.flatnonzero(after_idle)
        if not len(after_idle) or starts[:1].tolist() != [0]:
            raise ValueError("the first step must start on an idle engine")
        lengths = np.diff(np.append(starts, len(after_idle)))
        longest_first = np.argsort(-lengths, kind="stable")
        starts, lengths = starts[longest_first], lengths[longest_first]
        # how many stretches have a step j
        self._counts = [int(np.searchsorted(-lengths, -j)) for j in range(int(lengths[0]))]
        self._order = np.concatenate([starts[:count] + j for j, count in enumerate(self._counts)])
        self._place = np.argsort(self._order)

    def run(self, times: BatchTimes) -> Intervals:
        """Intervals of every step, for every set of parameters."""
        host, before, gpu, tail = (
            np.ascontiguousarray(each[self._order])
            for each in (times.host, times.before, times.gpu, times.tail)
        )
        out = np.empty((3, *host.shape))
        counts = [*self._counts, 0]
        # of each stretch: when the last step ended, the one before it, what the device and the launch are at
        previous = np.zeros((counts[0], host.shape[1]))
        launched, first_kernel = host[: counts[0]], before[: counts[0]]
        base = launched
        device = np.full_like(previous, -np.inf)
        at = 0
        for j, count in enumerate(self._counts):
            rows = slice(at, at + count)
            at += count
            device = np.maximum(device[:count], first_kernel[:count]) + gpu[rows]
            device = np.maximum(device, launched[:count] + tail[rows])
            by_device = device + times.settle
            following = counts[j + 1]
            next_rows = slice(at, at + following)
            launched = base[:following] + host[next_rows]
            first_kernel = base[:following] + before[next_rows]
            previous = previous[:count]
            end = by_device.copy()
            end[:following] = np.maximum(end[:following], launched)
            out[0, rows] = end - previous
            out[1, rows] = -np.inf
            out[1, at - count : at - count + following] = launched - previous[:following]
            out[2, rows] = by_device - previous
            base = previous = end
        return Intervals(*out[:, self._place])
