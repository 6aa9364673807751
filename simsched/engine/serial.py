"""A replica with synchronous scheduling: schedule, run, update, one step after the other.

The loop is vLLM's. Steps in which nothing can change are leapt over.
"""

from __future__ import annotations

from collections.abc import Generator
from math import inf
from typing import Protocol, cast

import simpy

from simsched.cost_model.base import CostModel, StepFeatures
from simsched.engine.admission_control import AdmissionControl
from simsched.engine.base import Scheduler
from simsched.engine.event_loop import EventLoop
from simsched.engine.recorder import Recorder
from simsched.engine.repeat import repeat_decodes, repeat_on_line
from simsched.engine.replica import Replica, StepCallback
from simsched.engine.source import Source
from simsched.engine.step_cost import SerialCost


class RunsUncontended(Protocol):
    """A scheduler that runs by itself while nobody waits and there is room for whoever arrives."""

    runs_uncontended: bool
    """True; a scheduler without it never does."""

    def is_uncontended(self) -> bool:
        """Is it so now, between two steps?"""

    def run_uncontended(self, replica: SerialReplica, now: float) -> Generator[simpy.Event, None, float]:
        """Simulate from `now` on while it lasts; returns the time it ended, between two steps."""


class SerialReplica(Replica):
    """A replica with synchronous scheduling."""

    def __init__(
        self,
        event_loop: EventLoop,
        source: Source,
        scheduler: Scheduler,
        recorder: Recorder,
        cost: CostModel,
        predictor_time: float = 0.0,
        gate: AdmissionControl | None = None,
        step_log: StepCallback | None = None,
    ) -> None:
        """
        Args:
            cost: seconds per step.
            predictor_time: seconds that a step takes longer for each request first seen in it.
        """
        super().__init__(event_loop, source, scheduler, recorder, gate, step_log)
        self.cost = cost
        self.predictor_time = predictor_time
        self.tells_host = isinstance(cost, SerialCost)
        """Does the cost tell the host's time from the device's?"""
        self._host_seconds = self._seconds = 0.0
        # what it has promised: when that begins, arguments of `repeat_decodes`, and what is kept of it
        self._promise: tuple[float, float, float, float, int, int, int, float] | None = None
        self._kept: tuple[float, int, float] = (0.0, 0, 0.0)
        self._num_ends = 0  # of steps before it

    def account(self, features: StepFeatures, steps: int, seconds: float) -> None:
        """So many steps with these features (of decodes, but for K) took so many seconds in all."""
        assert isinstance(self.cost, SerialCost)
        self._host_seconds += self.cost.host_time(features) * steps
        self._seconds += seconds

    @property
    def host_seconds(self) -> tuple[float, float]:
        return self._host_seconds, self._seconds

    def run(self) -> Generator[simpy.Event, None, None]:
        event_loop, source, scheduler, cost = self.event_loop, self.source, self.scheduler, self.cost
        due = event_loop.due
        schedule, update, max_steps = scheduler.schedule, scheduler.update, scheduler.max_steps
        decode_line, predictor_time = cost.decode_line, self.predictor_time
        step_ends, logs, alone = scheduler.step_ends, self.logs, self.is_alone
        reports, tells_counts, tells_host = source.waits_for_answers, self.tells_counts, self.tells_host
        add_request = self.take_in if self.takes_note else scheduler.add_request
        rejected: list[int] = getattr(scheduler, "rejected", [])
        by_itself = getattr(scheduler, "runs_uncontended", False) and self.gate is None
        uncontended = cast("RunsUncontended", scheduler) if by_itself else None
        now = 0.0
        while True:
            if uncontended is not None and uncontended.is_uncontended():
                now = yield from uncontended.run_uncontended(self, now)
            # First, take in what has arrived.
            while source.next_time <= now:
                add_request(source.pop(), now)
            if tells_counts:
                self.tell_counts(now, scheduler.num_running)
            # Then form the next batch.
            batch = schedule(now)
            if rejected:
                self.turn_away(rejected, now)
            if batch is None:
                if scheduler.has_unfinished():
                    continue  # it only made room: vLLM schedules again at once
                now = yield from self.await_arrival(now)
                if now == inf:
                    return
                continue
            # What does it cost? A step of decodes is priced in one way whether it is leapt over or not.
            features = batch.features
            steps = 1
            if features.S or features.swapped_tokens or features.num_predicted:
                first = last = cost.step_time(features) + predictor_time * features.num_predicted
                base = slope = None
            else:
                if features.num_ordered or features.padding:
                    base, slope = self._decode_line(features)
                else:
                    base, slope = decode_line(features.N, features.num_waiting)
                first = last = base + slope * features.K
            end = now + first
            if step_ends is not None:
                step_ends.append(end)
            # Repeat it, if it is of decodes only and nothing can change until then.
            most, until = 1, inf
            if not features.S and end < source.next_time:
                most, until = max_steps(batch)
                if most > 1 and end < until:
                    if base is None or slope is None:
                        base, slope = self._decode_line(features)
                    if first != base + slope * features.K:  # the predictor has made it longer
                        most = 1
                else:
                    most = 1
            # Wait until it is over: alone, only if anything else is to happen before.
            if alone:
                if most > 1 and base is not None and slope is not None:
                    until = min(until, source.next_time)
                    end, steps, last = repeat_decodes(
                        end, base, slope, features.K, features.N, most, until, step_ends
                    )
                if due and due[0][0] <= end:
                    yield event_loop.at(end)
            elif most > 1 and base is not None and slope is not None:
                end, steps, last = yield from self.keep_promise(
                    end, base, slope, features.K, features.N, most, until
                )
            else:
                yield event_loop.at(end)
            if logs:
                self.log(batch, now, first)
            if tells_host:
                self.account(features, steps, end - now)
            now = end
            finished = update(batch, now, first, last, steps)
            if reports and finished:
                self.report(finished, now)
            if not alone and (pause := self.settle(now, scheduler.num_running)) is not None:
                yield pause

    def keep_promise(
        self,
        end: float,
        base: float,
        slope: float,
        K: int,
        N: int,
        most: int,
        until: float,
        start: float = -inf,
    ) -> Generator[simpy.Event, None, tuple[float, int, float]]:
        """`repeat_on_line`, and wait for it; what is delivered in the meantime cuts it to the step under way.

        Args:
            start: when the first step, which ends at `end`, begins, if that is still to come: a delivery
                until then takes all of them back, and what is returned is `start` and no steps.
        """
        step_ends = self.scheduler.step_ends
        self._num_ends = 0 if step_ends is None else len(step_ends)
        first = base + slope * K
        self._kept = repeat_on_line(end, base, slope, K, N, first, most, until, step_ends)
        self._promise = start, end, base, slope, K, N, most, until
        yield self.promised_until(self._kept[0])
        self._promised = None
        self._promise = None
        return self._kept

    def _cut(self, now: float) -> float:
        assert self._promise is not None
        start, end, base, slope, K, N, most, until = self._promise
        step_ends = self.scheduler.step_ends
        if step_ends is not None:
            del step_ends[self._num_ends :]
        if now <= start:
            self._kept = start, 0, 0.0
        elif end >= now:
            self._kept = end, 1, base + slope * K
        else:
            self._kept = repeat_decodes(end, base, slope, K, N, most, min(until, now), step_ends)
        return self._kept[0]

    def _promised_steps(self, now: float) -> int:
        if self._promise is None or self._promise[1] > now:
            return 0
        _, end, base, slope, K, N, most, _ = self._promise
        end, steps, _ = repeat_decodes(end, base, slope, K, N, most, now, None)
        return steps - (end > now)

    def _decode_line(self, features: StepFeatures) -> tuple[float, float]:
        if not (features.num_ordered or features.padding):
            return self.cost.decode_line(features.N, features.num_waiting)
        return self.cost.decode_line(
            features.N, features.num_waiting, features.num_ordered, features.num_compared, features.padding
        )
