"""Runs a trace through an engine: one SimPy process per engine replica.

Iterations follow vLLM's synchronous loop: take in what has arrived, schedule, run, update. The clock is
summed step by step in leaps too (an addition each, no more), so a leaping run and a stepping one agree to
the last bit, and no tie between an arrival and the end of a step can fall differently.
"""

from __future__ import annotations

import gc
import heapq
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from copy import deepcopy
from math import inf
from typing import Any, Final

import numpy as np
import simpy
from simpy.events import Timeout

from simsched.cost_model.base import CostModel, StepFeatures
from simsched.cost_model.host import HostedCost
from simsched.engine.admission_control import AdmissionControl, admission_control
from simsched.engine.base import Batch, Scheduler
from simsched.engine.clock import Clock, make_clock
from simsched.engine.config import ResolvedConfig, find_preset
from simsched.engine.pipelined import run_pipelined
from simsched.engine.recorder import Recorder
from simsched.engine.step_cost import step_cost
from simsched.engine.vllm_v1.discipline import CannotLeap
from simsched.engine.vllm_v1.leaping import VllmV1Leap
from simsched.engine.vllm_v1.uncontended import coast
from simsched.errors import InputError
from simsched.policies.base import Policy
from simsched.record import RunRecord
from simsched.workload.trace import Trace

LONG: Final = 64  # steps in a leap, beyond which NumPy takes over

Leap = Callable[[float, float, float, int, int, int, float], tuple[float, int, float]]
StepLog = Callable[[dict[str, Any]], None]


