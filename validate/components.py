"""What latency is made of, so that two wrongs can't cancel: step time, queueing, preemptions."""

from __future__ import annotations

import math

import numpy as np

from simsched.cost_model.models import LinearCost, TableCost
from simsched.cost_model.step_log import read_step_logs
from simsched.results import Results

COMPONENTS = ("mean_step_time_ms", "num_steps", "busy_time_s", "mean_queueing_ms", "num_preemptions")


def components(results: Results, cell: str) -> dict[str, float]:
    """`COMPONENTS` of a cell; those of steps are NaN without a step log."""
    from validate.comparison import cell_requests, cell_table

    times = np.array([])
    if (results.path / "steps" / f"{cell}.jsonl").is_file():
        times = np.array([step["step_time"] for step in results.steps(cell)])
    known = len(times) > 0
    return {
        "mean_step_time_ms": float(times.mean()) * 1e3 if known else math.nan,
        "num_steps": float(len(times)) if known else math.nan,
        "busy_time_s": float(times.sum()) if known else math.nan,
        "mean_queueing_ms": float(cell_requests(results, cell)["queueing"].mean()) * 1e3,
        "num_preemptions": float(cell_table(results, cell)["num_preemptions"].sum()),
    }


def step_error(results: Results, cost: LinearCost | TableCost) -> dict[str, dict[str, float]]:
    """How a profile predicts the steps that a replay really took, batch by batch, for each cell.

    `total`: of the sum of all steps, signed (predicted against real); `mean_absolute`: of a step.
    """
    errors = {}
    for cell in results.cells:
        steps = read_step_logs([results.path / "steps" / f"{cell}.jsonl"]).steps
        predicted = steps.predict(cost)
        errors[cell] = {
            "total": float(predicted.sum() / steps.time.sum() - 1),
            "mean_absolute": float(np.abs(predicted / steps.time - 1).mean()),
        }
    return errors
