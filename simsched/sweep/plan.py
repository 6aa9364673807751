"""The grid of a study: every cell, checked before anything is written."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from simsched._version import __version__
from simsched.engine.admissible import Limit, check_admissible, fit, limit_of
from simsched.engine.config import EngineConfig, find_preset
from simsched.errors import InputError
from simsched.metrics import METRICS
from simsched.policies.spec import make_policy
from simsched.policies.user_policy import is_own
from simsched.predictors.spec import make_predictor
from simsched.results import Options
from simsched.sweep.capacity import SAMPLE, capacity
from simsched.sweep.cell import Arm, Cell, Load
from simsched.sweep.inputs import (
    file_of,
    num_kept,
    prepare,
    profile_of,
)
from simsched.sweep.lasting import seconds_of_arrivals
from simsched.sweep.rates import notes_on_rates, num_requests, offered_rate
from simsched.sweep.rehearsal import rehearse
from simsched.sweep.study import (
    DATA_VARIABLE,
    OF_TRACES,
    PAPER_RATES,
    Study,
    axes,
    parse_rate,
    times_itself,
    window_of,
)
from simsched.text.options import option_flag
from simsched.text.selection import parse_arm, same_value
from simsched.text.table import counted
from simsched.workload.arrivals import Arrivals
from simsched.workload.content import shared_tokens
from simsched.workload.named import named_workload

COLUMNS = ("policy", "workload", "request_rate", "preset", "run", "seed")
"""Columns that all results have; another option is a column where it is swept."""
_ENGINE = axes("engine")
_PREDICTION = tuple(name for name in axes("order") if name != "policy")


@dataclass
class Plan:
    """A checked study: what will run, and what was chosen for it."""

    study: Study
    cells: dict[str, Cell] = field(default_factory=dict)
    options: dict[str, Options] = field(default_factory=dict)
    """Cell name -> its values of the swept options."""
    num_requests: dict[str, int] = field(default_factory=dict)
    """Cell name -> requests; an estimate where a duration cuts a trace."""
    capacity: dict[str, float] = field(default_factory=dict)
    """Cell name -> requests/s that its engine can serve of its requests."""
    offered: dict[str, float] = field(default_factory=dict)
    """Cell name -> requests/s that arrive in it; missing where all arrive at once or when others finish."""
    notes: list[str] = field(default_factory=list)
    """What was chosen, estimated, dropped or cut: lines for people."""

    @property
    def total_requests(self) -> int:
        return sum(self.num_requests.values())

    def manifest(self) -> dict[str, Any]:
        """The content of manifest.json: configuration, versions, hashes, notes and cells."""
        import numpy
        import polars
        import simpy

        versions = {module.__name__: module.__version__ for module in (numpy, polars, simpy)}
        return {
            "simsched": __version__,
            "versions": {"python": platform.python_version(), **versions},
            "vllm_version": sorted({cell.arm.config.vllm_version for cell in self.cells.values()}),
            "async_scheduling": sorted({_is_async(cell) for cell in self.cells.values()}),
            "seed": self.study.seed,
            "study": self.study.model_dump(mode="json"),
            "window": window_of(self.study),
            "sha256": _hashes(self.study),
            "notes": self.notes,
            "capacity": self.capacity,
            "offered": self.offered,
            "cells": self.options,
        }


def make_plan(study: Study) -> Plan:
    """The grid of a study, with its inputs read and checked. Nothing is written.

    Policies that meet the same requests share a seed (common random numbers): the seed of run r is
    `study.seed + r`, whatever else is swept.

    Raises:
        InputError: anything wrong with the study, its files, or a cell of its grid.
    """
    plan = Plan(study)
    grid = list(_cells(study, plan.notes))
    if study.trace and not study.arrivals and study.resample is None and study.num_runs > 1:
        plan.notes.append(
            "a trace is replayed alike in every run: runs differ by emulated predictions alone, and "
            "intervals leave out how workloads vary (--resample block(SECONDS) draws each run from blocks of "
            "the trace, --arrivals poisson draws arrivals anew)"
        )

    def varies(name: str) -> bool:
        return len({options[name] for _, options, _ in grid}) > 1

    always = ("workload", "trace", *COLUMNS)
    swept = [name for name in (*axes("load"), *_ENGINE, *_PREDICTION) if name not in always and varies(name)]
    shown = [name for name in ("workload", "preset") if varies(name)]
    width = len(str(len(grid) - 1))
    for number, (cell, options, most) in enumerate(grid):
        columns = {name: options[name] for name in (*COLUMNS, *swept)}
        parts = [cell.arm.policy, *(f"{options[name]}" for name in (*shown, *swept))]
        if cell.load.request_rate is not None:
            parts.append(f"{cell.load.request_rate:g}")
        slug = "-".join(re.sub(r"[^A-Za-z0-9.=_]+", "_", part).strip("_")[:48] for part in parts)
        name = f"{number:0{width}d}-{slug}-run{options['run']}"
        plan.cells[name], plan.options[name] = cell, columns
        plan.num_requests[name] = num_requests(cell.load)
        plan.capacity[name] = float(f"{most:.4g}")
        if (rate := offered_rate(cell.load)) is not None:
            plan.offered[name] = float(f"{rate:.4g}")
    plan.notes += notes_on_rates(plan.cells, plan.capacity, plan.offered)
    _check_figures(plan)
    _check(plan)
    return plan


def _cells(study: Study, notes: list[str]) -> Iterator[tuple[Cell, dict[str, Any], float]]:
    """Every cell, its options, its capacity; policies innermost, so that neighbours share their requests."""
    names = _workload_names(study)
    sources = [(name, None) for name in study.workload] + [(None, path) for path in study.trace]
    engines = list(_engines(study))
    base = _baseline_engine(study, engines)
    predictions = [getattr(study, name) or (None,) for name in _PREDICTION]
    reads = {policy: make_policy(expand(policy)).reads is not None for policy in study.policy}
    goodput = tuple(study.goodput.items()) if study.goodput is not None else None
    limit = _limit(study, [arm for _, arm in engines])
    offers: dict[Load, list[_Offer]] = {}
    for (workload, trace), (of_engine, arm) in itertools.product(sources, engines):
        for arrivals in study.arrivals or (("poisson",) if workload else (None,)):
            load = Load(
                workload=workload, trace=trace and expand(trace), arrivals=arrivals,
                **({name: getattr(study, name) for name in OF_TRACES} if trace else {}),
                num_requests=study.num_requests, duration=study.duration, seed=study.seed,
                skip_invalid=study.skip_invalid, truncate=study.truncate, limit=limit,
            )  # fmt: skip
            if trace and study.duration is not None and arrivals and not Arrivals.parse(arrivals).rated:
                raise InputError(f"--duration: arrivals {arrivals} have no rate; give --num-requests")
            name = names[workload or trace or ""]
            if load not in offers:
                offers[load] = list(_offers(study, load, base, [each for _, each in engines]))
            swept = (option for option in _ENGINE if option not in ("preset", "cost_profile"))
            several = [option for option in swept if len(getattr(study, option)) > 1]
            engine = [f"{option} {of_engine[option]}" for option in several]
            where = ", ".join([f"{name} on {of_engine['cost_profile']}", arm.config.preset, *engine])
            said = dict.fromkeys(f"{where}: {offer.estimates[arm][1]}" for offer in offers[load])
            notes += [note for note in said if note not in notes]
            for offer, *prediction, run, policy in itertools.product(
                offers[load], *predictions, range(study.num_runs), study.policy
            ):
                of_cell: dict[str, Any] = dict(zip(_PREDICTION, prediction, strict=True))
                if not reads[policy]:
                    # whatever is swept of predictions, a policy that reads none is one arm
                    if any(value != values[0] for value, values in zip(prediction, predictions, strict=True)):
                        continue
                    of_cell |= {name: None for name in _PREDICTION if len(getattr(study, name)) > 1}
                believes = {**of_cell, "predictor": of_cell["predictor"] and expand(of_cell["predictor"])}
                seed = study.seed + run
                cell = Cell(
                    replace(load, request_rate=offer.rate, duration=offer.duration, seed=seed),
                    replace(arm, policy=expand(policy), **believes),
                    goodput,
                )
                options = {"workload": name, "arrivals": arrivals, "request_rate": offer.rate}
                options |= {"policy": policy, "run": run, "seed": seed}
                yield cell, {**of_engine, **of_cell, **options}, offer.estimates[arm][0]


def _engines(study: Study) -> Iterator[tuple[dict[str, Any], Arm]]:
    """Every engine of the grid: its options, and an arm of it that is FCFS."""
    for values in itertools.product(*(getattr(study, name) or (None,) for name in _ENGINE)):
        of_engine = dict(zip(_ENGINE, values, strict=True))
        config = EngineConfig(**{name: of_engine[name] for name in EngineConfig.model_fields})
        of_engine |= {
            "cost_profile": of_engine["cost_profile"] or find_preset(config.preset).cost_profile,
            "gpu_memory_utilization": config.gpu_memory_utilization,
        }
        yield (
            of_engine,
            Arm(
                policy="fcfs", config=config, cost_profile=expand(of_engine["cost_profile"]),
                host_speed=of_engine["host_speed"], host_jitter=of_engine["host_jitter"],
            ),
        )  # fmt: skip


def _limit(study: Study, engines: Sequence[Arm]) -> Limit | None:
    """The longest requests that all engines can serve, where longer ones may be dropped or cut: all arms meet
    the same requests."""
    if not study.skip_invalid and not study.truncate:
        return None
    limits = (limit_of(arm.config.resolve(profile_of(arm.cost_profile))) for arm in engines)
    return min(limits, key=lambda limit: limit.tokens)


def _baseline_engine(study: Study, engines: Sequence[tuple[dict[str, Any], Arm]]) -> Arm:
    """The engine of the baseline arm: the first that has the options it names."""
    if study.baseline is None:
        return engines[0][1]
    _, given = parse_arm(study.baseline, "--baseline")
    known = [name for name in given if name in _ENGINE]
    for of_engine, arm in engines:
        if all(same_value(of_engine[name], given[name]) for name in known):
            return arm
    raise InputError(f"--baseline {study.baseline}: no engine of this grid has {', '.join(known)} so")


@dataclass(frozen=True)
class _Offer:
    """A rate that is offered to all arms, and for how long."""

    rate: float | None
    """Requests/s; None: as in the trace, or arrivals that have no rate."""
    duration: float | None
    """Seconds of arrivals; None: as many as `num_requests` or the trace says."""
    estimates: dict[Arm, tuple[float, str]]
    """Engine -> its capacity in requests/s, and a line that says it."""


def _offers(study: Study, load: Load, base: Arm, arms: Sequence[Arm]) -> Iterator[_Offer]:
    """The rates of a load: one for all arms, so that they meet; shares are of the baseline's capacity."""
    rated = Arrivals.parse(load.arrivals).rated if load.arrivals is not None else True
    if not rated and study.request_rate:
        raise InputError(f"--request-rate: arrivals {load.arrivals} have no rate")
    if not rated or (not study.request_rate and load.arrivals is None):
        yield _Offer(None, load.duration, {arm: _capacity(load, arm) for arm in arms})
        return
    rate_cuts = load.trace is not None and load.duration is not None
    of_all = {} if rate_cuts else {arm: _capacity(load, arm) for arm in arms}
    for text in study.request_rate or PAPER_RATES:
        rate, is_share = parse_rate(text)
        if is_share:
            most, _ = of_all[base] if base in of_all else _capacity_at(load, base, rate)
            rate = float(f"{rate * most:.4g}")
        estimates = of_all or {arm: _capacity(replace(load, request_rate=rate), arm) for arm in arms}
        duration = load.duration
        if times_itself(study) and math.isfinite(rate):
            duration = seconds_of_arrivals(rate, [most for most, _ in estimates.values()])
        yield _Offer(rate, duration, estimates)


