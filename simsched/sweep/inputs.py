"""What a run starts from: everything that its cell names, read, generated and checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from simsched.cost_model.base import CostModel
from simsched.cost_model.host import HostedCost
from simsched.cost_model.profile import Profile, load_profile
from simsched.engine.admissible import check_admissible
from simsched.engine.config import DEFAULT_PRESET, EngineConfig, ResolvedConfig, find_preset
from simsched.engine.simulator import Unit
from simsched.errors import InputError
from simsched.policies.base import Policy
from simsched.policies.spec import make_policy
from simsched.predictors.base import Predictor
from simsched.predictors.spec import buckets_of, choose_predictor, predict_column
from simsched.routers.base import Router
from simsched.routers.spec import make_router
from simsched.sweep.cell import Arm, Cell
from simsched.sweep.requests import requests_of, version_of
from simsched.text.options import option_flag
from simsched.text.table import counted
from simsched.workload.trace import FloatArray, IntArray, Trace


@dataclass(frozen=True)
class Inputs:
    """What a run starts from."""

    trace: Trace
    policy: Policy
    """Fresh: a run uses it up."""
    cost: CostModel | HostedCost
    config: ResolvedConfig
    predictor: Predictor | None = None
    """What has filled in the policy's predictions; None: it reads none, or they were there."""
    units: tuple[Unit, ...] | None = None
    """The replicas, where they differ."""
    num_replicas: int = 1
    router: Router | None = None
    """Which replica serves a request; None: there is one, and it takes them as they come."""
    predictor_time: float = 0.0
    """Seconds of predictor for each request."""
    seed: int = 0
    """For engines with chance in them."""
    max_decodes: float = math.inf
    """The most decodes in a step that the cost model was fitted on."""
    notes: tuple[str, ...] = ()
    """What was chosen, dropped or cut without being asked for: a line each."""


DEFAULT_ROUTER = "least-requests"


def profile_of(name: str) -> Profile:
    """The cost profile of this name or path, read once."""
    return _read_profile(name, version_of(name))


@lru_cache(maxsize=8)
def _read_profile(name: str, version: Any) -> Profile:
    return load_profile(name)


def prepare(cell: Cell, *, trace: Trace | None = None, policy: Policy | None = None) -> Inputs:
    """Read, generate and check everything that a cell needs.

    Args:
        cell: what determines the run.
        trace: requests in place of those of the cell's load.
        policy: a policy in place of the one that the cell names; the run uses it up.

    Raises:
        InputError: whatever is wrong with it.
    """
    load, arm = cell.load, cell.arm
    profile = profile_of(arm.cost_profile)
    units = _units(arm)
    config = units[0].config if units else arm.config.resolve(profile)
    _check_ranks(arm, config, units)
    policy = make_policy(arm.policy) if policy is None else policy
    find_preset(config.preset).check_policy(policy)
    notes: list[str] = []
    if trace is None:
        trace, dropped = requests_of(load)
        notes += dropped
    asked = len(trace)
    counts: dict[str, int] = {}
    for each in dict.fromkeys(unit.config for unit in units) if units else (config,):
        trace, more = check_admissible(trace, each, load.skip_invalid, load.truncate)
        counts = {name: counts.get(name, 0) + more.get(name, 0) for name in {**counts, **more}}
    notes += [
        f"{trace.name}: {count:,} of {counted(asked, 'request')} {reason}" for reason, count in counts.items()
    ]
    has_scores = trace.score is not None  # of its own
    predictor = choose_predictor(arm.predictor, policy, trace)
    if predictor is not None and policy.reads is not None:
        trace, said = predictor.fill(trace, policy.reads, buckets_of(policy), seed=load.seed, tau=arm.tau)
        notes.append(f"{policy.name}: {said}")
        notes += [f"{policy.name}: {line}" for line in _turned_around(trace, policy.reads)]
    router = None
    if arm.is_routed:
        has_versions = "vllm_version" not in find_preset(config.preset).unsupported
        defaults = {"version": config.vllm_version} if has_versions else {}
        router = make_router(arm.router or DEFAULT_ROUTER, **defaults)
        if router.reporting().block_events is not None:
            _check_caches([unit.config for unit in units] if units else [config], router.name)
            notes.append(f"router {router.name}: hears what is cached where, so a run goes step by step")
        for column in router.routes_by:
            if getattr(trace, column) is None:
                notes.append(
                    f"router {router.name}: {trace.name} has no {column}; each request is one by itself"
                )
        if router.reads is not None and router.reads != policy.reads:
            # a trace that brings scores is not given emulated lengths beside them
            spec = arm.predictor or ("trace" if has_scores and router.reads == "predicted_length" else None)
            trace, said = predict_column(spec, router.reads, trace, seed=load.seed, tau=arm.tau)
            notes.append(f"router {router.name}: {said}")
    classes = trace.predicted_class if policy.reads == "predicted_class" else None
    if classes is not None and len(trace) > 1 and np.all(classes == classes[0]):
        notes.append(
            f"{policy.name}: all requests of {trace.name} are in one class, so it cannot tell them apart"
        )
    for column in policy.orders_by:
        if getattr(trace, column) is None:
            alike = "each is one by itself" if column == "session_id" else "all requests are equal"
            notes.append(f"{policy.name}: {trace.name} has no column {column}; {alike}")
    if policy.asks_for and all(getattr(trace, column) is None for column in policy.asks_for):
        columns = " or ".join(policy.asks_for)
        notes.append(
            f"{policy.name}: {trace.name} has no column {columns}; the policy's own parameters hold for all "
            "requests"
        )
    unknown = set(policy.named_classes()) - set(trace.request_class or ())
    if unknown:
        named = ", ".join(sorted(unknown))
        notes.append(f"{policy.name}: {trace.name} has no request of the class {named}")
    seconds, source = _predictor_time(arm, policy, predictor, profile)
    if seconds and arm.predictor_time is None:
        took = f"{seconds * 1e3:.4g} ms a request ({source})"
        notes.append(f"{policy.name}: its predictor takes {took}; --predictor-time says otherwise")
    notes += _notes_on_engine(arm.config, config)
    if profile.host is None:
        for name in ("host_speed", "host_jitter"):
            if getattr(arm, name) is not None:
                notes.append(f"{option_flag(name)} changes nothing: {profile.name} has no host times")
    elif arm.config.async_scheduling is None and config.async_scheduling:
        notes.append(
            f"{profile.name}: asynchronous scheduling, as vLLM on a GPU; --no-async-scheduling says otherwise"
        )
    return Inputs(
        trace, policy, profile.step_cost(arm.host_speed, arm.host_jitter), config,
        predictor=predictor, units=units, num_replicas=len(units) if units else arm.num_replicas or 1,
        router=router, predictor_time=seconds,
        seed=load.seed, max_decodes=profile.max_decodes, notes=tuple(notes),
    )  # fmt: skip


