"""Replays: every cell of a study on real vLLM, into a results directory like the simulator's."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from simsched.metrics import summarize
from simsched.request_table import request_table
from simsched.results import Results, ResultsWriter, check_target
from simsched.sweep.plan import Plan
from validate.decisions import decisions_of
from validate.job import Job, Outcome, job_of
from validate.json_file import write_json
from validate.recording import launch_times, summary_of_lateness
from validate.replayed import FACTS, read_facts


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


class ReplayRun:
    """A plan's replay, cell by cell, in any order; what is done is kept, and another may go on with it."""

    def __init__(
        self,
        plan: Plan,
        out: Path,
        engines: Engines,
        facts: dict[str, Any],
        *,
        overwrite: bool = False,
        resume: bool = False,
    ) -> None:
        """Check everything; the first cell to be played writes.

        Args:
            plan: what `simsched run` would simulate.
            out: the results directory.
            engines: serve the cells.
            facts: what is known of device, model and `clock`, for `replay.json`.
            overwrite: replace what `out` holds.
            resume: go on with what `out` holds of the same plan.

        Raises:
            InputError: a cell that can't be replayed, or a directory that exists.
        """
        self.out = out
        self._engines, self._facts = engines, facts
        self._manifest = {**plan.manifest(), "source": "vllm", "clock": facts["clock"]}
        self._overwrite = overwrite
        self._resume = check_target(out, self._manifest, resume=resume, overwrite=overwrite)
        self._jobs = {name: job_of(cell) for name, cell in plan.cells.items()}
        self._writer: ResultsWriter | None = None
        self.cells: dict[str, Any] = {}
        """What is known of the cells that are done."""
        if self._resume and (out / FACTS).is_file():
            self.cells = read_facts(out)["cells"]

    def pending(self) -> list[str]:
        """The cells that are not done."""
        done = (
            {name for name in self.cells if (self.out / "cells" / name).is_dir()} if self._resume else set()
        )
        return [name for name in self._jobs if name not in done]

    def play(self, name: str) -> None:
        """Play a cell and save it.

        Raises:
            InputError: an engine that does not start or dies, or lost requests.
        """
        job = self._jobs[name]
        engine = self._engines.serve(job)  # may fail: before anything is written
        outcome = engine.run(job)
        writer = self._begin()
        log = writer.step_log(name)
        for step in outcome.steps:
            log(step)
        self.cells[name] = {
            "num_gpu_blocks": engine.num_gpu_blocks,
            "duration": outcome.record.end_time,
            "engine_options": {**job.config.model_dump(), "num_gpu_blocks": engine.num_gpu_blocks},
            "host": launch_times(outcome.steps),
            "lateness": summary_of_lateness(outcome.lateness),
        }
        # cut off between these two lines, the cell is played again
        self.write_facts({"vllm_version": engine.version, "graphs": engine.graphs, "machine": machine()})
        writer.write_cell(name, request_table(outcome.record), summarize(outcome.record), log)

    def _begin(self) -> ResultsWriter:
        if self._writer is None:
            self._writer = ResultsWriter.create(
                self.out, self._manifest, resume=self._resume, overwrite=self._overwrite
            )
            self._resume = True
        return self._writer

    def write_facts(self, found: dict[str, Any]) -> None:
        """`replay.json`, as far as it is known."""
        self._facts = {**self._facts, **found}
        write_json(self.out / FACTS, {**self._facts, "cells": self.cells})

    def finish(self) -> Results:
        """All cells are done: merge them."""
        return self._begin().merge()


def replay(
    plan: Plan,
    out: Path,
    engines: Engines,
    facts: dict[str, Any],
    *,
    overwrite: bool = False,
    on_cell: Callable[[str], None] = lambda cell: None,
) -> Results:
    """Play every cell of a plan, and check its decisions.

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
    run = ReplayRun(plan, out, engines, facts, overwrite=overwrite)
    for name in run.pending():
        run.play(name)
        on_cell(name)
    results = run.finish()
    add_decisions(out)
    return results


def add_decisions(out: Path, traces: Sequence[Path] = ()) -> dict[str, Any]:
    """Check the decisions of a replay's cells and add what was found to its `replay.json`."""
    found = decisions_of(out, traces)
    facts = read_facts(out)
    for name, decisions in found.items():
        facts["cells"][name]["decisions"] = decisions
    write_json(out / FACTS, facts)
    return found


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
            found["gpu_memory_bytes"] = int(torch.cuda.get_device_properties(0).total_memory)
            found["cuda"] = torch.version.cuda
    return found
