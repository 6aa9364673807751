"""Runs that were measured, as means: from a CSV with a row a run, or from a results directory."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simsched.errors import InputError
from simsched.text.table import counted
from simsched.workload.trace import Trace

if TYPE_CHECKING:
    import polars as pl

MEANS = ("mean_ttft_ms", "mean_tpot_ms", "mean_latency_per_token_ms", "mean_e2el_ms")
"""What is met; the definitions are those of `simsched.metrics`."""
_SIZES = ("num_requests", "duration")


@dataclass(frozen=True)
class MeasuredRun:
    """One run of a server."""

    where: str
    """Its place in the file, for messages."""
    policy: str
    request_rate: float | None
    """Requests/s; None: `trace` says when they arrived."""
    means: dict[str, float]
    """Some of `MEANS`, in milliseconds."""
    num_requests: int | None = None
    duration: float | None = None
    """Seconds of arrivals."""
    trace: Trace | None = None
    """Its requests; None: only their kind is known."""


@dataclass(frozen=True)
class Measurements:
    """Runs, and what is true of where they come from."""

    runs: tuple[MeasuredRun, ...]
    source: str
    """Where the means are from, for the profile's provenance."""
    measured: bool
    """False: they are of a simulation."""
    notes: tuple[str, ...]
    """What was left out or taken for granted: a line each."""


def read_measurements(path: Path, policies: Sequence[str] | None) -> Measurements:
    """The runs in a CSV or a results directory.

    Args:
        path: which.
        policies: those whose runs are taken; None: FCFS, whose order needs no predictor.

    Raises:
        InputError: not such a file, a value that cannot be, or no run of these policies.
    """
    every = _directory(path) if path.is_dir() else _table(path, (policies or ("fcfs",))[0])
    wanted = policies or ("fcfs",)
    left: dict[str, list[str]] = {}
    for run in every.runs:
        if run.policy not in wanted:
            left.setdefault(run.policy, []).append(run.where)
    notes = [
        f"left out: {counted(len(places), 'run')} of {policy} ({', '.join(places)}); "
        f"--policy {','.join([*wanted, policy])} takes them too"
        for policy, places in left.items()
    ]
    runs = tuple(run for run in every.runs if run.policy in wanted)
    if not runs:
        raise InputError(f"--from-summary {path}: no run of {', '.join(wanted)}, only of {', '.join(left)}")
    return Measurements(runs, every.source, every.measured, (*every.notes, *notes))


def _table(path: Path, policy: str) -> Measurements:
    """A CSV's rows; `policy` is theirs where it has no such column."""
    where = f"--from-summary {path}"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{where}: cannot read it as CSV: {error}") from None
    columns = [name for name in table[0] if name] if table else []
    means = [name for name in MEANS if name in columns]
    if "request_rate" not in columns or not means:
        raise InputError(f"{where}: expected a column request_rate and one or more of {', '.join(MEANS)}")
    notes = []
    if "policy" not in columns:
        notes.append(f"{path.name} has no column policy: all rows are taken to be {policy}'s")
    unused = [name for name in columns if name not in ("policy", "request_rate", *means, *_SIZES)]
    if unused:
        notes.append(f"{path.name}: columns not used: {', '.join(unused)}")
    runs = []
    for line, cells in enumerate(table, start=2):
        place = f"{where}:{line}"
        found = {name: _positive(place, name, cells[name]) for name in means if cells[name]}
        if len(found) < len(means):
            empty = ", ".join(name for name in means if name not in found)
            notes.append(f"{path.name}:{line}: {empty} is empty")
        if not found:
            raise InputError(f"{place}: no latency; expected {', '.join(means)}")
        if float(cells.get("window_start") or 0) > 0:
            raise InputError(
                f"{place}: its means are of a window within the run; give means of the whole run "
                "(our own: the results directory itself)"
            )
        sizes = {name: _positive(place, name, cells[name]) for name in _SIZES if cells.get(name)}
        number = sizes.get("num_requests")
        if number is not None and number != int(number):
            raise InputError(f"{place}: num_requests {number:g}: expected a whole number")
        runs.append(
            MeasuredRun(
                where=f"line {line}",
                policy=(cells.get("policy") or policy).strip(),
                request_rate=_positive(place, "request_rate", cells["request_rate"]),
                means=found,
                num_requests=None if number is None else int(number),
                duration=None if number is not None else sizes.get("duration"),
            )
        )
    return Measurements(tuple(runs), f"as given in {path.name}, unchecked", True, tuple(notes))


def _positive(place: str, name: str, text: str) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"{place}: {name} {text!r}: expected a number above 0")
    return value


def _directory(path: Path) -> Measurements:
    """A results directory's cells, with the requests that each served."""
    from simsched.results.reading import Results
    from simsched.results.remeasure import WHOLE, remeasure, tables_of

    results = remeasure(Results.open(path), window=WHOLE)
    imported = results.manifest.get("imported")
    if imported:
        source = f"measured by {imported['tool']}: {imported['file']}"
    else:
        source = f"of a simulation by simsched {results.manifest.get('simsched', '')}, not of a server"
    runs, notes = [], []
    for row, table in zip(results.summary.to_dicts(), tables_of(results).values(), strict=True):
        done = table.filter(table["finish_time"].is_not_null())
        gone = len(table) - len(done)
        if gone:
            notes.append(f"{row['cell']}: {counted(gone, 'request')} that did not finish left out")
        means = {name: row[name] for name in MEANS if row[name] is not None}
        if not means:
            raise InputError(f"--from-summary {path}: {row['cell']}: no latency in it")
        runs.append(
            MeasuredRun(
                row["cell"], row["policy"], row["request_rate"], means, trace=_trace(done, row["cell"])
            )
        )
    notes.append(
        f"{path.name}: requests are sent when they were, with the lengths they had; prompts are taken to "
        "share no prefix, of which a results directory says nothing"
    )
    return Measurements(tuple(runs), source, bool(imported), tuple(notes))


def _trace(table: pl.DataFrame, name: str) -> Trace:
    table = table.sort("arrival_time", maintain_order=True)
    return Trace(
        arrival_time=table["arrival_time"].to_numpy().astype(np.float64),
        num_prompt_tokens=table["num_prompt_tokens"].to_numpy().astype(np.int64),
        num_output_tokens=table["num_output_tokens"].to_numpy().astype(np.int64),
        name=name,
    )
