"""A results directory from a benchmark's result file: what was measured, in our schema and metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simsched import __version__
from simsched.errors import InputError
from simsched.histogram import WeightedHistogram
from simsched.metrics import summarize
from simsched.record import RunRecord
from simsched.request_table import request_table
from simsched.results.reading import Results
from simsched.results.writing import ResultsWriter
from simsched.text.table import counted
from simsched.workload.bench import BenchRun
from simsched.workload.trace import Trace


def import_runs(
    path: Path,
    runs: Sequence[BenchRun],
    out: str | Path,
    *,
    tool: str,
    policy: str = "fcfs",
    goodput: dict[str, float] | None = None,
    overwrite: bool = False,
) -> tuple[Results, list[str]]:
    """Write the runs of a benchmark as a results directory, a cell each.

    Args:
        path: the benchmark's file, for messages.
        runs: what is in it.
        out: the directory.
        tool: which benchmark it is of.
        policy: the scheduling policy of the server, by our name.
        goodput: limits of a good request, in milliseconds.
        overwrite: replace what is there.

    Returns:
        The directory, and notes on what the file does not say.

    Raises:
        InputError: a value that cannot be, no request with a length, or a directory that is there.
    """
    records = [_record(path, run) for run in runs]
    cells: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for number, (run, (record, said)) in enumerate(zip(runs, records, strict=True)):
        span = float(record.arrival_time[-1])
        rate = float(f"{(len(record.trace) - 1) / span:.4g}") if span > 0 else None
        cells[f"{number}-{policy}"] = {
            "policy": policy, "workload": path.name.split(".")[0], "request_rate": rate,
            "preset": tool, "run": 0, "seed": 0,
        }  # fmt: skip
        notes += [f"{run.label}: {note}" if len(runs) > 1 else note for note in said]
    names = dict.fromkeys(options["request_rate"] for options in cells.values())
    if len(names) < len(cells):  # several runs at one rate
        for number, options in enumerate(cells.values()):
            options |= {"run": number, "seed": number}
    study = {"goodput": goodput}
    manifest = {
        "simsched": __version__, "imported": {"file": path.name, "tool": tool}, "study": study,
        "notes": notes, "cells": cells,
    }  # fmt: skip
    writer = ResultsWriter.create(out, manifest, overwrite=overwrite)
    for cell, (record, _), run in zip(cells, records, runs, strict=True):
        metrics = summarize(record, goodput=goodput)
        if not _is_timed(run):
            metrics |= dict.fromkeys(_PER_SECOND, math.nan)
        writer.write_cell(cell, request_table(record), metrics)
    return writer.merge(), notes


_PER_SECOND = (
    *("duration", "request_throughput", "request_goodput", "output_throughput", "total_token_throughput"),
)
"""Metrics that need to know when requests were sent."""


def _is_timed(run: BenchRun) -> bool:
    return any(value is not None for value in run.start_time)


def _record(path: Path, run: BenchRun) -> tuple[RunRecord, list[str]]:
    """A run's requests by their start, and what is not known of them."""
    notes = [f"{path.name}: {counted(n, 'request')} left out: {why}" for why, n in run.left_out.items()]
    if not len(run):
        raise InputError(f"{path}: {run.label}: no requests; run the benchmark with its details saved")
    failed = np.array(run.failed)
    starts = _numbers(path, run, "start_time", 0.0)
    if not _is_timed(run):
        notes.append(
            f"{path.name}: no start times: all requests are taken to be sent at 0, and throughputs are not "
            "known"
        )
    ttft, e2el = _numbers(path, run, "ttft", math.nan), _numbers(path, run, "e2el", math.nan)
    prompts, outputs = _numbers(path, run, "input_length", 0.0), _numbers(path, run, "output_length", 0.0)
    gaps = [_gaps(path, run, i) for i in range(len(run))]
    if any(isinstance(each, float) for each in gaps):
        notes.append(f"{path.name}: of the gaps between tokens only each request's mean is known")
    itl = WeightedHistogram()
    longest = np.full(len(run), math.nan)
    for i, each in enumerate(gaps):
        number = max(0, int(outputs[i]) - 1)
        decoding = 0.0 if number == 0 else math.nan
        if isinstance(each, float):
            if number:  # an answer of one token has no gap, whatever stands there
                itl.add(each, number)
                longest[i] = each
                decoding = each * number
        elif each:
            for gap in each:
                itl.add(gap)
            longest[i] = max(each)
            decoding = sum(each)
        if math.isnan(e2el[i]):  # vLLM writes no end: it is the first token and the gaps behind it
            e2el[i] = ttft[i] + decoding
    short = ~failed & ((outputs < 1) | np.isnan(e2el))
    if short.any():
        notes.append(
            f"{path.name}: {counted(int(short.sum()), 'request')} without output or end: counted unfinished"
        )
    if failed.any():
        notes.append(f"{path.name}: {counted(int(failed.sum()), 'request')} failed: counted unfinished")
    gone = failed | short
    if gone.all():
        raise InputError(
            f"{path}: {run.label}: expected a request with its time to the first token, the gaps behind it "
            "and its output; none has all of them"
        )
    finish = np.where(gone, math.nan, starts + e2el)
    order = np.argsort(starts, kind="stable")
    zero = float(starts[order[0]])
    ids = [str(i) if name is None else str(name) for i, name in enumerate(run.request_id)]
    trace = Trace(
        arrival_time=starts[order] - zero,
        num_prompt_tokens=np.maximum(prompts[order], 1).astype(np.int64),
        num_output_tokens=np.maximum(outputs[order], 1).astype(np.int64),
        request_id=[ids[i] for i in order.tolist()],
        name=path.name,
    )
    first = np.where(gone, math.nan, starts + ttft)[order] - zero
    return RunRecord(
        trace=trace,
        arrival_time=trace.arrival_time,
        first_scheduled_time=np.full(len(run), math.nan),
        first_token_time=first,
        finish_time=finish[order] - zero,
        num_preemptions=np.zeros(len(run), dtype=np.int64),
        max_itl=longest[order],
        itl=itl,
        end_time=float(np.nanmax(finish)) - zero,
    ), notes


def _numbers(path: Path, run: BenchRun, column: str, missing: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([_number(path, run, column, i, missing) for i in range(len(run))], dtype=float)


def _number(path: Path, run: BenchRun, column: str, i: int, missing: float) -> float:
    value = getattr(run, column)[i]
    if value is None:
        return missing
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InputError(
            f"{path}: {run.unit} {run.places[i]}: {column} {value!r}: expected a number, not negative"
        )
    return float(value)


def _gaps(path: Path, run: BenchRun, i: int) -> list[float] | float:
    """The gaps of a request: all of them, their mean, or an empty list."""
    value = run.itl[i]
    if value is None:
        return []
    values = value if isinstance(value, list) else [value]
    for each in values:
        if isinstance(each, bool) or not isinstance(each, int | float) or not 0 <= each < math.inf:
            raise InputError(f"{path}: {run.unit} {run.places[i]}: itl {each!r}: expected seconds")
    return [float(each) for each in values] if isinstance(value, list) else float(value)
