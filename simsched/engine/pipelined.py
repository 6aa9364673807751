"""One engine with asynchronous scheduling: while a step is under way, the next one is formed and launched.

The order of events is that of `step_with_batch_queue` in vllm/v1/engine/core.py (vLLM 0.32.0), two batches
deep. When step k - 1 is over and its tokens are out, whoever has arrived is taken in and step k + 1 is
formed, while k is under way. With nothing under way a step is formed and launched first, and the next one
when that is done, with whoever has arrived by then.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from math import inf
from typing import TYPE_CHECKING

import simpy
from simpy.events import Timeout

from simsched.engine.admission_control import AdmissionControl
from simsched.engine.base import Batch, Scheduler
from simsched.engine.clock import Clock

if TYPE_CHECKING:
    from simsched.engine.simulator import Arrivals

Log = Callable[[Batch, float, float], None]


def run_pipelined(
    environment: simpy.Environment,
    arrivals: Arrivals,
    scheduler: Scheduler,
    clock: Clock,
    gate: AdmissionControl | None,
    log: Log | None,
) -> Generator[simpy.Event, None, float]:
    """Until the last request is done; returns when that was.

    Args:
        scheduler: `schedule` forms a step, `update` ends the oldest that was formed.
        gate: whom it refuses the scheduler never sees; None: nobody.
        log: called with each step, its start, and its seconds.
    """
    closed, step_ends = arrivals.closed, scheduler.step_ends

    def take_in(now: float) -> None:
        while arrivals.next_time <= now:
            index = arrivals.pop()
            if gate is None or gate.admits(index):
                scheduler.add_request(index, now)

    now = 0.0
    ahead: Batch | None = None
    while True:
        take_in(now)
        formed = now
        batch = ahead
        if batch is None:
            batch = scheduler.schedule(now)
            if batch is None:
                if scheduler.has_unfinished():
                    continue  # it only made room: vLLM schedules again at once
                if arrivals.next_time == inf:
                    return now
                now = arrivals.next_time
                yield Timeout(environment, max(0.0, now - environment.now))
                continue
            formed += clock.begin(batch.features)
            if formed > now:
                yield Timeout(environment, max(0.0, formed - environment.now))
                take_in(formed)
        ahead = scheduler.schedule(formed)
        duration = clock.step(batch.features, None if ahead is None else ahead.features)
        if log is not None:
            log(batch, now, duration)
        end, steps, last = now + duration, 1, duration
        if step_ends is not None:
            step_ends.append(end)
        if ahead is not None and not batch.features.S and end < arrivals.next_time:
            most, before = scheduler.max_steps(batch)
            before = min(before, arrivals.next_time)
            if most > 1 and end < before:
                features = batch.features
                end, steps, last = clock.repeat(end, features, duration, most, before, step_ends)
        now = end
        yield Timeout(environment, max(0.0, now - environment.now))
        for index in scheduler.update(batch, now, duration, last, steps):
            if closed:
                arrivals.finished(index, now)
