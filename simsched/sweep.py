"""Executing a study's grid: in this process, in several, or on a Dask cluster; the results are the same."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from simsched.cell import run_cell
from simsched.errors import InputError
from simsched.plan import Plan, make_plan
from simsched.results import Results, ResultsWriter
from simsched.study import Study

Executor = Literal["joblib", "dask"]
REQUESTS_PER_JOB = 100_000  # simulated in the time that a worker process takes to start


def run_study(
    study: Study | Plan,
    out: str | Path,
    *,
    jobs: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    executor: Executor = "joblib",
    dask_scheduler: str | None = None,
    on_cell: Callable[[str], None] = lambda cell: None,
) -> Results:
    """Run all cells of a study that are not there yet, and merge them.

    Args:
        study: what to run, or its plan if it has been made already.
        out: the results directory.
        jobs: worker processes; 1 = this process. None: as many as pay off, at most one per core.
        resume: continue what `out` holds.
        overwrite: replace what `out` holds.
        executor: `dask` sends the cells to the cluster at `dask_scheduler` (such as `tcp://host:8786`), whose
            workers need this package, and the inputs and `out` at the same paths.
        on_cell: called after each cell, in the order in which they finish.

    Raises:
        InputError: anything wrong with the inputs, or a cluster that can't be reached.
    """
    plan = study if isinstance(study, Plan) else make_plan(study)
    writer = ResultsWriter.create(out, plan.manifest(), resume=resume, overwrite=overwrite)
    pending = writer.pending()
    tasks = [
        (name, plan.cells[name], plan.options[name], writer.path.resolve(), plan.study.log_steps)
        for name in pending
    ]
    if jobs is None:
        enough = sum(plan.num_requests[name] for name in pending) // REQUESTS_PER_JOB
        jobs = max(1, min(os.cpu_count() or 1, enough))
    jobs = min(jobs, len(tasks))
    writer.log(
        f"{len(tasks)} of {len(plan.cells)} cells to run on {platform.node()}, {executor}, {jobs} jobs"
    )
    if executor == "dask":
        finished = _on_dask(tasks, dask_scheduler)
    elif jobs > 1:
        finished = _in_processes(tasks, jobs)
    else:
        finished = ((task[0], run_cell(*task)) for task in tasks)
    for name, seconds in finished:
        writer.log(f"{name} took {seconds:.2f} s")
        on_cell(name)
    results = writer.merge()
    writer.log("merged")
    return results


def _named_run(task: tuple[Any, ...]) -> tuple[str, float]:
    return task[0], run_cell(*task)


def _in_processes(tasks: list[tuple[Any, ...]], jobs: int) -> Iterator[tuple[str, float]]:
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")
    yield from parallel(delayed(_named_run)(task) for task in tasks)


def _on_dask(tasks: list[tuple[Any, ...]], address: str | None) -> Iterator[tuple[str, float]]:
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise InputError("--executor dask: not installed; pip install 'simsched[dask]'") from None
    if address is None:
        raise InputError("--executor dask: give the cluster's address with --dask-scheduler tcp://HOST:PORT")
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise InputError(f"--dask-scheduler {address}: cannot reach it: {error}") from None
    with client:
        futures = [client.submit(_named_run, task, pure=False) for task in tasks]
        for future in as_completed(futures):
            yield future.result()
