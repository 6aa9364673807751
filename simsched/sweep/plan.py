"""A plan: every cell of a study, checked before anything is written."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from simsched._version import __version__
from simsched.engine.config import find_preset
from simsched.errors import InputError
from simsched.metrics import ALL_METRICS
from simsched.policies.spec import make_policy
from simsched.policies.user_policy import is_own
from simsched.predictors.spec import make_predictor
from simsched.request_table import GROUPS
from simsched.results import LOAD_OPTIONS, RUN_OPTIONS, Options
from simsched.routers.spec import files_beside
from simsched.sweep.cell import Cell
from simsched.sweep.fleet import profiles_of
from simsched.sweep.grid import ENGINE_AXES, PREDICTION_AXES, cells_of, expand
from simsched.sweep.inputs import prepare, profile_of
from simsched.sweep.rates import notes_on_rates, num_requests, offered_rate
from simsched.sweep.rehearsal import rehearse, rehearse_router, what_stepping_takes
from simsched.sweep.requests import replays_sessions
from simsched.sweep.study import (
    Study,
    axes,
    window_of,
)
from simsched.sweep.there import There
from simsched.text.arm_names import name_arms, resolved, study_labels
from simsched.text.options import differing, option_flag
from simsched.text.selection import parse_arm

COLUMNS = ("policy", "workload", "request_rate", "preset", "run", "seed")
"""Columns that all results have; another option is a column where it is swept."""


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
    replayed_sessions: list[str] = field(default_factory=list)
    """Names of cells that replay a trace of turns that wait for answers, at its sessions' own starts."""
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
            "duration": {
                name: cell.load.duration
                for name, cell in self.cells.items()
                if cell.load.duration is not None
            },
            **({"replayed_sessions": self.replayed_sessions} if self.replayed_sessions else {}),
            "cells": self.options,
        }


def make_plan(study: Study, there: Mapping[str, Any] | None = None) -> Plan:
    """The grid of a study, with its inputs read and checked. Nothing is written.

    Policies that meet the same requests share a seed (common random numbers): the seed of run r is
    `study.seed + r`, whatever else is swept. `there` is the manifest of results that this study
    extends: its cells keep their names, and its loads their seconds.

    Raises:
        InputError: anything wrong with the study, its files, or a cell of its grid.
    """
    plan = Plan(study)
    done = There(there, study)
    grid = list(cells_of(study, plan.notes))
    if study.trace and not study.arrivals and study.resample is None and study.num_runs > 1:
        plan.notes.append(
            "a trace is replayed alike in every run: runs differ by emulated predictions alone, and "
            "intervals leave out how workloads vary (--resample block(SECONDS) draws each run from blocks of "
            "the trace, --arrivals poisson draws arrivals anew)"
        )

    def varies(name: str) -> bool:
        return len({options[name] for _, options, _ in grid}) > 1

    always = ("workload", "trace", *COLUMNS)
    swept = [
        name
        for name in (*axes("load"), *ENGINE_AXES, *PREDICTION_AXES)
        if name not in always and varies(name)
    ]
    shown = [name for name in ("workload", "preset") if varies(name)]
    width = len(str(len(grid) - 1))
    number = len(done)
    for cell, options, most in grid:
        if (seconds := done.duration(options)) is not None:
            cell = replace(cell, load=replace(cell.load, duration=seconds))
        columns = {name: options[name] for name in (*COLUMNS, *swept)}
        parts = [str(options["policy"]), *(f"{options[name]}" for name in (*shown, *swept))]
        if cell.load.request_rate is not None:
            parts.append(f"{cell.load.request_rate:g}")
        slug = "-".join(re.sub(r"[^A-Za-z0-9.=_]+", "_", part).strip("_")[:48] for part in parts)
        if (name := done.name(options)) is None:
            name = f"{number:0{width}d}-{slug}-run{options['run']}"
            number += 1
        plan.cells[name], plan.options[name] = cell, columns
        plan.num_requests[name] = num_requests(cell.load)
        plan.capacity[name] = done.capacity(name, float(f"{most:.4g}"))
        if (rate := offered_rate(cell.load)) is not None:
            plan.offered[name] = float(f"{rate:.4g}")
        if replays_sessions(cell.load):
            plan.replayed_sessions.append(name)
    plan.notes += notes_on_rates(plan.cells, plan.capacity, plan.offered)
    _check_baseline(plan)
    _check_window(plan)
    _check_figures(plan)
    _check_labels(plan)
    _check(plan)
    return plan


def _check_baseline(plan: Plan) -> None:
    """Refuse a baseline whose policy does not run, before the others do."""
    study = plan.study
    wanted = None if study.baseline is None else parse_arm(study.baseline, "--baseline")[0]
    known = list(dict.fromkeys(str(options["policy"]) for options in plan.options.values()))
    short = [policy.partition("(")[0] for policy in known]
    if wanted is not None and wanted not in (*known, *short, *(study.label or ())):
        raise InputError(f"--baseline {study.baseline}: expected one of the policies, {', '.join(known)}")