def _workload_names(study: Study) -> dict[str, str]:
    """What the `workload` column calls each source: a workload's spec, a trace's file name."""
    stems = {path: Path(path).name.split(".")[0] for path in study.trace}
    for path, stem in stems.items():
        if list(stems.values()).count(stem) > 1 or stem in study.workload:
            stems[path] = path
    return {**{name: name for name in study.workload}, **stems}


def _capacity(load: Load, arm: Arm) -> tuple[float, str]:
    """The capacity of an engine for these requests, in requests/s, and a line that says it."""
    of = ""
    if load.workload is not None:
        trace = named_workload(load.workload).generate(SAMPLE, arrivals="burst", seed=load.seed)
        if load.limit is not None:
            trace, _ = fit(trace, load.limit, load.truncate)
    else:
        trace = file_of(load)[0]
        kept = num_kept(load, trace)
        if kept < len(trace):
            trace, of = trace.take(np.arange(kept)), f" for the first {counted(kept, 'request')}"
    profile = profile_of(arm.cost_profile)
    config = arm.config.resolve(profile)
    # of what can be served at all; whether the rest is refused is seen when a cell is prepared
    trace, _ = check_admissible(trace, config, skip_invalid=not load.truncate, truncate=load.truncate)
    cost = profile.step_cost(arm.host_speed)
    most, kv_bound = capacity(trace, cost, config)
    shared = shared_tokens(trace) if config.enable_prefix_caching else None
    limits = []
    if shared is not None and any(shared):
        whole = np.array(shared) // config.block_size * config.block_size
        with_hits = capacity(trace, cost, config, whole).rate
        share = sum(shared) / int(trace.num_prompt_tokens.sum())
        limits.append(
            f"prefix hits not counted; {share:.0%} of the prompt tokens are shared, with all of them hit "
            f"about {with_hits:.3g}"
        )
    if kv_bound:
        limits.append("KV blocks bind: what preemption recomputes is not counted")
    of += f" ({'; '.join(limits)})" if limits else ""
    return most, f"capacity about {most:.3g} requests/s{of}"