def simulate(
    trace: Trace,
    policy: Policy,
    cost: CostModel | HostedCost,
    config: ResolvedConfig,
    *,
    leap: bool = True,
    predictor_time: float = 0.0,
    step_log: StepLog | None = None,
    seed: int = 0,
) -> RunRecord:
    """Simulate the whole trace until the last request is done.

    Args:
        trace: the requests; each must be able to fit (`engine.admissible.check_admissible`).
        policy: a fresh object; it is used up.
        cost: seconds per step; or of device and host apart (`HostedCost`).
        config: the engine.
        leap: collapse steps in which nothing can change; the results are the same.
        predictor_time: seconds that a step takes longer for each request first seen in it.
        step_log: called with one dict per step in which something ran (design section 7); slows the run.
        seed: for engines with chance in them, and for a host with jitter.

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
            return _run(trace, deepcopy(policy), cost, config, True, predictor_time, None, seed)
        except CannotLeap:
            pass
    return _run(trace, policy, cost, config, False, predictor_time, step_log, seed)


def _run(
    trace: Trace,
    policy: Policy,
    cost: CostModel | HostedCost,
    config: ResolvedConfig,
    leap: bool,
    predictor_time: float,
    step_log: StepLog | None,
    seed: int,
) -> RunRecord:
    recorder = Recorder(trace)
    # a user's own cost model need not know the term
    padded = getattr(cost, "per_padded", 0.0) > 0
    preset = find_preset(config.preset)
    scheduler = preset.make_scheduler(trace, policy, config, recorder, leap=leap, seed=seed, padded=padded)
    environment = simpy.Environment()
    arrivals = Arrivals(trace, recorder)
    clock = make_clock(cost, config, predictor_time, seed) if config.async_scheduling else None
    each = step_cost(cost, config)
    gate = admission_control(config, recorder)
    engine = _Engine(environment, arrivals, scheduler, each, predictor_time, step_log, recorder, clock, gate)
    with _no_collection():
        environment.run(environment.process(engine.run()))
    record = recorder.record(engine.now, scheduler.counters)
    if clock is not None:
        record.host_bound_share = clock.host_bound_share
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


class Arrivals:
    """When requests arrive: as the trace says, or from users who wait for their answers (closed loop)."""

    def __init__(self, trace: Trace, recorder: Recorder) -> None:
        self.request_ids = trace.request_ids()
        self.closed = trace.closed_loop_users is not None
        self._n = len(trace)
        self.index = 0
        self.times: list[float] = recorder.arrival_time
        self._think_time = trace.think_time
        users = min(trace.closed_loop_users or 0, self._n)
        # (when it sends its next request, the user's number), and who sent a request
        self._users: list[tuple[float, int]] = [(0.0, user) for user in range(users)]
        self._user_of: dict[int, int] = {}
        self.next_time = 0.0
        """When the next request arrives, as far as is known; inf when there is none."""
        self._look()

    def _look(self) -> None:
        if self.index == self._n:
            self.next_time = inf
        elif self.closed:
            self.next_time = self._users[0][0] if self._users else inf
        else:
            self.next_time = self.times[self.index]

    def pop(self) -> int:
        """The request that arrives next."""
        index = self.index
        self.index += 1
        if self.closed:
            self.times[index], self._user_of[index] = heapq.heappop(self._users)
            self._look()
        elif self.index < self._n:
            self.next_time = self.times[self.index]
        else:
            self.next_time = inf
        return index

    def skip_to(self, index: int) -> None:
        """The requests before this one have been taken in."""
        self.index = index
        self._look()

    def finished(self, index: int, now: float) -> None:
        """The user who sent it has the answer (closed loop)."""
        heapq.heappush(self._users, (now + self._think_time, self._user_of.pop(index)))
        self._look()


class _Engine:
    """One engine replica."""

    def __init__(
        self,
        environment: simpy.Environment,
        arrivals: Arrivals,
        scheduler: Scheduler,
        cost: CostModel,
        predictor_time: float,
        step_log: StepLog | None,
        recorder: Recorder,
        clock: Clock | None,
        gate: AdmissionControl | None,
    ) -> None:
        self.now = 0.0
        self._environment = environment
        self._arrivals = arrivals
        self._scheduler = scheduler
        self._cost = cost
        self._predictor_time = predictor_time
        self._step_log = step_log
        self._recorder = recorder
        self._clock = clock
        self._gate = gate
        self._num_steps = 0

    def run(self) -> Generator[simpy.Event, None, None]:
        environment, arrivals, scheduler = self._environment, self._arrivals, self._scheduler
        if self._clock is not None:
            log = None if self._step_log is None else self._log
            self.now = yield from run_pipelined(
                environment, arrivals, scheduler, self._clock, self._gate, log
            )
            return
        schedule, update, max_steps = scheduler.schedule, scheduler.update, scheduler.max_steps
        decode_line = self._cost.decode_line
        step_ends, closed, logs = scheduler.step_ends, arrivals.closed, self._step_log is not None
        gate = self._gate
        leaping = scheduler if isinstance(scheduler, VllmV1Leap) and not closed and gate is None else None
        now = 0.0
        while True:
            if leaping is not None and leaping.calm():
                now = yield from coast(
                    leaping, environment, arrivals, self._cost, self._predictor_time, self._leap, now
                )
            while arrivals.next_time <= now:
                index = arrivals.pop()
                if gate is None or gate.admits(index):
                    scheduler.add_request(index, now)
            batch = schedule(now)
            if batch is None:
                if scheduler.has_unfinished():
                    continue  # it only made room: vLLM schedules again at once
                if arrivals.next_time == inf:
                    break
                now = arrivals.next_time
                yield Timeout(environment, max(0.0, now - environment.now))
                continue
            features = batch.features
            steps = 1
            if features.S or features.swapped_tokens or features.num_predicted:
                first = last = self._cost.step_time(features) + self._predictor_time * features.num_predicted
                base = slope = None
            else:
                # a decode step is priced in one way whether it is leapt over or not, to the last bit
                if features.num_ordered or features.padding:
                    base, slope = self._decode_line(features)
                else:
                    base, slope = decode_line(features.N, features.num_waiting)
                first = last = base + slope * features.K
            end = now + first
            if step_ends is not None:
                step_ends.append(end)
            if not features.S and end < arrivals.next_time:
                most, until = max_steps(batch)
                if most > 1 and end < until:
                    until = min(until, arrivals.next_time)
                    if base is None or slope is None:
                        base, slope = self._decode_line(features)
                    if first == base + slope * features.K:  # else the predictor has made it longer
                        end, steps, last = self._leap(end, base, slope, features.K, features.N, most, until)
            if logs:
                self._log(batch, now, first)
            now = end
            if not features.S:  # a step with prefills is one event with the decodes that follow
                yield Timeout(environment, now - environment.now)
            finished = update(batch, now, first, last, steps)
            if closed:
                for index in finished:
                    arrivals.finished(index, now)
        self.now = now

    def _decode_line(self, features: StepFeatures) -> tuple[float, float]:
        if not (features.num_ordered or features.padding):
            return self._cost.decode_line(features.N, features.num_waiting)
        return self._cost.decode_line(
            features.N, features.num_waiting, features.num_ordered, features.num_compared, features.padding
        )

    def _leap(
        self, end: float, base: float, slope: float, K: int, N: int, most: int, until: float
    ) -> tuple[float, int, float]:
        """Repeat a step of decodes that ends at `end`, up to `most` steps in all, the last of which starts
        before `until`: (end of the last one, steps, its duration)."""
        last, before = 0.0, K
        step_ends = self._scheduler.step_ends
        for K in range(before + N, before + N * min(most, LONG), N):
            last = base + slope * K
            end += last
            if step_ends is not None:
                step_ends.append(end)
            if end >= until:
                break
        steps = (K - before) // N + 1
        while steps >= LONG and steps < most and end < until:
            count = min(most - steps, 4096)
            durations = base + slope * (K + N * np.arange(1, count + 1, dtype=np.int64))
            # NumPy accumulates in the same order, to the same bits
            ends = np.add.accumulate(np.concatenate(([end], durations)))[1:]
            count = min(count, int(np.searchsorted(ends, until)) + 1)
            end, last = float(ends[count - 1]), float(durations[count - 1])
            if step_ends is not None:
                step_ends.extend(ends[:count].tolist())
            K += N * count
            steps += count
        return end, steps, last

    def _log(self, batch: Batch, now: float, duration: float) -> None:
        assert self._step_log is not None
        ids = self._arrivals.request_ids
        self._num_steps += 1
        line: dict[str, Any] = {
            "step": self._num_steps,
            "time": now,
            "step_time": duration,
            "scheduled": {ids[index]: tokens for index, tokens in batch.scheduled.items()},
            "preempted": [ids[index] for index in batch.preempted],
        }
        if self._scheduler.swaps:
            line["swapped_out"] = [ids[index] for index in batch.swapped_out]
            line["swapped_in"] = [ids[index] for index in batch.swapped_in]
        line["num_running"] = batch.num_running
        line["num_waiting"] = batch.num_waiting
        line["kv_blocks_used"] = batch.kv_blocks_used
        self._step_log(line)
