"""*Lock-step ranks*: the replicas of a mixture-of-experts model, whose experts are spread over all of them.

A forward pass needs every rank, so each runs one in every pass of the group: its batch, or a dummy one where
it has none. A pass takes as long as that of the slowest rank. While any rank has work, all go on; whether one
has they ask each other only every so many passes (*agreement*), and until then go on with dummy batches. With
nothing left anywhere the *wave* is over, and the first request that arrives at any rank begins the next one
on all of them.

What a rank sees when. One that has run a batch looks into its inbox when that pass is over, as any engine
does. One that has run a dummy batch does not wait for it: it looks as soon as that is launched, and if nobody
has come by then it stands in the next pass with another dummy batch. In a pass with an agreement it waits for
the others, and looks when they do. With asynchronous scheduling a rank whose batches have all been taken out
runs its first dummy batch behind the last of them, and so do all others the same pass.

Source: `DPEngineCoreProc` in vllm/v1/engine/core.py of vLLM 0.24.0 to 0.33.0 (`run_busy_loop` and
`_has_global_unfinished_reqs`). Its messages take no time here, and a pass of dummy batches alone is taken to
end before the next one begins.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from math import inf
from typing import Final, NamedTuple, Protocol

import simpy

from simsched.cost_model.base import StepFeatures
from simsched.cost_model.host import LaunchMode
from simsched.engine.arrival import Arrival
from simsched.engine.base import Batch, Scheduler
from simsched.engine.config import ResolvedConfig
from simsched.engine.event_loop import SCHEDULE, EventLoop
from simsched.engine.host_clock import HostClock, Launch
from simsched.engine.rank_cost import DUMMY, PaddedModels, RankCost, Shape, agreed_shape
from simsched.engine.recorder import Recorder
from simsched.engine.replica import Inbox, Replica, StepCallback
from simsched.engine.vllm_v1.prefill_cadence import PrefillCadence
from simsched.record import RankTimes
from simsched.vllm_versions import rules_of

SYNC_INTERVAL: Final = 16
"""Passes from one agreement to the next, unless told otherwise; from vLLM 0.30 on."""
OLD_SYNC_INTERVAL: Final = 32
"""Before."""


class RankScheduler(Scheduler, Protocol):
    """The scheduler of a rank."""

    def pass_over(self, start: float, duration: float) -> None:
        """While it has unfinished requests, a pass of so many seconds goes by in which none of them runs."""


class Rank(Replica):
    """One of them; its group makes its steps."""

    def __init__(
        self,
        event_loop: EventLoop,
        inbox: Inbox,
        scheduler: RankScheduler,
        recorder: Recorder,
        cost: RankCost,
        group: RankGroup,
        step_log: StepCallback | None = None,
    ) -> None:
        log = None if step_log is None else _with_dummies(step_log)
        super().__init__(event_loop, inbox, scheduler, recorder, None, log)
        self.cost = cost
        self._pass_over = scheduler.pass_over
        self.times = RankTimes()
        self.looks_at = 0.0
        """When it forms its next batch, for which it may still have to wait."""
        self._group = group
        self._cadence: PrefillCadence | None = getattr(scheduler, "cadence", None)
        self._rejected: list[int] = getattr(scheduler, "rejected", [])
        group.ranks.append(self)

    def start(self) -> simpy.Process:
        return self._group.start()

    def run(self) -> Generator[simpy.Event, None, None]:
        raise NotImplementedError("its group runs it")

    def deliver(self, arrival: Arrival, now: float) -> None:
        assert self._inbox is not None
        self._inbox.push(arrival, now)
        self.num_delivered += 1
        self._group.wake()

    def _promised_steps(self, now: float) -> int:
        return 0

    def _cut(self, now: float) -> float:
        raise NotImplementedError("it promises nothing")

    # -- a pass ----------------------------------------------------------------------------------------------
    def form(self, now: float, is_throttled: bool) -> Batch:
        """Its next batch; a dummy one where nothing runs."""
        source, scheduler, looks_at = self.source, self.scheduler, self.looks_at
        while source.next_time <= looks_at:
            self.take_in(source.pop(), looks_at)
        if self.tells_counts:
            self.tell_counts(now, scheduler.num_running)
        batch = None
        if scheduler.has_unfinished():
            if self._cadence is not None:
                self._cadence.is_throttled = is_throttled
            batch = scheduler.schedule(looks_at)
            if self._rejected:
                self.turn_away(self._rejected, now)
        if batch is not None:
            return batch
        if not self.logs:
            return _UNSEEN_DUMMY
        running = scheduler.num_running
        return Batch(
            DUMMY,
            num_running=running,
            num_waiting=len(self.rows) - self._num_finished - running,
            kv_blocks_used=scheduler.num_blocks - scheduler.num_free_blocks,
        )

    def end(self, batch: Batch, start: float, duration: float, own: float) -> None:
        """A pass with this batch is over, which by itself would have taken `own` seconds."""
        scheduler, times, now = self.scheduler, self.times, start + duration
        if self.logs:
            self.log(batch, start, duration)
        if is_dummy(batch):
            times.num_dummies += 1
            times.dummy_seconds += duration
            if scheduler.has_unfinished():
                self._pass_over(start, duration)
        else:
            times.num_batches += 1
            times.batch_seconds += duration
            times.waiting_seconds += duration - own
            if scheduler.step_ends is not None:
                scheduler.step_ends.append(now)
            self.now = now
            self.report(scheduler.update(batch, now, duration, duration), now)
            if self._publisher is not None:
                self._publish_blocks(self._publisher, now)
        if self.tells_counts:
            self.tell_counts(now, scheduler.num_running)


def is_dummy(batch: Batch) -> bool:
    """Does nothing run in it?"""
    return batch.features is DUMMY


_UNSEEN_DUMMY: Final = Batch(DUMMY)
"""A dummy batch where nobody asks what waited and ran beside it."""


def _with_dummies(step_log: StepCallback) -> StepCallback:
    """Lines say whether a batch was a dummy."""
    return lambda line: step_log({**line, "dummy": not line["scheduled"]})


class Pass(NamedTuple):
    """A forward pass of all ranks."""

    batches: Sequence[Batch]
    features: Sequence[StepFeatures]
    shape: Shape


class RankGroup(ABC):
    """The ranks, and the process in which they step."""

    def __init__(self, event_loop: EventLoop, config: ResolvedConfig) -> None:
        """`config`: what they have in common."""
        self.ranks: list[Rank] = []
        self.padded: PaddedModels = {}
        """What their costs share."""
        self._event_loop = event_loop
        self._process: simpy.Process | None = None
        self._idle: simpy.Event | None = None
        self._agrees_first = rules_of(config.vllm_version).ranks_agree_in_first_step
        usual = SYNC_INTERVAL if self._agrees_first else OLD_SYNC_INTERVAL
        self._interval = config.dp_sync_interval or usual
        self._prefill_interval = config.prefill_schedule_interval
        self._num_waves = 0

    @property
    @abstractmethod
    def host_seconds(self) -> tuple[float, float]:
        """As `Replica.host_seconds`; of each pass, the slowest rank's."""

    def start(self) -> simpy.Process:
        """Let them run from now on."""
        if self._process is None:
            self._process = simpy.Process(self._event_loop, self._run())
        return self._process

    def wake(self) -> None:
        """Somebody has arrived at one of them."""
        if self._idle is not None:
            self._idle.succeed()
            self._idle = None

    def _run(self) -> Generator[simpy.Event, None, None]:
        event_loop = self._event_loop
        while True:
            if all(rank.source.next_time == inf for rank in self.ranks):
                self._idle = simpy.Event(event_loop)
                yield self._idle
                # whoever else arrives in this very moment is in the first pass, too
                yield event_loop.at(event_loop.now, SCHEDULE)
            for rank in self.ranks:
                rank.looks_at = event_loop.now
            yield from self._wave(event_loop.now)
            self._num_waves += 1

    @abstractmethod
    def _wave(self, now: float) -> Generator[simpy.Event, None, None]:
        """From the first pass until they agree that nobody has work."""

    def _agrees(self, num_passes: int) -> bool:
        """Do they ask each other for work in this pass of the wave (1, 2, ...)?"""
        return num_passes % self._interval == 0 or (num_passes == 1 and self._agrees_first)

    def _has_work(self) -> bool:
        return any(rank.scheduler.has_unfinished() for rank in self.ranks)

    def _form(self, now: float, num_passes: int) -> Pass:
        """The next pass, after so many of the wave."""
        stamp = self._num_waves, num_passes
        for rank in self.ranks:
            rank.stamp = stamp
        is_throttled = num_passes % self._prefill_interval != 0
        batches = [rank.form(now, is_throttled) for rank in self.ranks]
        features = [batch.features for batch in batches]
        return Pass(batches, features, agreed_shape([rank.cost for rank in self.ranks], features))

    def _launch(self, formed: Pass) -> Launch:
        """Seconds of the host: those of the rank that takes longest with each of its parts."""
        shape = formed.shape
        longest = first = latest = -inf
        for rank, features in zip(self.ranks, formed.features, strict=True):
            launch, before, output, _ = rank.cost.launch(features, shape)
            longest, first, latest = max(longest, launch), max(first, before), max(latest, output)
        return longest, first, latest, shape.mode is LaunchMode.FULL

    def _end(
        self, done: Pass, start: float, duration: float, own: Sequence[float]
    ) -> Generator[simpy.Event, None, None]:
        """A pass is over on all of them. Whoever arrives in this very moment is delivered before the next."""
        for rank, batch, seconds in zip(self.ranks, done.batches, own, strict=True):
            rank.end(batch, start, duration, seconds)
        if self._event_loop.peek() <= start + duration:
            yield self._event_loop.at(start + duration, SCHEDULE)