def _capacity_at(load: Load, arm: Arm, share: float) -> tuple[float, str]:
    """The same where a rate, which is a share of that capacity, says how many requests there are."""
    most, note = _capacity(load, arm)
    for _ in range(10):  # settles in a few rounds, give or take a request
        before = most
        most, note = _capacity(replace(load, request_rate=share * most), arm)
        if most == before:
            break
    return most, note


def _check(plan: Plan) -> None:
    """Prepare one cell of each kind, at the rate with the most requests (it begins like the others).

    Lengths depend on the run, predictions on the policy too; neither on the rate.
    """
    first = plan.study.policy[0]
    unread = {name for name in _PREDICTION if getattr(plan.study, name)}
    kinds: dict[Any, str] = {}
    for name, cell in plan.cells.items():
        if cell.arm.policy != first and cell.load.seed != plan.study.seed:
            continue
        kind = replace(cell, load=replace(cell.load, request_rate=None, duration=None))
        if kind not in kinds or plan.num_requests[name] > plan.num_requests[kinds[kind]]:
            kinds[kind] = name
    for name in kinds.values():
        cell = plan.cells[name]
        inputs = prepare(cell)
        if inputs.policy.reads is not None:
            unread -= {"predictor", "predictor_time"}
        if inputs.predictor is not None and inputs.predictor.tau_is_open:
            unread.discard("tau")
        plan.notes += [note for note in inputs.notes if note not in plan.notes]
        if is_own(inputs.policy):
            rehearse(cell.arm.policy, inputs)
    what = {"tau": "uses an emulated predictor whose tau is open"}
    for name in _PREDICTION:
        if name in unread:
            plan.notes.append(
                f"{option_flag(name)} changes nothing: no policy here {what.get(name, 'reads a prediction')}"
            )


