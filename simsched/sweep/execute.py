"""Executing a study's grid: in this process, in several, or on a Dask cluster; the results are the same."""

from __future__ import annotations

import os
import platform
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from simsched.errors import InputError
from simsched.policies.adopted import Adopted, adopt_all, adopted_by
from simsched.results import Options, Results, ResultsWriter, check_target
from simsched.results.layout import check_extension
from simsched.routers.adopted import adopt_routers, routers_adopted_by
from simsched.routers.base import Router
from simsched.sweep.cell import Cell
from simsched.sweep.plan import Plan, make_plan
from simsched.sweep.run import run_cell
from simsched.sweep.study import Study

Executor = Literal["joblib", "dask"]
Task = tuple[str, Cell, Options, Path, bool]
"""The arguments of `run_cell`."""

REQUESTS_PER_JOB = 20_000  # fewer are simulated in the time that a worker process takes to start


def run_study(
    study: Study | Plan,
    out: str | Path,
    *,
    jobs: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    extend: bool = False,
    executor: Executor = "joblib",
    dask_scheduler: str | None = None,
    on_start: Callable[[], None] = lambda: None,
    on_cell: Callable[[str], None] = lambda cell: None,
) -> Results:
    """Run all cells of a study that are not there yet, and merge them.

    Args:
        study: what to run, or its plan if it has been made already.
        out: the results directory.
        jobs: worker processes; 1 = this process. None: as many as pay off, at most one per core.
        resume: continue what `out` holds.
        overwrite: replace what `out` holds.
        extend: add to what `out` holds; the study is then a plan (`simsched.sweep.extend.plan_extension`).
        executor: `dask` sends the cells to the cluster at `dask_scheduler` (such as `tcp://host:8786`), whose
            workers need this package, and the inputs and `out` at the same paths.
        on_start: called when everything has been checked.
        on_cell: called after each cell, in the order in which they finish.

    Returns:
        The results; `Results.failed` names the cells whose run could not go on.

    Raises:
        InputError: bad inputs, or a cluster that can't be reached; or (`RunError`) no cell
            could be run.
    """
    plan = study if isinstance(study, Plan) else make_plan(study)
    manifest = plan.manifest()
    if extend:
        check_extension(Path(out), manifest)
    else:
        check_target(Path(out), manifest, resume=resume, overwrite=overwrite)
    with _cluster(executor, dask_scheduler) as client:
        if extend:
            writer = ResultsWriter.extend(out, manifest)
        else:
            writer = ResultsWriter.create(out, manifest, resume=resume, overwrite=overwrite)
        on_start()
        pending = writer.pending()
        if jobs is None:
            enough = sum(plan.num_requests[name] for name in pending) // REQUESTS_PER_JOB
            jobs = min(os.cpu_count() or 1, enough)
        jobs = max(1, min(jobs, len(pending)))
        where = executor if client is not None else f"{jobs} processes"
        writer.log(f"{len(pending)} of {len(plan.cells)} cells to run on {platform.node()}, {where}")
        folder = writer.path.resolve()
        tasks = [
            (name, plan.cells[name], plan.options[name], folder, plan.study.log_steps) for name in pending
        ]
        finished: Iterable[tuple[str, float]]
        if client is not None:
            finished = _on_dask(tasks, client)
        elif jobs > 1:
            finished = _in_processes(tasks, jobs)
        else:
            finished = map(_run, tasks)
        for name, seconds in finished:
            writer.log(f"{name} took {seconds:.2f} s")
            on_cell(name)
        for name, reason in writer.failed().items():
            writer.log(f"{name} failed: {reason}")
    results = writer.merge()
    writer.log("merged")
    return results


def _run(task: Task) -> tuple[str, float]:
    return task[0], run_cell(*task)


FromPython = tuple[dict[str, Adopted], dict[str, type[Router]]]
"""Policies and routers that another process can't find by their names."""


def _run_elsewhere(task: Task, adopted: FromPython) -> tuple[str, float]:
    """In another process, which knows nothing yet of what came from Python."""
    policies, routers = adopted
    adopt_all(policies)
    adopt_routers(routers)
    return _run(task)


def _adopted(tasks: list[Task]) -> FromPython:
    arms = {cell.arm for _, cell, *_ in tasks}
    return adopted_by({arm.policy for arm in arms}), routers_adopted_by({arm.router for arm in arms})


def _in_processes(tasks: list[Task], jobs: int) -> Iterator[tuple[str, float]]:
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")
    with _workers_deaf_to_interrupts():
        adopted = _adopted(tasks)
        finished = parallel(delayed(_run_elsewhere)(task, adopted) for task in tasks)
    yield from finished


@contextmanager
def _workers_deaf_to_interrupts() -> Iterator[None]:
    """Processes started here ignore Ctrl-C, which a terminal sends to all: the parent ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and only it gets the interrupt
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def _cluster(executor: Executor, address: str | None) -> Iterator[Any]:
    """A client of the Dask cluster; None without one."""
    if executor != "dask":
        if address is not None:
            raise InputError("--dask-scheduler: only with --executor dask")
        yield None
        return
    if address is None:
        raise InputError("--executor dask: give the cluster's address with --dask-scheduler tcp://HOST:PORT")
    try:
        from distributed import Client
    except ImportError:
        raise InputError("--executor dask: not installed; pip install 'simsched[dask]'") from None
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise InputError(f"--dask-scheduler {address}: cannot reach it: {error}") from None
    with client:
        yield client


def _on_dask(tasks: list[Task], client: Any) -> Iterator[tuple[str, float]]:
    from distributed import as_completed

    adopted = _adopted(tasks)
    for future in as_completed([client.submit(_run_elsewhere, task, adopted, pure=False) for task in tasks]):
        yield future.result()