class SerialGroup(RankGroup):
    """Ranks with synchronous scheduling."""

    def __init__(self, event_loop: EventLoop, config: ResolvedConfig) -> None:
        super().__init__(event_loop, config)
        self._host_seconds = self._seconds = 0.0

    @property
    def host_seconds(self) -> tuple[float, float]:
        return self._host_seconds, self._seconds

    def _wave(self, now: float) -> Generator[simpy.Event, None, None]:
        event_loop, ranks = self._event_loop, self.ranks
        num_passes = 0
        while True:
            formed = self._form(now, num_passes)
            priced = [
                rank.cost.serial(each, formed.shape)
                for rank, each in zip(ranks, formed.features, strict=True)
            ]
            duration, by_host = max(priced)
            launched, end = now + self._launch(formed)[0], now + duration
            yield event_loop.at(end)
            self._seconds += duration
            self._host_seconds += by_host
            yield from self._end(formed, now, duration, [seconds for seconds, _ in priced])
            num_passes += 1
            agrees = self._agrees(num_passes)
            for rank, batch in zip(ranks, formed.batches, strict=True):
                rank.looks_at = min(launched, end) if is_dummy(batch) and not agrees else end
            now = end
            if agrees and not self._has_work():
                return


class PipelinedGroup(RankGroup):
    """Ranks with asynchronous scheduling: each forms its next batch while a pass is under way."""

    def __init__(self, event_loop: EventLoop, config: ResolvedConfig, clock: HostClock | None) -> None:
        """`clock`: the recursion of host and device; None where the cost says nothing of the host."""
        super().__init__(event_loop, config)
        self._clock = clock

    @property
    def host_seconds(self) -> tuple[float, float]:
        return (0.0, 0.0) if self._clock is None else self._clock.host_seconds

    def _wave(self, now: float) -> Generator[simpy.Event, None, None]:
        event_loop, ranks = self._event_loop, self.ranks
        # First, a pass is launched, and when that is done the next one formed.
        current, num_passes = self._form(now, 0), 1
        launch = self._launch(current)
        launched = formed = now + self._begin(launch)
        if launched > now:
            yield event_loop.at(launched)
        idle = [True] * len(ranks)  # in the pass before
        while True:
            # A pass is under way, launched at `launched`. Whoever had a batch in the pass before has waited
            # for the end of that, `formed`; the others look for the next one as soon as they have launched.
            agrees = self._agrees(num_passes)
            ahead, next_launch, waits = None, None, False
            if not agrees or self._has_work():
                for rank, early in zip(ranks, idle, strict=True):
                    rank.looks_at = min(launched, formed) if early and not agrees else formed
                ahead = self._form(formed, num_passes)
                next_launch = self._launch(ahead)
                # One that has a batch under way and forms none waits for its end before its dummy batch.
                pairs = zip(current.batches, ahead.batches, strict=True)
                waits = any(is_dummy(following) and not is_dummy(batch) for batch, following in pairs)
            duration, own = self._step(current, launch, None if waits else next_launch)
            end = now + duration
            yield event_loop.at(end)
            yield from self._end(current, now, duration, own)
            if ahead is None or next_launch is None:
                return
            if waits:
                # With it all wait, and go on as after an idle time.
                launched = end + self._begin(next_launch)
                if launched > end:
                    yield event_loop.at(launched)
                formed = launched
            else:
                launched, formed = formed + next_launch[0], end
            idle = [is_dummy(batch) for batch in current.batches]
            now, current, launch = end, ahead, next_launch
            num_passes += 1

    def _begin(self, launch: Launch) -> float:
        """Nothing is under way: seconds until a pass is launched."""
        return 0.0 if self._clock is None else self._clock.begin_launch(launch)

    def _step(self, current: Pass, launch: Launch, following: Launch | None) -> tuple[float, list[float]]:
        """Seconds that a pass takes, and those that it would take at each rank's speed."""
        costs = zip(self.ranks, current.features, strict=True)
        devices = [rank.cost.device(each, current.shape) for rank, each in costs]
        slowest = max(devices)
        if self._clock is None:
            return slowest, devices
        duration = self._clock.advance(slowest, launch[2], following)
        return duration, [duration - (slowest - device) for device in devices]