def _check_figures(plan: Plan) -> None:
    """Refuse figures of what the grid does not have, before it runs."""
    for number, figure in enumerate(plan.study.figures, start=1):
        where = f"figure {number} ({figure.kind})"
        for option, value in (figure.where or {}).items():
            values = {
                repr(options[option]): options[option]
                for options in plan.options.values()
                if option in options
            }
            if value not in values.values():
                raise InputError(
                    f"{where}: no cell has {option} {value}; expected {', '.join(values) or 'a swept option'}"
                )
        if figure.relative_to is not None:
            wanted, _ = parse_arm(figure.relative_to, f"{where}: relative_to")
            if wanted is not None and not any(
                wanted in (policy, policy.partition("(")[0]) for policy in plan.study.policy
            ):
                known = ", ".join(plan.study.policy)
                raise InputError(f"{where}: relative_to {figure.relative_to}: expected one of {known}")
        along = (figure.along,) if isinstance(figure.along, str) else figure.along or ()
        for option in along:
            if len({str(options.get(option)) for options in plan.options.values()}) < 2:
                raise InputError(f"{where}: along {option}: expected an option with several values")
        metrics = (figure.metric,) if isinstance(figure.metric, str) else figure.metric or ()
        for metric in metrics if figure.kind in ("latency", "tau") else ():
            if metric not in METRICS:
                raise InputError(f"{where}: metric {metric}: expected some of {', '.join(METRICS)}")
        if figure.kind == "occupancy" and not plan.study.log_steps:
            raise InputError(f"{where}: needs log_steps: true")
        if figure.kind == "tau" and len(plan.study.tau) < 2:
            raise InputError(f"{where}: needs several values of tau")


def _is_async(cell: Cell) -> bool:
    return cell.arm.config.resolve(profile_of(cell.arm.cost_profile)).async_scheduling


def _hashes(study: Study) -> dict[str, str]:
    """SHA-256 of every file that the results depend on."""
    profiles = study.cost_profile or [find_preset(preset).cost_profile for preset in study.preset]
    hashes = {name: profile_of(expand(name)).hash for name in profiles}
    files = [*study.trace, *(text.rpartition(":")[0] for text in study.policy if ".py:" in text)]
    files += [file for text in study.predictor for file in make_predictor(text).files]
    for file in files:
        path = Path(expand(file))
        parts = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        for part in parts:
            if part.is_file():
                hashes[file + str(part)[len(str(path)) :]] = hashlib.sha256(part.read_bytes()).hexdigest()
    return hashes


def expand(path: str) -> str:
    """The path with $SIMSCHED_DATA replaced.

    Raises:
        InputError: the variable is used and not set.
    """
    if DATA_VARIABLE not in path:
        return path
    folder = os.environ.get(DATA_VARIABLE[1:])
    if not folder:
        raise InputError(f"{path}: needs outside data; give its folder with --data or {DATA_VARIABLE}")
    return path.replace(DATA_VARIABLE, folder)
