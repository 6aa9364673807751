"""The grid of a study: loads times engines times orders, as cells, each with the capacity of its engine."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from simsched.alone import alone_time
from simsched.engine.admissible import Limit, check_admissible, fit, limit_of
from simsched.engine.config import EngineConfig, find_preset
from simsched.errors import InputError
from simsched.policies.spec import make_policy
from simsched.sweep.capacity import SAMPLE, capacity
from simsched.sweep.cell import Arm, Cell, Load
from simsched.sweep.fleet import fleet_of
from simsched.sweep.inputs import profile_of
from simsched.sweep.lasting import Server, behind_run_in, seconds_of_arrivals
from simsched.sweep.requests import file_of, num_kept
from simsched.sweep.study import (
    DATA_VARIABLE,
    OF_TRACES,
    PAPER_RATES,
    Study,
    axes,
    parse_rate,
    policy_labels,
    times_itself,
)
from simsched.text.selection import parse_arm, same_value
from simsched.text.table import counted
from simsched.workload.arrivals import Arrivals
from simsched.workload.content import shared_tokens
from simsched.workload.named import named_workload

ENGINE_AXES = axes("engine")
PREDICTION_AXES = tuple(name for name in axes("order") if name != "policy")
_FIELDS_OF_ARM = {field.name for field in fields(Arm)}


def cells_of(study: Study, notes: list[str]) -> Iterator[tuple[Cell, dict[str, Any], float]]:
    """Every cell, its options, its capacity; policies innermost, so that neighbours share their requests."""
    names = _workload_names(study)
    sources = [(name, None) for name in study.workload] + [(None, path) for path in study.trace]
    engines = list(_engines(study))
    base = _baseline_engine(study, engines)
    predictions = [getattr(study, name) or (None,) for name in PREDICTION_AXES]
    reads = {policy: make_policy(expand(policy)).reads is not None for policy in study.policy}
    labels = {spec: name for name, spec in policy_labels(study.label).items()}
    goodput = tuple(study.goodput.items()) if study.goodput is not None else None
    limit = _limit(study, [arm for _, arm in engines])
    offers: dict[Load, list[_Offer]] = {}
    for (workload, trace), (engine_options, arm) in itertools.product(sources, engines):
        usual = named_workload(workload).default_arrivals if workload else None
        for arrivals in study.arrivals or (usual,):
            load = Load(
                workload=workload, trace=trace and expand(trace), arrivals=arrivals,
                **({name: getattr(study, name) for name in OF_TRACES} if trace else {}),
                num_requests=study.num_requests, duration=study.duration, seed=study.seed,
                skip_invalid=study.skip_invalid, truncate=study.truncate, limit=limit,
            )  # fmt: skip
            if trace and study.duration is not None and arrivals and not Arrivals.parse(arrivals).rated:
                why = Arrivals.parse(arrivals).why_unrated.partition(",")[0]
                raise InputError(f"--duration: arrivals {arrivals} {why}; give --num-requests")
            name = names[workload or trace or ""]
            if load not in offers:
                offers[load] = list(_offers(study, load, base, [each for _, each in engines]))
            swept = (option for option in ENGINE_AXES if option not in ("preset", "cost_profile"))
            several = [option for option in swept if len(getattr(study, option)) > 1]
            engine = [f"{option} {engine_options[option]}" for option in several]
            where = ", ".join([f"{name} on {engine_options['cost_profile']}", arm.config.preset, *engine])
            said = dict.fromkeys(f"{where}: {offer.estimates[arm].note}" for offer in offers[load])
            notes += [note for note in said if note not in notes]
            for offer, *prediction, run, policy in itertools.product(
                offers[load], *predictions, range(study.num_runs), study.policy
            ):
                beliefs: dict[str, Any] = dict(zip(PREDICTION_AXES, prediction, strict=True))
                if not reads[policy]:
                    # whatever is swept of predictions, a policy that reads none is one arm
                    if any(value != values[0] for value, values in zip(prediction, predictions, strict=True)):
                        continue
                    beliefs |= {name: None for name in PREDICTION_AXES if len(getattr(study, name)) > 1}
                seed = study.seed + run
                load_of_cell = replace(load, request_rate=offer.rate, duration=offer.duration, seed=seed)
                arm_of_cell = replace(arm, policy=expand(policy), **beliefs)
                if arm_of_cell.predictor is not None:
                    arm_of_cell = replace(arm_of_cell, predictor=expand(arm_of_cell.predictor))
                cell = Cell(load_of_cell, arm_of_cell, goodput)
                options = {"workload": name, "arrivals": arrivals, "request_rate": offer.rate}
                options |= {"policy": labels.get(policy, policy), "run": run, "seed": seed}
                yield cell, {**engine_options, **beliefs, **options}, offer.estimates[arm].capacity


def _engines(study: Study) -> Iterator[tuple[dict[str, Any], Arm]]:
    """Every engine of the grid: its options, and an arm of it that is FCFS."""
    for values in itertools.product(*(getattr(study, name) or (None,) for name in ENGINE_AXES)):
        engine_options = dict(zip(ENGINE_AXES, values, strict=True))
        config = EngineConfig(**{name: engine_options[name] for name in EngineConfig.model_fields})
        engine_options |= {
            "cost_profile": _first_profile(engine_options, config),
            "gpu_memory_utilization": config.gpu_memory_utilization,
        }
        # an option that is not the engine's own has a field of its name in the arm
        others = {name: value for name, value in engine_options.items() if name in _FIELDS_OF_ARM}
        others |= {name: expand(others[name]) for name in ("cost_profile", "replicas") if others[name]}
        yield engine_options, Arm(policy="fcfs", config=config, **others)


def _first_profile(engine_options: Mapping[str, Any], config: EngineConfig) -> str:
    if engine_options["replicas"] is not None:
        return fleet_of(engine_options["replicas"], config)[0][0]
    return str(engine_options["cost_profile"] or find_preset(config.preset).cost_profile)


def _limit(study: Study, engines: Sequence[Arm]) -> Limit | None:
    """The longest requests that all engines can serve, where longer ones may be dropped or cut: all arms meet
    the same requests."""
    if not study.skip_invalid and not study.truncate:
        return None
    limits = (
        limit_of(config.resolve(profile_of(name)))
        for arm in engines
        for name, config in dict.fromkeys(arm.fleet())
    )
    return min(limits, key=lambda limit: limit.tokens)


def _baseline_engine(study: Study, engines: Sequence[tuple[dict[str, Any], Arm]]) -> Arm:
    """The engine of the baseline arm: the first that has the options it names."""
    if study.baseline is None:
        return engines[0][1]
    _, given = parse_arm(study.baseline, "--baseline")
    known = [name for name in given if name in ENGINE_AXES]
    for engine_options, arm in engines:
        if all(same_value(engine_options[name], given[name]) for name in known):
            return arm
    raise InputError(f"--baseline {study.baseline}: no engine of this grid has {', '.join(known)} so")


@dataclass(frozen=True)
class _Offer:
    """A rate that is offered to all arms, and for how long."""

    rate: float | None
    """Requests/s; None: as in the trace, or arrivals that have no rate."""
    duration: float | None
    """Seconds of arrivals; None: as many as `num_requests` or the trace says."""
    estimates: dict[Arm, _Estimate]
    """By engine."""


@dataclass(frozen=True)
class _Estimate:
    """What an engine can take of these requests."""

    server: Server
    note: str
    """A line that says its capacity."""

    @property
    def capacity(self) -> float:
        """Requests/s."""
        return self.server.capacity


def _offers(study: Study, load: Load, base: Arm, arms: Sequence[Arm]) -> Iterator[_Offer]:
    """The rates of a load: one for all arms, so that they meet; shares are of the baseline's capacity."""
    process = Arrivals.parse(load.arrivals) if load.arrivals is not None else None
    rated = process is None or process.rated
    if process is not None and not rated and study.request_rate:
        raise InputError(f"--request-rate: arrivals {load.arrivals} {process.why_unrated}")
    if rated and not study.request_rate and load.arrivals and Arrivals.parse(load.arrivals).by_session:
        # the paper's rates are of single requests, and many times what an engine takes of such turns
        raise InputError(
            f"--arrivals {load.arrivals}: no rate; expected --request-rate (turns/s, or a share as 0.7x), "
            'or "sessions(RATE)" or "users(N)"'
        )
    if not rated or (not study.request_rate and load.arrivals is None):
        yield _Offer(None, load.duration, {arm: _capacity(load, arm) for arm in arms})
        return
    rate_cuts = load.trace is not None and load.duration is not None
    of_all = {} if rate_cuts else {arm: _capacity(load, arm) for arm in arms}
    for text in study.request_rate or PAPER_RATES:
        rate, is_share = parse_rate(text)
        if is_share:
            of_base = of_all[base] if base in of_all else _capacity_at(load, base, rate)
            rate = float(f"{rate * of_base.capacity:.4g}")
        estimates = of_all or {arm: _capacity(replace(load, request_rate=rate), arm) for arm in arms}
        duration = load.duration
        if times_itself(study) and math.isfinite(rate):
            servers = [each.server for each in estimates.values()]
            duration = seconds_of_arrivals(rate, servers, study.num_runs)
            if load.workload is not None:
                duration = behind_run_in(duration, named_workload(load.workload).run_in)
        yield _Offer(rate, duration, estimates)