def _check_caches(configs: Sequence[ResolvedConfig], router: str) -> None:
    if not any(config.enable_prefix_caching for config in configs):
        raise InputError(
            f"router {router}: kv_events are those of prefix caches; expected --enable-prefix-caching"
        )


def _check_ranks(arm: Arm, config: ResolvedConfig, units: tuple[Unit, ...] | None) -> None:
    """Refuse ranks that can't step together.

    Raises:
        InputError: there is but one engine, or some schedule asynchronously and others do not.
    """
    if not config.moe_data_parallel:
        return
    if not arm.is_routed:
        raise InputError("--moe-data-parallel: one engine has nobody to wait for; expected --num-replicas")
    if units is not None and len({unit.config.async_scheduling for unit in units}) > 1:
        raise InputError(
            f"--replicas {arm.replicas}: --moe-data-parallel: ranks schedule alike; expected "
            "--async-scheduling or --no-async-scheduling for all of them"
        )


def _units(arm: Arm) -> tuple[Unit, ...] | None:
    """The replicas of an arm, where they differ."""
    if arm.replicas is None:
        return None
    made: dict[tuple[str, EngineConfig], Unit] = {}
    for name, config in (fleet := arm.fleet()):
        if (name, config) not in made:
            profile = profile_of(name)
            cost = profile.step_cost(arm.host_speed, arm.host_jitter)
            made[name, config] = Unit(cost, config.resolve(profile))
    return tuple(made[each] for each in fleet)


def _notes_on_engine(given: EngineConfig, config: ResolvedConfig) -> list[str]:
    """Lines on options that change nothing, and on those with which vLLM itself would not start."""
    usual = EngineConfig(preset=config.preset).gpu_memory_utilization
    notes = []
    if given.num_gpu_blocks is not None and given.gpu_memory_utilization != usual:
        notes.append("--gpu-memory-utilization changes nothing beside --num-gpu-blocks")
    if config.preset != DEFAULT_PRESET:
        return notes
    for low, high in (
        ("max_num_batched_tokens", "max_num_seqs"),
        ("max_model_len", "long_prefill_token_threshold"),
    ):
        least, most = getattr(config, low), getattr(config, high)
        if least < most:
            notes.append(
                f"vLLM does not start with {option_flag(high)} {most} above {option_flag(low)} {least}; "
                "simulated all the same"
            )
    return notes


def _turned_around(trace: Trace, column: str) -> list[str]:
    """A line where longer requests have lower predictions, more clearly than by chance (three standard errors
    of a rank correlation)."""
    predicted = getattr(trace, column)
    if predicted is None or predicted.ndim != 1 or len(trace) < 3:
        return []
    a, b = (_ranks(values) for values in (predicted, trace.num_output_tokens))
    spread = float(a.std() * b.std())
    correlation = float(((a - a.mean()) * (b - b.mean())).mean()) / spread if spread else 0.0
    if correlation >= min(-0.1, -3 / math.sqrt(len(trace) - 1)):
        return []
    return [
        f"the longer its requests the lower their {column} (rank correlation {correlation:.2f}), and lower "
        "is to mean shorter"
    ]


def _ranks(values: FloatArray | IntArray) -> FloatArray:
    """(n,) the place of each among all, from 0; equal ones share the middle of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: FloatArray = (np.cumsum(count) - (count + 1) / 2)[place]
    return ranks


def _predictor_time(
    arm: Arm, policy: Policy, predictor: Predictor | None, profile: Profile
) -> tuple[float, str]:
    """Seconds of predictor for each request, and where the figure comes from.

    A bare cost file says what a step costs, so nothing is added to it unasked.
    """
    if predictor is None:
        return 0.0, ""
    if arm.predictor_time is not None:
        return arm.predictor_time, "--predictor-time"
    if policy.predicts_itself or profile.file is None:
        return 0.0, ""
    seconds = predictor.seconds_per_request
    return (profile.predictor_time, profile.name) if seconds is None else (seconds, str(arm.predictor))
