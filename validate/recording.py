"""What a real engine did, as the record that the simulator leaves: one schema on both sides."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simsched.errors import InputError
from simsched.histogram import WeightedHistogram
from simsched.record import RunRecord
from simsched.vllm.stamps import COLUMNS
from simsched.workload.trace import FloatArray, Trace


class RealRecorder:
    """Token times of every request, in seconds on the run's clock; requests by their index in the trace."""

    def __init__(self, trace: Trace) -> None:
        n = len(trace)
        self.trace = trace
        self.num_tokens = [0] * n
        self.lateness: list[float] = []
        """Seconds by which the load generator itself was late, one entry a request sent."""
        self._first = [math.nan] * n
        self._last = [math.nan] * n
        self._max_gap = [math.nan] * n
        self._itl = WeightedHistogram()

    def tokens(self, index: int, count: int, time: float) -> None:
        """`count` tokens of a request came at `time`; of several at once, all but the first have no gap."""
        if not count:
            return
        if self.num_tokens[index]:
            gap = time - self._last[index]
            self._itl.add(gap)
            self._max_gap[index] = max(gap, self._max_gap[index]) if self.num_tokens[index] > 1 else gap
        else:
            self._first[index] = time
        if count > 1:
            self._itl.add(0.0, count - 1)
            if math.isnan(self._max_gap[index]):
                self._max_gap[index] = 0.0
        self.num_tokens[index] += count
        self._last[index] = time

    def lost(self) -> list[int]:
        """The requests that did not get exactly the tokens that they should."""
        wanted = self.trace.num_output_tokens.tolist()
        return [index for index, got in enumerate(self.num_tokens) if got != wanted[index]]

    def record(
        self, steps: Sequence[dict[str, Any]], end: float, arrival_time: FloatArray | None = None
    ) -> RunRecord:
        """The run's record; first-scheduled times and preemptions are the engine's, from its step log.

        `arrival_time`: (n,) seconds, where turns waited for answers; None: the trace's.

        Raises:
            InputError: requests were lost.
        """
        if lost := self.lost():
            first = self.trace.request_ids()[lost[0]]
            got, wanted = self.num_tokens[lost[0]], int(self.trace.num_output_tokens[lost[0]])
            raise InputError(
                f"{len(lost)} of {len(self.trace)} requests were lost or cut; "
                f"the first is {first}: {got} of {wanted} tokens"
            )
        index = {name: place for place, name in enumerate(self.trace.request_ids())}
        scheduled = np.full(len(self.trace), np.nan)
        preempted = np.zeros(len(self.trace), dtype=np.int64)
        for step in reversed(steps):
            for name in step["scheduled"]:
                scheduled[index[name]] = step["time"]
            for name in step["preempted"]:
                preempted[index[name]] += 1
        return RunRecord(
            trace=self.trace,
            arrival_time=self.trace.arrival_time if arrival_time is None else arrival_time,
            first_scheduled_time=scheduled,
            first_token_time=np.array(self._first),
            finish_time=np.array(self._last),
            num_preemptions=preempted,
            max_itl=np.array(self._max_gap),
            itl=self._itl,
            end_time=end,
            num_steps=len(steps),
        )


def read_steps(path: Path, start: float) -> list[dict[str, Any]]:
    """The scheduler's step log, its times shifted to the run's clock, which began at `start` (monotonic s).

    Raises:
        InputError: there is none, so the engine did not run our scheduler.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: the engine wrote no step log") from None
    steps = [json.loads(line) for line in text.splitlines()]
    for step in steps:
        for column in ("time", "end", *COLUMNS):
            if step[column] is not None:
                step[column] -= start
        for column in ("added", "empty_schedules"):
            step[column] = [time - start for time in step[column]]
        step["arrived"] = {name: time - start for name, time in step["arrived"].items()}
    return steps


def summary_of_lateness(lateness: Sequence[float]) -> dict[str, float]:
    """Mean, P99 and largest lateness of the load generator, in milliseconds."""
    values = np.array(lateness or [0.0]) * 1e3
    return {
        "mean_ms": float(values.mean()),
        "p99_ms": float(np.percentile(values, 99)),
        "max_ms": float(values.max()),
    }


def launch_times(steps: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """How fast the host was: for each launch mode, steps and their median launch time in milliseconds."""
    times: dict[str, list[float]] = {}
    for step in steps:
        if step.get("launch_end") is not None:
            times.setdefault(step["launch_mode"], []).append(step["launch_end"] - step["launch_begin"])
    return {
        mode: {"steps": len(each), "median_ms": float(np.median(each)) * 1e3}
        for mode, each in sorted(times.items())
    }
