"""The simulator at the speed that the machine had: what is left of its errors when that is given.

A machine that others use (a virtual one always is) computes the same step now in one time and now in nearly
twice that, for fractions of a second or for minutes. No profile predicts it, and a queue near saturation
multiplies it. So beside the plain prediction stands one in which every step takes the profile's time
multiplied by the machine's speed around then, as the replay's own step log tells it: measured over predicted
time of the steps really taken, in windows of `WINDOW` seconds. Levels and drifts of step times are then
given; batches, queues, preemptions, and so every latency, are still predicted.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from simsched.cost_model.base import StepFeatures
from simsched.cost_model.models import LinearCost, TableCost
from simsched.cost_model.step_log import read_step_logs
from simsched.metrics import summarize
from simsched.request_table import request_table
from simsched.results import Results, ResultsWriter
from simsched.sweep.inputs import prepare
from simsched.sweep.plan import Plan
from simsched.sweep.run import run
from simsched.workload.trace import FloatArray

WINDOW = 0.25
"""Seconds: some sixty steps, so that no step is given by itself."""


class CostAtSpeed:
    """A cost model whose times are multiplied by a factor that changes as the run goes on."""

    def __init__(self, cost: LinearCost | TableCost, times: FloatArray, factors: FloatArray) -> None:
        self._cost = cost
        self._times, self._factors = times, factors
        self._now = 0.0

    def step_time(self, features: StepFeatures) -> float:
        return self._cost.step_time(features) * self._factor()

    def decode_line(self, *counts: int) -> tuple[float, float]:
        base, slope = self._cost.decode_line(*counts)
        return base * self._factor(), slope * self._factor()

    def step_done(self, step: dict[str, Any]) -> None:
        """The clock goes on: a step log's line."""
        self._now = step["time"] + step["step_time"]

    def _factor(self) -> float:
        return float(np.interp(self._now, self._times, self._factors))


def machine_speed(real: Results, cell: str, cost: LinearCost | TableCost) -> tuple[FloatArray, FloatArray]:
    """Middles of windows (s), and measured over predicted time of the steps that began in each."""
    times = np.array([step["time"] for step in real.steps(cell)])
    steps = read_step_logs([real.path / "steps" / f"{cell}.jsonl"]).steps
    predicted = steps.predict(cost)
    windows = [np.flatnonzero(times // WINDOW == window) for window in np.unique(times // WINDOW)]
    middles = [times[rows].mean() for rows in windows]
    factors = [steps.time[rows].sum() / predicted[rows].sum() for rows in windows]
    return np.array(middles), np.array(factors)


def simulate_at_speed(plan: Plan, real: Results, cost: LinearCost | TableCost, out: Path) -> Results:
    """Simulate every cell of a plan at the speed that the machine had in this replay of it."""
    manifest = {**plan.manifest(), "source": f"simulated at the machine's speed in {real.path.name}"}
    writer = ResultsWriter.create(out, manifest, overwrite=False)
    for name, cell in plan.cells.items():
        at_speed = CostAtSpeed(cost, *machine_speed(real, name, cost))
        log = writer.step_log(name)

        def step_done(step: dict[str, Any], at_speed: CostAtSpeed = at_speed, log: Any = log) -> None:
            at_speed.step_done(step)
            log(step)

        inputs = replace(prepare(cell), cost=at_speed, predictor_time=0.0)
        record = run(inputs, step_log=step_done)
        writer.write_cell(name, request_table(record), summarize(record), log)
    return writer.merge()
