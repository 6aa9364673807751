"""One cell of a study's grid: its inputs, and the run that fills it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from simsched.cost_model.profile import Profile, load_profile
from simsched.engine.admissible import check_admissible, check_policy
from simsched.engine.config import EngineConfig, engine_config
from simsched.errors import InputError
from simsched.policies.base import Policy
from simsched.policies.spec import make_policy
from simsched.predictors.spec import apply_predictor
from simsched.text.table import counted
from simsched.workload.arrivals import Arrivals
from simsched.workload.formats import load_trace, row_notes
from simsched.workload.named import named_workload, rescale
from simsched.workload.trace import Trace

DEFAULT_DURATION = 60.0  # seconds of arrivals, as in the paper's runs
MOST_REQUESTS = 100_000_000  # of a cell: tens of gigabytes
DEFAULT_BURST = 2000  # requests of a burst or closed loop, as in the paper's burst
SELF_PREDICTING = ("po",)  # the model guesses its own output length; no predictor runs


@dataclass(frozen=True)
class Cell:
    """Everything that determines one run; plain data, so that any process can run it."""

    policy: str
    workload: str | None
    """A named workload, or"""
    trace: str | None
    """a trace file,"""
    format: str | None
    """of this format; None: recognised by its content."""
    request_rate: float | None
    """Requests/s; None: as in the trace, or arrivals that have no rate."""
    arrivals: str | None
    """None: as in the trace."""
    num_requests: int | None
    duration: float | None
    seed: int
    preset: str
    cost_profile: str
    gpu_memory_utilization: float
    engine: tuple[tuple[str, int | float | bool], ...]
    """The engine options that were given."""
    predictor: str | None
    tau: float | None
    predictor_time: float | None
    goodput: tuple[tuple[str, float], ...] | None
    skip_invalid: bool
    truncate: bool


@dataclass(frozen=True)
class Inputs:
    """What a run starts from."""

    trace: Trace
    policy: Policy
    profile: Profile
    config: EngineConfig
    predictor_time: float
    """Seconds of predictor for each request."""
    notes: tuple[str, ...]
    """What was chosen, dropped or cut without being asked for: a line each."""


def read_trace_once(cell: Cell) -> tuple[Trace, dict[str, int]]:
    """The trace in the cell's file, and how many of its rows were dropped for which reason."""
    path = str(cell.trace)
    return _read_trace(path, cell.format, cell.skip_invalid, _version(path))


@lru_cache(maxsize=4)
def _read_trace(
    path: str, format: str | None, skip_invalid: bool, version: Any
) -> tuple[Trace, dict[str, int]]:
    return load_trace(path, format=format, skip_invalid=skip_invalid)


def profile_of(name: str) -> Profile:
    """The cost profile of this name or path, read once."""
    return _read_profile(name, _version(name))


@lru_cache(maxsize=8)
def _read_profile(name: str, version: Any) -> Profile:
    return load_profile(name)


def _version(path: str) -> tuple[str, int, int] | None:
    """Changes with the file, so that what was read of it is not used again; None if there is no file."""
    file = Path(path).absolute()
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return str(file), found.st_mtime_ns, found.st_size


def requests_of(cell: Cell) -> tuple[Trace, tuple[str, ...]]:
    """The requests of a cell before they are checked against its engine, and notes on what was dropped."""
    # policies of one grid share their requests
    shared = replace(cell, policy="", predictor=None, tau=None, predictor_time=None, preset="", engine=())
    return _requests(shared, _version(cell.trace) if cell.trace is not None else None)


@lru_cache(maxsize=2)
def _requests(cell: Cell, version: Any) -> tuple[Trace, tuple[str, ...]]:
    if cell.workload is not None:
        workload = named_workload(cell.workload)
        arrivals = cell.arrivals or "poisson"
        return workload.generate(
            num_generated(cell), cell.request_rate, arrivals=arrivals, seed=cell.seed
        ), ()
    trace, counts = read_trace_once(cell)
    notes = [*trace.notes, *row_notes(trace, counts), *_too_short(cell, trace)]
    if cell.arrivals is not None:
        process = Arrivals.parse(cell.arrivals)
        trace = trace.with_columns(
            arrival_time=process.times(len(trace), cell.request_rate, cell.seed),
            closed_loop_users=process.users,
            think_time=process.think_time,
        )
    kept = num_kept(replace(cell, request_rate=None) if cell.arrivals is not None else cell, trace)
    if kept < len(trace):
        trace = trace.take(np.arange(kept))
    if cell.arrivals is None and cell.request_rate is not None:
        trace = rescale(trace, cell.request_rate)  # so what is kept has this rate, whatever the rest has
    return trace, tuple(notes)


def num_kept(cell: Cell, trace: Trace) -> int:
    """How many requests of the trace in its file a cell has: of its own arrivals those of `duration`, of a
    rate as many as that makes (an estimate where arrivals are drawn)."""
    if cell.num_requests is not None:
        return min(cell.num_requests, len(trace))
    if cell.duration is None:
        return len(trace)
    if cell.request_rate is not None:
        return max(1, round(min(cell.duration * cell.request_rate, len(trace))))
    end = trace.arrival_time[0] + cell.duration
    return int(np.searchsorted(trace.arrival_time, end, side="right"))


def _too_short(cell: Cell, trace: Trace) -> Iterator[str]:
    """A line if the trace in the file has fewer requests than were asked for."""
    asked = cell.num_requests
    if cell.duration is not None and cell.request_rate is not None:
        asked = round(cell.duration * cell.request_rate)
    if asked is not None and asked > len(trace):
        yield f"{trace.name}: {counted(len(trace), 'request')}, fewer than the {asked:,} asked for"
    elif cell.duration is not None and cell.request_rate is None:
        lasts = trace.arrival_time[-1] - trace.arrival_time[0]
        if lasts < cell.duration:
            yield f"{trace.name}: its arrivals end after {lasts:.3g} s, before --duration {cell.duration:g}"


