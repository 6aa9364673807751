"""One engine with asynchronous scheduling: while a step is under way, the next one is formed and launched.

The order of events is that of `step_with_batch_queue` in vllm/v1/engine/core.py (vLLM 0.32.0), two batches
deep. When step k - 1 is over and its tokens are out, whoever has arrived is taken in and step k + 1 is
formed, while k is under way. With nothing under way a step is formed and launched first, and the next one
when that is done, with whoever has arrived by then.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from math import inf
from typing import NamedTuple, Protocol, cast

import simpy

from simsched.engine.admission_control import AdmissionControl
from simsched.engine.base import Batch, Scheduler
from simsched.engine.clock import Clock
from simsched.engine.event_loop import EventLoop
from simsched.engine.recorder import Recorder
from simsched.engine.replica import Replica, StepCallback
from simsched.engine.source import Source


class Handover(NamedTuple):
    """Where a replica goes on after an uncontended stretch."""

    now: float
    """When the step under way began, or the time if there is none."""
    batch: Batch | None
    """The step under way."""
    formed: float
    """When the next one is to be formed."""
    launched: bool
    """Has the one under way just been launched, with nothing before it?"""


class LeapsAhead(Protocol):
    """A scheduler of which several steps may be over at once, and which runs by itself while nobody waits and
    there is room for whoever arrives."""

    runs_uncontended_ahead: bool
    """True; a scheduler without it never does."""

    def is_uncontended(self) -> bool:
        """Is it so now, as a step begins?"""

    def run_uncontended_ahead(
        self, replica: PipelinedReplica, now: float
    ) -> Generator[simpy.Event, None, Handover]:
        """Simulate from `now` on while it lasts."""

    def update_stretch(self, now: float, steps: int) -> Sequence[int]:
        """`update` after so many steps of the oldest batch, of which the recorder has been told."""


class Tape(Recorder):
    """Takes down steps, which are recorded when the promise of them is kept."""

    def __init__(self) -> None:
        super().__init__()
        self._taken: list[tuple[float, float, int, int]] = []

    def steps(self, first: float, last: float, steps: int, weight: int) -> None:
        self._taken.append((first, last, steps, weight))

    def step(self, duration: float, weight: int) -> None:
        self._taken.append((duration, duration, 1, weight))

    def clear(self) -> None:
        """Forget them."""
        self._taken.clear()

    def play(self, recorder: Recorder) -> None:
        """Record them, and forget them."""
        for first, last, steps, weight in self._taken:
            if steps == 1:
                recorder.step(first, weight)
            else:
                recorder.steps(first, last, steps, weight)
        self._taken.clear()


class PipelinedReplica(Replica):
    """A replica with asynchronous scheduling: its scheduler's `schedule` forms a step, and `update` ends the
    oldest that was formed."""

    def __init__(
        self,
        event_loop: EventLoop,
        source: Source,
        scheduler: Scheduler,
        recorder: Recorder,
        clock: Clock,
        gate: AdmissionControl | None = None,
        step_log: StepCallback | None = None,
    ) -> None:
        super().__init__(event_loop, source, scheduler, recorder, gate, step_log)
        self.clock = clock
        # what it has promised: the clock before, and arguments of `Clock.stretch`; and what is kept of it
        self._promise: tuple[tuple[float, ...], float, int, int, int, int, float] | None = None
        self._begins = -inf  # when that begins, if it is still to come
        self._kept: tuple[float, int] = (0.0, 0)
        self._num_ends = 0  # of steps before it
        self._tape = Tape()

    @property
    def host_seconds(self) -> tuple[float, float]:
        return self.clock.host_seconds

    def run(self) -> Generator[simpy.Event, None, None]:
        source, scheduler = self.source, self.scheduler
        step_ends, alone, reports = scheduler.step_ends, self.is_alone, self.source.waits_for_answers
        clock, logs, tells_counts = self.clock, self.logs, self.tells_counts
        event_loop, due = self.event_loop, self.event_loop.due
        rejected: list[int] = getattr(scheduler, "rejected", [])
        by_itself = getattr(scheduler, "runs_uncontended_ahead", False) and self.gate is None
        leaping = cast("LeapsAhead", scheduler)
        uncontended = leaping if by_itself else None
        now = formed = 0.0
        ahead: Batch | None = None
        while True:
            launched = False
            if uncontended is not None and uncontended.is_uncontended():
                now, ahead, formed, launched = yield from uncontended.run_uncontended_ahead(self, now)
            while source.next_time <= formed:
                self.take_in(source.pop(), formed)
            if tells_counts and not launched:
                self.tell_counts(formed, scheduler.num_running)
            batch = ahead
            if batch is None:
                # Nothing is under way: form a step and launch it.
                batch = scheduler.schedule(now)
                if rejected:
                    self.turn_away(rejected, now)
                if batch is None:
                    if scheduler.has_unfinished():
                        continue  # it only made room: vLLM schedules again at once
                    now = formed = yield from self.await_arrival(now)
                    if now == inf:
                        return
                    continue
                formed += clock.begin(batch.features)
                if formed > now:
                    yield from self.wait(formed)
                    while source.next_time <= formed:
                        self.take_in(source.pop(), formed)
            # While it is under way, form the next one.
            ahead = scheduler.schedule(formed)
            if rejected:
                self.turn_away(rejected, formed)
            # May both repeat, as nothing can change?
            features, most, until = batch.features, 1, inf
            if ahead is not None and not features.S:
                most, until = scheduler.max_steps(batch)
            if most > 1:
                N, K, waiting = features.N, features.K, features.num_waiting
                until = min(until, source.next_time)
                if alone:
                    end, steps = clock.stretch(now, N, K, waiting, most, until, step_ends, self.recorder)
                    if due and due[0][0] <= end:
                        yield event_loop.at(end)
                else:
                    end, steps = yield from self.keep_stretch(now, N, K, waiting, most, until)
                finished = leaping.update_stretch(end, steps)
            else:
                duration = clock.step(features, None if ahead is None else ahead.features)
                if logs:
                    self.log(batch, now, duration)
                end = now + duration
                if step_ends is not None:
                    step_ends.append(end)
                if not alone or (due and due[0][0] <= end):
                    yield event_loop.at(end)
                finished = scheduler.update(batch, end, duration, duration)
            now = formed = end
            if reports and finished:
                self.report(finished, now)
            if not alone and (pause := self.settle(now, scheduler.num_running)) is not None:
                yield pause

    def wait(self, time: float) -> Generator[simpy.Event, None, None]:
        """Until this time; alone, only if anything else is to happen before."""
        event_loop = self.event_loop
        if not self.is_alone or event_loop.is_due(time):
            yield event_loop.at(time)

    def keep_stretch(
        self, now: float, N: int, K: int, waiting: int, most: int, until: float, begins: float = -inf
    ) -> Generator[simpy.Event, None, tuple[float, int]]:
        """`Clock.stretch`, and wait for it; a delivery cuts it to the step under way.

        Args:
            begins: `now`, if that is still to come: a delivery until then takes all of it back, and what is
                returned is `now` and no steps.
        """
        clock, step_ends, tape = self.clock, self.scheduler.step_ends, self._tape
        if most > 1 and clock.draws(N):
            most = 1  # what chance has given can't be taken back
        before, so_far = clock.save(), 0 if step_ends is None else len(step_ends)
        end, steps = clock.stretch(now, N, K, waiting, most, until, step_ends, tape)
        if steps == 1 and begins == -inf:
            yield self.event_loop.at(end)
        else:
            self._num_ends = so_far
            self._begins = begins
            self._kept = end, steps
            self._promise = before, now, N, K, waiting, most, until
            yield self.promised_until(end)
            self._promised = None
            self._promise = None
            end, steps = self._kept
        tape.play(self.recorder)
        return end, steps

    def _cut(self, now: float) -> float:
        assert self._promise is not None
        before, start, N, K, waiting, most, until = self._promise
        step_ends = self.scheduler.step_ends
        if step_ends is not None:
            del step_ends[self._num_ends :]
        self._tape.clear()
        self.clock.restore(before)
        if now <= self._begins:
            self._kept = start, 0
        else:
            until = min(until, now)
            self._kept = self.clock.stretch(start, N, K, waiting, most, until, step_ends, self._tape)
        return self._kept[0]

    def _promised_steps(self, now: float) -> int:
        if self._promise is None:
            return 0
        before, start, N, K, waiting, most, _ = self._promise
        clock, promised = self.clock, self.clock.save()
        clock.restore(before)
        end, steps = clock.stretch(start, N, K, waiting, most, now, None, Tape())
        clock.restore(promised)
        return steps - (end > now)
