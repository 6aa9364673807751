"""Runs a trace: source, replicas and record, as SimPy processes.

A lone replica pulls its arrivals from the source. Of several, each gets what a router sends it
(`routing.py`).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from math import fsum, nan

import numpy as np

from simsched.cost_model.base import CostModel
from simsched.cost_model.host import HostedCost
from simsched.engine.admission_control import admission_control
from simsched.engine.base import CannotLeap
from simsched.engine.config import ResolvedConfig, find_preset
from simsched.engine.event_loop import EventLoop
from simsched.engine.host_clock import make_clock
from simsched.engine.pipelined import PipelinedReplica
from simsched.engine.recorder import Recorder, run_record
from simsched.engine.replica import Inbox, Replica, StepCallback
from simsched.engine.routing import Routing
from simsched.engine.serial import SerialReplica
from simsched.engine.source import source_of
from simsched.engine.step_cost import step_cost
from simsched.errors import InputError
from simsched.policies.base import Policy
from simsched.record import RunRecord
from simsched.routers.base import Router
from simsched.streams import stream
from simsched.workload.content import shares
from simsched.workload.trace import Trace


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
) -> RunRecord:
    """Simulate the whole trace until the last request is done.

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

    Raises:
        RunError: requests that displace each other for ever, before any gets a token.
    """
    if policy.reads is not None and getattr(trace, policy.reads) is None:
        raise InputError(
            f"{trace.name}: no {policy.reads}, which policy {policy.name} reads; expected a predictor"
        )
    if leap and step_log is None:
        try:
            # of the policy as it is: should leaping prove impossible, the run starts again
            return _run(
                trace, deepcopy(policy), cost, config, True, predictor_time, None, seed, num_replicas, router
            )
        except CannotLeap:
            pass
    return _run(trace, policy, cost, config, False, predictor_time, step_log, seed, num_replicas, router)


def _run(
    trace: Trace,
    policy: Policy,
    cost: CostModel | HostedCost,
    config: ResolvedConfig,
    leap: bool,
    predictor_time: float,
    step_log: StepCallback | None,
    seed: int,
    num_replicas: int,
    router: Router | None,
) -> RunRecord:
    event_loop = EventLoop()
    random_ids = stream(seed, "ties").permutation(len(trace)).tolist() if config.random_ties else None
    source = source_of(trace, random_ids)
    gate = admission_control(config)
    preset = find_preset(config.preset)
    # a user's own cost model need not know the term
    padded = getattr(cost, "per_padded", 0.0) > 0
    shares_prefixes = shares(trace)
    step = step_cost(cost, config)

    routing = None
    if router is not None:
        routing = Routing(event_loop, source, router, num_replicas, gate, seed)
    replicas: list[Replica] = []
    policies = [policy, *(deepcopy(policy) for _ in range(1, num_replicas))]
    for number, own_policy in enumerate(policies):
        inbox = source if routing is None else Inbox(routing, number)
        recorder = Recorder(len(trace) if routing is None else 0)
        scheduler = preset.make_scheduler(
            own_policy, config, recorder, leap=leap, padded=padded, shares_prefixes=shares_prefixes
        )
        own_gate = gate if routing is None else None
        common = (event_loop, inbox, scheduler, recorder)
        if config.async_scheduling:
            clock = make_clock(cost, config, predictor_time, seed + number)
            replicas.append(PipelinedReplica(*common, clock, own_gate, step_log))
        else:
            replicas.append(SerialReplica(*common, step, predictor_time, own_gate, step_log))
        if routing is not None:
            routing.add(replicas[-1])
    end = replicas[0].start() if routing is None else routing.start()
    with _no_collection():
        event_loop.run(end)
    counters: dict[str, int] = {}
    for each in replicas:
        for name, count in each.scheduler.counters.items():
            counters[name] = counters.get(name, 0) + count
    record = run_record(
        trace,
        source.arrival_times(),
        [(each.rows, each.recorder) for each in replicas],
        max(each.now for each in replicas),
        counters,
        {} if gate is None else gate.refused,
    )
    bound, busy = (fsum(each) for each in zip(*(each.host_seconds for each in replicas), strict=True))
    record.host_bound_share = bound / busy if busy else nan
    if router is not None:
        record.replica = np.full(len(trace), -1)
        for number, each in enumerate(replicas):
            record.replica[np.array(each.rows, dtype=np.int64)] = number
    return record


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
