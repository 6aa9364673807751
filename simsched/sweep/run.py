"""The one way to run a setting: simulate what was prepared, measure it, store it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from simsched.alone import alone_time, session_alone_time
from simsched.engine.replica import StepCallback
from simsched.engine.simulator import Watch, simulate
from simsched.errors import InputError, RunError
from simsched.metrics import beyond_fit, summarize
from simsched.rank_metrics import rank_values
from simsched.record import RunRecord
from simsched.request_table import request_table
from simsched.results import Options, ResultsWriter
from simsched.sweep.cell import Cell
from simsched.sweep.inputs import Inputs, prepare


@dataclass(frozen=True)
class Measured:
    """What is told of a run."""

    requests: pl.DataFrame
    """A row a request, in order of arrival (`simsched.request_table`)."""
    metrics: dict[str, float]
    """`simsched.metrics.summarize`."""
    beyond_fit: float
    """Share of its steps with more decodes than the cost model was fitted on."""
    host_bound_share: float = math.nan
    """Share of its time that the host bounds; NaN where the cost does not tell."""
    ranks: tuple[dict[str, float], ...] = ()
    """`RANK_METRICS` of each rank, where they step together."""


def run(inputs: Inputs, *, step_log: StepCallback | None = None, watch: Watch | None = None) -> RunRecord:
    """Simulate what was prepared.

    Args:
        step_log: called with a dict a step, which slows the run.
        watch: may end the run early.

    Raises:
        RunError: requests that displace each other for ever.
    """
    return simulate(
        inputs.trace, inputs.policy, inputs.cost, inputs.config,
        predictor_time=inputs.predictor_time, step_log=step_log, seed=inputs.seed,
        num_replicas=inputs.num_replicas, router=inputs.router, units=inputs.units, watch=watch,
    )  # fmt: skip


def measure(inputs: Inputs, record: RunRecord, goodput: Mapping[str, float] | None = None) -> Measured:
    """The requests and metrics of a run; `goodput`: metric -> limit (ms) of a good request."""
    alone = alone_time(inputs.trace, inputs.cost, inputs.config)
    session = session_alone_time(inputs.trace, inputs.cost, inputs.config)
    limits = dict(goodput) if goodput is not None else None
    return Measured(
        requests=request_table(record, alone=alone, session_alone=session),
        metrics=summarize(record, goodput=limits, alone=alone, session_alone=session),
        beyond_fit=beyond_fit(record, inputs.max_decodes),
        host_bound_share=record.host_bound_share,
        ranks=tuple(rank_values((each,)) for each in record.rank_times),
    )


def run_cell(name: str, cell: Cell, options: Options, out: Path, log_steps: bool) -> float:
    """Run a cell and store it in the results directory `out`; returns the seconds it took.

    A run that can't go on (`RunError`) is stored as a failed cell, with its reason.
    """
    start = time.perf_counter()
    if not (out / "manifest.json").is_file():
        raise InputError(f"{out}: not seen by the process that runs {name}; workers need a shared folder")
    writer = ResultsWriter(out, {name: options})
    inputs = prepare(cell)
    steps = writer.step_log(name) if log_steps else None
    try:
        record = run(inputs, step_log=steps)
    except RunError as error:
        writer.write_failed(name, str(error), steps)
        return time.perf_counter() - start
    measured = measure(inputs, record, dict(cell.goodput) if cell.goodput is not None else None)
    writer.write_cell(
        name, measured.requests, measured.metrics, steps,
        beyond_fit=measured.beyond_fit, host_bound_share=measured.host_bound_share,
        ranks=measured.ranks,
    )  # fmt: skip
    return time.perf_counter() - start