def _workload_names(study: Study) -> dict[str, str]:
    """What the `workload` column calls each source: a workload's spec, a trace's file name."""
    stems = {path: Path(path).name.split(".")[0] for path in study.trace}
    for path, stem in stems.items():
        if list(stems.values()).count(stem) > 1 or stem in study.workload:
            stems[path] = path
    return {**{name: name for name in study.workload}, **stems}


def _capacity(load: Load, arm: Arm) -> _Estimate:
    """What an arm can take of these requests."""
    if arm.replicas is None:
        return _capacity_of_equals(load, arm)
    fleet = Counter(arm.fleet())
    servers, parts = [], []
    for (profile, config), count in fleet.items():
        alone = replace(arm, replicas=None, num_replicas=None, cost_profile=profile, config=config)
        server = _capacity_of_equals(load, alone).server
        servers += [server] * count
        parts.append(f"{count} times {server.capacity:.3g}")
    total = sum(server.capacity for server in servers)
    whole = Server(total, max(each.alone for each in servers), sum(each.places for each in servers))
    note = f"capacity about {total:.3g} requests/s ({', '.join(parts)}, each with its share)"
    return _Estimate(whole, note)


def _capacity_of_equals(load: Load, arm: Arm) -> _Estimate:
    of = ""
    if load.workload is not None:
        trace = named_workload(load.workload).sample(SAMPLE, load.seed)
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
    each, kv_bound = capacity(trace, cost, config)
    replicas = arm.num_replicas or 1
    most = replicas * each
    shared = shared_tokens(trace) if config.enable_prefix_caching else None
    limits = []
    if shared is not None and any(shared):
        whole = np.array(shared) // config.block_size * config.block_size
        with_hits = replicas * capacity(trace, cost, config, whole).rate
        share = sum(shared) / int(trace.num_prompt_tokens.sum())
        limits.append(
            f"prefix hits not counted; {share:.0%} of the prompt tokens are shared, with all of them hit "
            f"about {with_hits:.3g}"
        )
    if kv_bound:
        limits.append("KV blocks bind: what preemption recomputes is not counted")
    if replicas > 1:
        limits.append(f"{replicas} replicas, as if each had its share")
    of += f" ({'; '.join(limits)})" if limits else ""
    some = trace.take(np.arange(0, len(trace), max(1, len(trace) // SAMPLE)))
    alone = float(alone_time(some, cost, config).mean())
    server = Server(most, alone, replicas * config.max_running)
    return _Estimate(server, f"capacity about {most:.3g} requests/s{of}")


def _capacity_at(load: Load, arm: Arm, share: float) -> _Estimate:
    """The same where a rate, which is a share of that capacity, says how many requests there are."""
    found = _capacity(load, arm)
    for _ in range(10):  # settles in a few rounds, give or take a request
        before = found.capacity
        found = _capacity(replace(load, request_rate=share * before), arm)
        if found.capacity == before:
            break
    return found


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
