"""The requests of a load: read from its file or generated, cut to its window, with its arrivals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from simsched.engine.admissible import Limit, fit
from simsched.errors import InputError
from simsched.sweep.cell import Load
from simsched.text.table import counted
from simsched.workload.arrivals import Arrivals
from simsched.workload.blocks import block_seconds, resample_blocks
from simsched.workload.copies import repeated
from simsched.workload.formats import load_trace, row_notes
from simsched.workload.named import named_workload, rescale
from simsched.workload.starts import with_arrivals
from simsched.workload.trace import Trace
from simsched.workload.window import Window, cut, drift_note

DEFAULT_DURATION = 60.0  # seconds of arrivals, as in the paper's runs
MOST_REQUESTS = 100_000_000  # of a cell: tens of gigabytes
DEFAULT_BURST = 2000  # requests of a burst or closed loop, as in the paper's burst


def file_of(load: Load) -> tuple[Trace, tuple[str, ...]]:
    """The requests of the load's file that can be offered: in its window, and not too long where those are to
    be dropped or cut; and notes on what was taken for what."""
    path = str(load.trace)
    return _file(
        path, load.format, load.time_unit, load.hash_block_size, load.trace_window, load.skip_invalid,
        load.truncate, load.limit, version_of(path),
    )  # fmt: skip


@lru_cache(maxsize=4)
def _file(
    path: str,
    format: str | None,
    time_unit: str | None,
    hash_block_size: int | None,
    window: str | None,
    skip_invalid: bool,
    truncate: bool,
    limit: Limit | None,
    version: Any,
) -> tuple[Trace, tuple[str, ...]]:
    trace, counts = _read_trace(path, format, time_unit, hash_block_size, skip_invalid, version)
    notes = [*trace.notes, *row_notes(trace, counts)]
    if window is not None:
        whole = len(trace)
        trace = cut(trace, Window.parse(window))
        notes.append(
            f"{trace.name}: {len(trace):,} of {counted(whole, 'request')} in --trace-window {window}"
        )
    trace, said = _fitting(trace, limit, truncate)
    notes += said
    drift = drift_note(trace)
    return trace, (*notes, *([drift] if drift is not None else ()))


def _fitting(trace: Trace, limit: Limit | None, truncate: bool) -> tuple[Trace, list[str]]:
    """The requests that an engine can serve, and a line on those that it can't."""
    if limit is None:
        return trace, []
    asked = len(trace)
    trace, counts = fit(trace, limit, truncate)
    return trace, [
        f"{trace.name}: {count:,} of {counted(asked, 'request')} {reason}" for reason, count in counts.items()
    ]


@lru_cache(maxsize=4)
def _read_trace(
    path: str,
    format: str | None,
    time_unit: str | None,
    hash_block_size: int | None,
    skip_invalid: bool,
    version: Any,
) -> tuple[Trace, dict[str, int]]:
    return load_trace(
        path, format=format, time_unit=time_unit, hash_block_size=hash_block_size, skip_invalid=skip_invalid
    )


def version_of(path: str) -> tuple[str, int, int] | None:
    """Changes with the file, so that what was read of it is not used again; None if there is no file."""
    file = Path(path).absolute()
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return str(file), found.st_mtime_ns, found.st_size


def replays_sessions(load: Load) -> bool:
    """Does it replay a trace of sessions at their own starts, whose later turns wait for answers?"""
    if load.trace is None or load.arrivals is not None:
        return False
    return file_of(load)[0].think_times is not None


def requests_of(load: Load) -> tuple[Trace, tuple[str, ...]]:
    """The requests before they are checked against an engine, and notes on what was dropped."""
    return _requests(load, version_of(load.trace) if load.trace is not None else None)


