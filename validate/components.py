"""What latency is made of, so that two wrongs can't cancel: step time, queueing, preemptions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from simsched.cost_model.models import LinearCost, TableCost
from simsched.cost_model.step_log import read_step_logs
from simsched.errors import InputError
from simsched.results import Results
from simsched.workload.trace import FloatArray

if TYPE_CHECKING:
    import polars as pl

COMPONENTS = ("mean_step_time_ms", "num_steps", "busy_time_s", "mean_queueing_ms", "num_preemptions")


def components(results: Results, cell: str) -> dict[str, float]:
    """`COMPONENTS` of a cell; those of steps are NaN without a step log."""
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


def cell_table(results: Results, cell: str) -> pl.DataFrame:
    """The rows of a cell in requests.parquet."""
    import polars as pl

    table = results.requests
    for name, value in results.cells[cell].items():
        table = table.filter(pl.col(name).is_null() if value is None else pl.col(name) == value)
    if table.is_empty():
        raise InputError(f"{results.path / 'requests.parquet'}: damaged, no request of cell {cell}")
    return table


def cell_requests(results: Results, cell: str) -> dict[str, FloatArray]:
    """Seconds per finished request of a cell: `ttft`, `e2el`, `latency_per_token`, `queueing`."""
    import polars as pl

    table = cell_table(results, cell).filter(pl.col("finish_time").is_not_null())
    arrival = table["arrival_time"].to_numpy()
    e2el = table["finish_time"].to_numpy() - arrival
    return {
        "ttft": table["first_token_time"].to_numpy() - arrival,
        "e2el": e2el,
        "latency_per_token": e2el / table["num_output_tokens"].to_numpy(),
        "queueing": table["first_scheduled_time"].to_numpy() - arrival,
    }