def num_generated(cell: Cell) -> int:
    """How many requests of a named workload a cell has."""
    if cell.num_requests is not None:
        return cell.num_requests
    if cell.request_rate is None or math.isinf(cell.request_rate):
        if cell.duration is not None:
            raise InputError("--duration: these arrivals have no rate; give --num-requests")
        return DEFAULT_BURST
    number = cell.request_rate * (cell.duration or DEFAULT_DURATION)
    if number > MOST_REQUESTS:
        raise InputError(
            f"--request-rate {cell.request_rate:g}: {number:.3g} requests in a cell; "
            f"expected at most {MOST_REQUESTS:,}"
        )
    return max(1, round(number))


def resolve_config(cell: Cell) -> EngineConfig:
    """The engine of a cell, with KV blocks and context length from the profile where they are not given.

    Raises:
        InputError: a bad option, or a bare cost file without the options that it can't give.
    """
    config = engine_config(cell.preset, **dict(cell.engine))
    profile = profile_of(cell.cost_profile)
    derived: dict[str, int | None] = {}
    if config.num_gpu_blocks is None:
        derived["num_gpu_blocks"] = profile.num_gpu_blocks(config.block_size, cell.gpu_memory_utilization)
    if config.max_model_len is None:
        derived["max_model_len"] = profile.max_model_len
    elif profile.max_model_len is not None and config.max_model_len > profile.max_model_len:
        raise InputError(
            f"--max-model-len {config.max_model_len}: the model of {profile.name} has {profile.max_model_len}"
        )
    for name, value in derived.items():
        if value is None:
            raise InputError(f"--{name.replace('_', '-')}: {cell.cost_profile} does not say; give it")
    return config.model_copy(update=derived)


def prepare(cell: Cell) -> Inputs:
    """Read, generate and check everything that a cell needs.

    Raises:
        InputError: whatever is wrong with it.
    """
    profile, config = profile_of(cell.cost_profile), resolve_config(cell)
    policy = make_policy(cell.policy)
    check_policy(policy, config)
    trace, dropped = requests_of(cell)
    notes, asked = list(dropped), len(trace)
    trace, counts = check_admissible(trace, config, cell.skip_invalid, cell.truncate)
    notes += [
        f"{trace.name}: {count:,} of {counted(asked, 'request')} {reason}" for reason, count in counts.items()
    ]
    trace, said = apply_predictor(cell.predictor, policy, trace, seed=cell.seed, tau=cell.tau)
    if policy.reads is not None:
        notes.append(said)
    classes = trace.predicted_class if policy.reads == "predicted_class" else None
    if classes is not None and len(trace) > 1 and np.all(classes == classes[0]):
        notes.append(
            f"{policy.name}: all requests of {trace.name} are in one class, so it cannot tell them apart"
        )
    if policy.name == "priority" and trace.priority is None:
        notes.append(f"priority: {trace.name} has no column priority; all requests are equal")
    seconds, source = _predictor_time(cell, policy, profile)
    if seconds and cell.predictor_time is None:
        took = f"{seconds * 1e3:.4g} ms a request ({source})"
        notes.append(f"{policy.name}: its predictor takes {took}; --predictor-time says otherwise")
    return Inputs(trace, policy, profile, config, seconds, tuple(notes))


def _predictor_time(cell: Cell, policy: Policy, profile: Profile) -> tuple[float, str]:
    """Seconds of predictor for each request, and where the figure comes from.

    A bare cost file says what a step costs, so nothing is added to it unasked.
    """
    if policy.reads is None:
        return 0.0, ""
    if cell.predictor_time is not None:
        return cell.predictor_time, "--predictor-time"
    oracle = cell.predictor == "oracle" or (cell.predictor is None and policy.predictor == "oracle")
    if oracle or policy.name in SELF_PREDICTING or profile.file is None:
        return 0.0, ""
    if cell.predictor is not None:
        from simsched.predictors.model import is_model, seconds_per_prompt

        if is_model(cell.predictor):
            return seconds_per_prompt(cell.predictor), cell.predictor
    return profile.predictor_time, profile.name


def run_cell(name: str, cell: Cell, options: dict[str, Any], out: Path, log_steps: bool) -> float:
    """Run a cell and store it in the results directory `out`; returns the seconds it took."""
    from simsched.engine.simulator import simulate
    from simsched.metrics import alone_time, beyond_fit, request_table, summarize
    from simsched.results import ResultsWriter

    start = time.perf_counter()
    if not (out / "manifest.json").is_file():
        raise InputError(f"{out}: not seen by the process that runs {name}; workers need a shared folder")
    writer = ResultsWriter(out, {name: options})
    inputs = prepare(cell)
    steps = writer.step_log(name) if log_steps else None
    record = simulate(
        inputs.trace, inputs.policy, inputs.profile.cost, inputs.config,
        predictor_time=inputs.predictor_time, step_log=steps, seed=cell.seed,
    )  # fmt: skip
    alone = alone_time(inputs.trace, inputs.profile.cost, inputs.config)
    goodput = dict(cell.goodput) if cell.goodput is not None else None
    metrics = summarize(record, goodput=goodput, alone=alone)
    table = request_table(record, alone=alone)
    beyond = beyond_fit(record, inputs.profile.max_decodes)
    writer.write_cell(name, table, metrics, steps, beyond_fit=beyond)
    return time.perf_counter() - start
