"""Runs a trace: source, replicas and record, as SimPy processes.

A lone replica pulls its arrivals from the source. Of several, each gets what is sent to it (`Dispatch`).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from math import inf

import numpy as np
import simpy

from simsched.cost_model.base import CostModel
from simsched.cost_model.host import HostedCost
from simsched.engine.admission_control import AdmissionControl, admission_control
from simsched.engine.arrival import Arrival
from simsched.engine.base import CannotLeap
from simsched.engine.clock import make_clock
from simsched.engine.config import ResolvedConfig, find_preset
from simsched.engine.event_loop import DELIVERY, EventLoop
from simsched.engine.pipelined import PipelinedReplica
from simsched.engine.recorder import Recorder, run_record
from simsched.engine.replica import Inbox, Replica, StepCallback
from simsched.engine.serial import SerialReplica
from simsched.engine.source import Source, source_of
from simsched.engine.step_cost import step_cost
from simsched.errors import InputError
from simsched.policies.base import Policy
from simsched.record import RunRecord
from simsched.streams import stream
from simsched.workload.content import shares
from simsched.workload.trace import Trace

Choose = Callable[[Arrival, Sequence[Replica], float], int]
"""Which of the replicas gets a request that arrives at this time."""


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
    choose: Choose | None = None,
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
        choose: which of them gets a request; with more than one.

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
                trace, deepcopy(policy), cost, config, True, predictor_time, None, seed, num_replicas, choose
            )
        except CannotLeap:
            pass
    return _run(trace, policy, cost, config, False, predictor_time, step_log, seed, num_replicas, choose)


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
    choose: Choose | None,
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

    def replica(number: int, policy: Policy, source: Source, gate: AdmissionControl | None) -> Replica:
        recorder = Recorder(len(trace) if num_replicas == 1 else 0)
        scheduler = preset.make_scheduler(
            policy, config, recorder, leap=leap, padded=padded, shares_prefixes=shares_prefixes
        )
        if config.async_scheduling:
            clock = make_clock(cost, config, predictor_time, seed + number)
            return PipelinedReplica(event_loop, source, scheduler, recorder, clock, gate, step_log)
        return SerialReplica(event_loop, source, scheduler, recorder, step, predictor_time, gate, step_log)

    if choose is None:
        replicas = [replica(0, policy, source, gate)]
        end = replicas[0].start()
    else:
        dispatch = Dispatch(event_loop, source, choose, gate)
        for number in range(num_replicas):
            dispatch.add(replica(number, deepcopy(policy), Inbox(dispatch.finished), None))
        replicas = dispatch.replicas
        end = dispatch.start()
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
    record.host_bound_share = float(np.mean([each.host_bound_share for each in replicas]))
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


class Dispatch:
    """The process that takes requests from the source and sends each to a replica, at the time it arrives."""

    def __init__(
        self, event_loop: EventLoop, source: Source, choose: Choose, gate: AdmissionControl | None
    ) -> None:
        """`gate`: whom it refuses no replica sees; None: nobody."""
        self.replicas: list[Replica] = []
        self._event_loop = event_loop
        self._source = source
        self._choose = choose
        self._gate = gate
        self._num_in_flight = 0
        self._process: simpy.Process | None = None
        self._until = inf  # when it will look again, while it waits

    def add(self, replica: Replica) -> None:
        """One more of those that get requests."""
        self.replicas.append(replica)

    def start(self) -> simpy.Process:
        """Start all replicas; the process that is returned ends with the last answer."""
        for replica in self.replicas:
            replica.start()
        self._process = process = simpy.Process(self._event_loop, self._run())
        return process

    def _run(self) -> Generator[simpy.Event, None, None]:
        event_loop, source = self._event_loop, self._source
        while source.next_time < inf or self._num_in_flight:
            self._until = source.next_time
            try:
                # until the next arrival, or until an answer brings an earlier one, or the last answer comes
                if self._until < inf:
                    yield event_loop.at(self._until, DELIVERY)
                else:
                    yield simpy.Event(event_loop)
            except simpy.Interrupt:
                continue
            finally:
                self._until = -inf
            now = event_loop.now
            while source.next_time <= now:
                self._send(source.pop(), now)

    def _send(self, arrival: Arrival, now: float) -> None:
        if self._gate is not None and not self._gate.admits(arrival):
            return
        replica = self.replicas[self._choose(arrival, self.replicas, now)]
        if self._gate is not None:
            self._gate.sent(arrival, replica.recorder, replica.num_delivered)
        self._num_in_flight += 1
        replica.deliver(arrival, now)

    def finished(self, row: int, now: float) -> None:
        """The request in this row of the trace has its answer."""
        self._num_in_flight -= 1
        self._source.finished(row, now)
        is_last = not self._num_in_flight and self._source.next_time == inf
        if self._source.next_time < self._until or is_last:
            self._until = -inf
            assert self._process is not None
            self._process.interrupt()
