"""Runs a trace: source, replicas and record, as SimPy processes.

A lone replica pulls its arrivals from the source. Of several, each gets what a router sends it
(`routing.py`).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from math import fsum, nan
from typing import Any, cast

import numpy as np
import simpy

from simsched.cost_model.base import CostModel
from simsched.cost_model.host import HostedCost
from simsched.engine.admission_control import AdmissionControl, admission_control
from simsched.engine.base import CannotLeap
from simsched.engine.config import ResolvedConfig, find_preset
from simsched.engine.data_parallel import PipelinedGroup, Rank, RankGroup, RankScheduler, SerialGroup
from simsched.engine.engine_view import ViewOfEngine
from simsched.engine.event_loop import EventLoop
from simsched.engine.host_clock import HostClock, make_clock
from simsched.engine.pipelined import PipelinedReplica
from simsched.engine.rank_cost import rank_cost
from simsched.engine.recorder import Recorder, run_record
from simsched.engine.replica import Inbox, Replica, StepCallback
from simsched.engine.routing import Routing
from simsched.engine.serial import SerialReplica
from simsched.engine.source import Source, TraceSource, source_of
from simsched.engine.split import deal_out, share_of
from simsched.engine.step_cost import step_cost
from simsched.errors import InputError
from simsched.policies.base import Policy
from simsched.record import RunRecord
from simsched.routers.base import Router
from simsched.streams import stream
from simsched.workload.content import shares
from simsched.workload.trace import FloatArray, IntArray, Trace


def simulate(
    trace: Trace,
    policy: Policy,
    cost: CostModel | HostedCost,
    config: ResolvedConfig,
    *,
    leap: bool = True,
    predictor_time: float = 0.0,
    step_log: StepCallback | None = None,
    seed: int = 0,
    num_replicas: int = 1,
    router: Router | None = None,
    units: Sequence[Unit] | None = None,
    watch: Watch | None = None,
) -> RunRecord:
    """Simulate the whole trace until the last request is done, or until a watch has seen enough.

    Args:
        trace: the requests; each must be able to fit (`engine.admissible.check_admissible`).
        policy: a fresh object; it is used up.
        cost: seconds per step; or of device and host apart (`HostedCost`).
        config: the engine.
        leap: collapse steps in which nothing can change; the results are the same.
        predictor_time: seconds that a step takes longer for each request first seen in it.
        step_log: called with one dict per step in which something ran; slows the run.
        seed: for engines with chance in them, and for a host with jitter.
        num_replicas: engines that share the requests, each with a policy object of its own.
        router: which of them gets a request; None: there is one, and it takes them as they come.
        units: the replicas, where they differ; None: all are of `cost` and `config`.
        watch: looks at times of its own, and may end the run there; None: nobody does.

    Raises:
        RunError: requests that displace each other for ever, before any gets a token.
    """
    if policy.reads is not None and getattr(trace, policy.reads) is None:
        raise InputError(
            f"{trace.name}: no {policy.reads}, which policy {policy.name} reads; expected a predictor"
        )
    units = [Unit(cost, config)] * num_replicas if units is None else units
    run = _Run(trace, tuple(units), config, predictor_time, seed, router, watch)
    # what a cache holds at any time is known where it is stepped through
    hears_of_blocks = router is not None and router.reporting().block_events is not None
    with _no_collection():
        if leap and step_log is None and not hears_of_blocks:
            try:
                # of the policy as it is: should leaping prove impossible, the run starts again
                return _simulate(run, deepcopy(policy), leap=True)
            except CannotLeap:
                pass
        return _simulate(run, policy, leap=False, step_log=step_log)


@dataclass(frozen=True)
class Watch:
    """Somebody who looks at a run under way, and may end it: what is not finished then stays so."""

    times: tuple[float, ...]
    """When, in seconds, ascending. A lone replica may have gone further by then, but not less far."""
    is_enough: Callable[[float, FloatArray, FloatArray], bool]
    """Called at each with the time, the (n,) arrival times and the (n,) finish times so far; True ends it."""


@dataclass(frozen=True)
class Unit:
    """A replica: what its steps cost, and its engine."""

    cost: CostModel | HostedCost
    config: ResolvedConfig


@dataclass(frozen=True)
class _Run:
    """The arguments of `simulate` that stay when a run starts again."""

    trace: Trace
    units: tuple[Unit, ...]
    config: ResolvedConfig
    """Of what all replicas have in common."""
    predictor_time: float
    seed: int
    router: Router | None
    watch: Watch | None = None


def _simulate(run: _Run, policy: Policy, *, leap: bool, step_log: StepCallback | None = None) -> RunRecord:
    trace, config, router = run.trace, run.config, run.router
    random_ids = None
    if config.random_ties:
        random_ids = stream(run.seed, "ties").permutation(len(trace)).tolist()
    event_loop = EventLoop()
    # (what their tokens are is of concern where they share prefixes, and to routers)
    caches = any(unit.config.enable_prefix_caching for unit in run.units)
    source = source_of(trace, random_ids, with_content=caches or router is not None)
    gate = admission_control(config)

    # First, where each replica gets its requests: alone from the trace, or what the router sends it.
    sources, routing = [source], None
    dealt: list[IntArray] | None = None
    group = _group(run, event_loop)
    if router is not None:
        if gate is None and step_log is None and group is None:
            dealt = deal_out(trace, source, router, len(run.units), run.seed)
        if dealt is not None:
            sources = [share_of(trace, rows, random_ids) for rows in dealt]
        else:
            sizes = [unit.config.block_size for unit in run.units]
            in_step = group is not None
            routing = Routing(event_loop, source, router, len(run.units), gate, run.seed, sizes, in_step)
            sources = [Inbox(routing, number) for number in range(len(run.units))]
    policies = [policy, *(deepcopy(policy) for _ in range(1, len(run.units)))]
    own_gate = None if routing else gate
    steps = _step_costs(run.units)
    replicas = [
        _replica(run, event_loop, *each, number, own_gate, group, leap=leap, step_log=step_log)
        for number, each in enumerate(zip(sources, policies, steps, strict=True))
    ]
    _share_tables(run.units, replicas)
    # Then all of them run, until the last request is done.
    if routing is None and run.watch is None:
        for each in replicas:  # they never meet, so one goes before another begins
            event_loop.run_until(each.start())
    else:
        end: simpy.Event
        if routing is None:
            end = simpy.AllOf(event_loop, [each.start() for each in replicas])
        else:
            for each in replicas:
                routing.add(each)
            end = routing.start()
        if run.watch is not None:
            finish_times = _FinishTimes(len(trace), replicas, dealt)
            watcher = simpy.Process(event_loop, _look(event_loop, run.watch, source, finish_times))
            end = simpy.AnyOf(event_loop, [end, watcher])
        event_loop.run_until(end)

    counters: dict[str, int] = {}
    for each in replicas:
        for name, count in each.scheduler.counters.items():
            counters[name] = counters.get(name, 0) + count
    rows = _rows(replicas, dealt)
    refused = {} if gate is None else gate.refused
    for numbered, each in zip(rows, replicas, strict=True):
        refused |= {numbered[number]: "admit" for number in each.rejected}
    record = run_record(
        trace,
        source.arrival_times(),
        [(numbered, each.recorder) for numbered, each in zip(rows, replicas, strict=True)],
        max(each.now for each in replicas),
        counters,
        refused,
    )
    if group is None:
        bound, busy = (fsum(each) for each in zip(*(each.host_seconds for each in replicas), strict=True))
    else:
        bound, busy = group.host_seconds
        record.rank_times = tuple(rank.times for rank in group.ranks)
    record.host_bound_share = bound / busy if busy else nan
    if router is not None:
        record.replica = np.full(len(trace), -1)
        for number, numbered in enumerate(rows):
            record.replica[np.array(numbered, dtype=np.int64)] = number
    return record


def _rows(replicas: Sequence[Replica], dealt: Sequence[IntArray] | None) -> list[Sequence[int]]:
    """For each replica, by number, the row of each of its requests."""
    return [each.rows for each in replicas] if dealt is None else [each.tolist() for each in dealt]


@dataclass(frozen=True)
class _FinishTimes:
    """The finish times of a run under way."""

    num_requests: int
    replicas: Sequence[Replica]
    dealt: Sequence[IntArray] | None

    def __call__(self) -> FloatArray:
        """(n,) seconds; NaN = not yet."""
        times = np.full(self.num_requests, nan)
        for rows, replica in zip(_rows(self.replicas, self.dealt), self.replicas, strict=True):
            times[np.asarray(rows, dtype=np.int64)] = replica.recorder.finish_time[: len(rows)]
        return times


def _look(
    event_loop: EventLoop, watch: Watch, source: Source, finish_times: _FinishTimes
) -> Generator[simpy.Event, Any, None]:
    """Ends when the watch has seen enough; else never."""
    for time in watch.times:
        yield event_loop.at(time)
        if watch.is_enough(event_loop.now, source.arrival_times(), finish_times()):
            return
    yield event_loop.event()


def _replica(
    run: _Run,
    event_loop: EventLoop,
    source: Source,
    policy: Policy,
    step: CostModel,
    number: int,
    gate: AdmissionControl | None,
    group: RankGroup | None,
    *,
    leap: bool,
    step_log: StepCallback | None,
) -> Replica:
    recorder = Recorder(len(source) if isinstance(source, TraceSource) else 0)
    unit = run.units[number]
    cost, config = unit.cost, unit.config
    scheduler = find_preset(config.preset).make_scheduler(
        policy,
        config,
        recorder,
        leap=leap,
        # a user's own cost model need not know the term
        padded=getattr(cost, "per_padded", 0.0) > 0,
        shares_prefixes=shares(run.trace),
    )
    view: ViewOfEngine | None = getattr(scheduler, "engine_view", None)
    if view is not None:
        view.take_cost(step)
    if group is not None:
        assert isinstance(source, Inbox)
        times = rank_cost(cost, config, run.predictor_time, run.seed + number, group.padded)
        return Rank(event_loop, source, cast("RankScheduler", scheduler), recorder, times, group, step_log)
    common = (event_loop, source, scheduler, recorder)
    if config.async_scheduling:
        clock = make_clock(cost, config, run.predictor_time, run.seed + number)
        return PipelinedReplica(*common, clock, gate, step_log)
    return SerialReplica(*common, step, run.predictor_time, gate, step_log)


def _step_costs(units: Sequence[Unit]) -> list[CostModel]:
    """`step_cost` of each; the same one for replicas that are alike, for the sake of its tables."""
    made: dict[tuple[int, int], CostModel] = {}
    for unit in units:
        alike = id(unit.cost), id(unit.config)
        if alike not in made:
            made[alike] = step_cost(unit.cost, unit.config)
    return [made[id(unit.cost), id(unit.config)] for unit in units]


def _share_tables(units: Sequence[Unit], replicas: Sequence[Replica]) -> None:
    """Of the clocks of replicas that are alike."""
    first: dict[tuple[int, int], HostClock] = {}
    for unit, each in zip(units, replicas, strict=True):
        if isinstance(each, PipelinedReplica) and isinstance(each.clock, HostClock):
            each.clock.share_tables(first.setdefault((id(unit.cost), id(unit.config)), each.clock))


def _group(run: _Run, event_loop: EventLoop) -> RankGroup | None:
    """What steps the replicas together; None: each goes by itself."""
    if not run.config.moe_data_parallel or len(run.units) == 1:
        return None  # one rank is no data parallelism: vLLM then has its ordinary engine
    if not run.config.async_scheduling:
        return SerialGroup(event_loop, run.config)
    clock = make_clock(run.units[0].cost, run.config)
    return PipelinedGroup(event_loop, run.config, clock if isinstance(clock, HostClock) else None)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the cyclic garbage collector: a run leaves no cycles, only millions of objects to look at."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
