"""Replays: every cell of a study on real vLLM, into a results directory like the simulator's."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, Self

from simsched.metrics import request_table, summarize
from simsched.results import Results, ResultsWriter, check_target
from simsched.sweep.plan import Plan
from validate.decisions import check_decisions
from validate.job import Job, Outcome, job_of
from validate.json_file import write_json
from validate.recording import launch_times, summary_of_lateness
from validate.replayed import FACTS


class Engine(Protocol):
    """A real engine, offline or behind HTTP."""

    version: str
    num_gpu_blocks: int
    graphs: dict[str, Any] | None
    """The CUDA graphs it has captured (`simsched.vllm.launch`); None: unknown."""

    def run(self, job: Job) -> Outcome: ...
    def close(self) -> None: ...


class Engines:
    """One engine at a time, kept as long as jobs want the same options; a context that closes it."""

    def __init__(self, start: Callable[[Job], Engine]) -> None:
        self._start = start
        self._engine: Engine | None = None
        self._options: dict[str, Any] = {}

    def serve(self, job: Job) -> Engine:
        """An engine with the job's options."""
        options = job.config.model_dump(exclude={"num_gpu_blocks"})
        blocks = job.given.get("num_gpu_blocks")
        if (
            self._engine is not None
            and self._options == options
            and blocks in (None, self._engine.num_gpu_blocks)
        ):
            return self._engine
        self.close()
        self._engine, self._options = self._start(job), options
        return self._engine

    def close(self) -> None:
        """Stop the engine."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def replay(
    plan: Plan,
    out: Path,
    engines: Engines,
    facts: dict[str, Any],
    *,
    overwrite: bool = False,
    on_cell: Callable[[str], None] = lambda cell: None,
) -> Results:
    """Play every cell of a plan.

    Args:
        plan: what `simsched run` would simulate.
        out: the results directory.
        engines: serve the cells.
        facts: what is known of device, model and `clock`, for `replay.json`.
        overwrite: replace what `out` holds.
        on_cell: called after each cell.

    Raises:
        InputError: an engine that does not start or dies, lost requests, or a directory that exists.
    """
    manifest = {**plan.manifest(), "source": "vllm", "clock": facts["clock"]}
    check_target(out, manifest, overwrite=overwrite)
    jobs = {name: job_of(cell) for name, cell in plan.cells.items()}
    engine = engines.serve(next(iter(jobs.values())))  # may fail: before anything is written
    writer = ResultsWriter.create(out, manifest, overwrite=overwrite)
    cells: dict[str, Any] = {}
    for name, job in jobs.items():
        engine = engines.serve(job)
        outcome = engine.run(job)
        log = writer.step_log(name)
        for step in outcome.steps:
            log(step)
        writer.write_cell(name, request_table(outcome.record), summarize(outcome.record), log)
        cells[name] = {
            "num_gpu_blocks": engine.num_gpu_blocks,
            "duration": outcome.record.end_time,
            "engine_options": {**job.config.model_dump(), "num_gpu_blocks": engine.num_gpu_blocks},
            "host": launch_times(outcome.steps),
            "lateness": summary_of_lateness(outcome.lateness),
            "decisions": check_decisions(job, outcome.steps, engine.num_gpu_blocks),
        }
        on_cell(name)
    found = {"vllm_version": engine.version, "graphs": engine.graphs, "machine": machine()}
    write_json(out / FACTS, {**facts, **found, "cells": cells})
    return writer.merge()


def machine() -> dict[str, Any]:
    """Processor, cores, and graphics card if torch sees one."""
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    found: dict[str, Any] = {"processor": processor, "cores": os.cpu_count()}
    with contextlib.suppress(ImportError):  # an engine that needs torch has said so at its start
        import torch

        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.get_device_name()
            found["cuda"] = torch.version.cuda
    return found
