"""What latency is made of, so that two wrongs can't cancel: step time, queueing, preemptions."""

from __future__ import annotations

import math

import numpy as np

from simsched.results import Results

COMPONENTS = ("mean_step_time_ms", "num_steps", "busy_time_s", "mean_queueing_ms", "num_preemptions")


def components(results: Results, cell: str) -> dict[str, float]:
    """`COMPONENTS` of a cell; those of steps are NaN without a step log."""
    from validate.comparison import cell_requests

    times = np.array([])
    if (results.path / "steps" / f"{cell}.jsonl").is_file():
        times = np.array([step["step_time"] for step in results.steps(cell)])
    row = next(row for row in results.summary.to_dicts() if row["cell"] == cell)
    known = len(times) > 0
    return {
        "mean_step_time_ms": float(times.mean()) * 1e3 if known else math.nan,
        "num_steps": float(len(times)) if known else math.nan,
        "busy_time_s": float(times.sum()) if known else math.nan,
        "mean_queueing_ms": float(cell_requests(results, cell)["queueing"].mean()) * 1e3,
        "num_preemptions": float(row["num_preemptions"]),
    }