@lru_cache(maxsize=2)  # policies of one grid share their requests
def _requests(load: Load, version: Any) -> tuple[Trace, tuple[str, ...]]:
    if load.workload is not None:
        return _generated(load)
    trace, notes = file_of(load)
    notes = (*notes, *(_too_short(load, trace) if load.copies == 1 else ()))
    if load.resample is not None:
        trace = resample_blocks(trace, block_seconds(load.resample), load.seed)
    if load.copies > 1:
        trace = repeated(trace, load.copies)
    if load.arrivals is not None:
        trace = with_arrivals(trace, load.arrivals, load.request_rate, load.seed)
    kept = num_kept(replace(load, request_rate=None) if load.arrivals is not None else load, trace)
    if kept < len(trace):
        trace = trace.take(np.arange(kept))
    if load.arrivals is None and load.request_rate is not None:
        trace = rescale(trace, load.request_rate)  # so what is kept has this rate, whatever the rest has
    return trace, notes


def _generated(load: Load) -> tuple[Trace, tuple[str, ...]]:
    """Requests of a named workload.

    Where some are too long and may be dropped, as many more are drawn, so that what is offered has the rate
    and the duration that were asked for.
    """
    workload = named_workload(load.workload or "")
    arrivals = load.arrivals or workload.default_arrivals
    number = num_generated(load)
    trace = workload.generate(number, load.request_rate, arrivals=arrivals, seed=load.seed)
    fitting, notes = _fitting(trace, load.limit, load.truncate)
    if len(fitting) == len(trace) or trace.think_times is not None:
        return fitting, tuple(notes)
    drawn = number
    while len(fitting) < number and load.num_requests is None and drawn < 1000 * number:
        drawn = min(1000 * number, round(1.1 * number * drawn / len(fitting)) + 1)
        trace = workload.generate(drawn, load.request_rate, arrivals=arrivals, seed=load.seed)
        fitting, notes = _fitting(trace, load.limit, load.truncate)
    fitting = fitting.take(np.arange(min(number, len(fitting))))
    times = Arrivals.parse(arrivals).times(len(fitting), load.request_rate, load.seed)
    return fitting.with_columns(arrival_time=times), tuple(notes)


def num_kept(load: Load, trace: Trace) -> int:
    """How many requests of the trace in its file a load has: of its own arrivals those of `duration`, of a
    rate as many as that makes (an estimate where arrivals are drawn)."""
    if load.num_requests is not None:
        return min(load.num_requests, len(trace))
    if load.duration is None:
        return len(trace)
    if load.request_rate is not None:
        return max(1, round(min(load.duration * load.request_rate, len(trace))))
    end = trace.arrival_time[0] + load.duration
    return int(np.searchsorted(trace.arrival_time, end, side="right"))


def _too_short(load: Load, trace: Trace) -> Iterator[str]:
    """A line if the trace in the file has fewer requests than were asked for."""
    asked = load.num_requests
    if load.duration is not None and load.request_rate is not None:
        asked = round(load.duration * load.request_rate)
    if asked is not None and asked > len(trace):
        yield f"{trace.name}: {counted(len(trace), 'request')}, fewer than the {asked:,} asked for"
    elif load.duration is not None and load.request_rate is None and trace.think_times is None:
        lasts = trace.arrival_time[-1] - trace.arrival_time[0]
        if lasts < load.duration:
            yield f"{trace.name}: its arrivals end after {lasts:.3g} s, before --duration {load.duration:g}"


def num_generated(load: Load) -> int:
    """How many requests of a named workload a load has."""
    if load.num_requests is not None:
        return load.num_requests
    starts = Arrivals.parse(load.arrivals).rate if load.arrivals is not None else None
    if starts is not None and load.duration is not None:
        number = starts * load.duration * named_workload(load.workload or "").mean_turns
        asked = f"--arrivals {load.arrivals}"
    elif load.request_rate is None or math.isinf(load.request_rate):
        if load.duration is not None:
            raise InputError("--duration: these arrivals have no rate; give --num-requests")
        return DEFAULT_BURST
    else:
        number = load.request_rate * (load.duration or DEFAULT_DURATION)
        asked = f"--request-rate {load.request_rate:g}"
    if number > MOST_REQUESTS:
        raise InputError(f"{asked}: {number:.3g} requests in a cell; expected at most {MOST_REQUESTS:,}")
    return max(1, round(number))