def _check_window(plan: Plan) -> None:
    """Refuse a warm-up and a cool-down that leave nothing of a run."""
    seconds = {name: value for name, value in window_of(plan.study).items() if isinstance(value, float)}
    said = " and ".join(f"--{name} {value:g}" for name, value in seconds.items() if value)
    for name, rate in plan.offered.items():
        lasts = plan.cells[name].load.duration or plan.num_requests[name] / rate
        if sum(seconds.values()) >= lasts:
            raise InputError(f"{said}: nothing is left of the {lasts:.3g} s in which requests arrive")


def _check(plan: Plan) -> None:
    """Prepare one cell of each kind, at the rate with the most requests (it begins like the others).

    Lengths depend on the run, predictions on the policy too; neither on the rate.
    """
    first = plan.study.policy[0]
    unread = {name for name in PREDICTION_AXES if getattr(plan.study, name)}
    kinds: dict[Any, str] = {}
    for name, cell in plan.cells.items():
        if cell.arm.policy != first and cell.load.seed != plan.study.seed:
            continue
        kind = replace(cell, load=replace(cell.load, request_rate=None, duration=None))
        if kind not in kinds or plan.num_requests[name] > plan.num_requests[kinds[kind]]:
            kinds[kind] = name
    stepping: set[str] = set()
    for name in kinds.values():
        cell = plan.cells[name]
        inputs = prepare(cell)
        if inputs.policy.reads is not None:
            unread -= {"predictor", "predictor_time"}
        if inputs.predictor is not None and inputs.predictor.tau_is_open:
            unread.discard("tau")
        plan.notes += [note for note in inputs.notes if note not in plan.notes]
        said = what_stepping_takes(inputs)
        if said is not None and cell.arm.policy not in stepping:
            stepping.add(cell.arm.policy)
            plan.notes.append(said)
        if is_own(inputs.policy):
            rehearse(cell.arm.policy, inputs)
        if inputs.router is not None:
            rehearse_router(inputs)
    what = {"tau": "uses an emulated predictor whose tau is open"}
    for name in PREDICTION_AXES:
        if name in unread:
            plan.notes.append(
                f"{option_flag(name)} changes nothing: no policy here {what.get(name, 'reads a prediction')}"
            )


def _check_labels(plan: Plan) -> None:
    """Refuse names of what the grid does not have, and such as two arms would share, before it runs."""
    if not plan.study.label:
        return
    options = list(plan.options.values())
    of_arm = [name for name in options[0] if name not in (*LOAD_OPTIONS, *RUN_OPTIONS)]
    varying = differing(of_arm, options)
    arms = [{name: each[name] for name in dict.fromkeys(["policy", *varying])} for each in options]
    labels = resolved(study_labels(plan.study.label, list(options[0])), arms)
    name_arms(arms, varying, labels)


def _check_figures(plan: Plan) -> None:
    """Refuse figures of what the grid does not have, before it runs."""
    policies = list(dict.fromkeys(str(options["policy"]) for options in plan.options.values()))
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
                wanted in (policy, policy.partition("(")[0]) for policy in policies
            ):
                known = ", ".join(policies)
                raise InputError(f"{where}: relative_to {figure.relative_to}: expected one of {known}")
        along = (figure.along,) if isinstance(figure.along, str) else figure.along or ()
        for option in along:
            if not differing([option], plan.options.values()):
                raise InputError(f"{where}: along {option}: expected an option with several values")
        metrics = (figure.metric,) if isinstance(figure.metric, str) else figure.metric or ()
        for metric in metrics if figure.kind in ("latency", "tau", "groups") else ():
            if metric not in ALL_METRICS:
                raise InputError(f"{where}: metric {metric}: expected some of {', '.join(ALL_METRICS)}")
        of_sessions = figure.by == "session" and figure.kind in ("latency", "cdf")
        if (figure.kind == "groups") != (figure.by is not None) and not of_sessions:
            raise InputError(
                f"{where}: expected kind: groups and by: tenant (or class, ...) together, "
                "or kind: latency or cdf by: session"
            )
        if figure.by is not None and figure.by not in GROUPS and not of_sessions:
            raise InputError(f"{where}: by {figure.by}: expected one of {', '.join(GROUPS)}")
        if figure.kind == "occupancy" and not plan.study.log_steps:
            raise InputError(f"{where}: needs log_steps: true")
        if figure.kind == "tau" and len(plan.study.tau) < 2:
            raise InputError(f"{where}: needs several values of tau")


def _is_async(cell: Cell) -> bool:
    return cell.arm.config.resolve(profile_of(cell.arm.cost_profile)).async_scheduling


def _hashes(study: Study) -> dict[str, str]:
    """SHA-256 of every file that the results depend on."""
    profiles = study.cost_profile or [each for fleet in study.replicas for each in profiles_of(fleet)]
    profiles = profiles or [find_preset(preset).cost_profile for preset in study.preset]
    hashes = {name: profile_of(expand(name)).hash for name in profiles}
    own = (*study.policy, *study.router)
    files = [*study.trace, *(text.partition("(")[0].rpartition(":")[0] for text in own if ".py:" in text)]
    files += [file for text in study.policy for file in make_policy(text).files]
    files += [file for text in study.router for file in files_beside(text)]
    files += [file for text in study.predictor for file in make_predictor(text).files]
    for file in files:
        path = Path(expand(file))
        parts = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        for part in parts:
            if part.is_file():
                hashes[file + str(part)[len(str(path)) :]] = hashlib.sha256(part.read_bytes()).hexdigest()
    return hashes
