"""Our policies in the leaping engine (engine-spec part 3).

A priority is computed when a request arrives and when its policy has announced that it may differ, not in
every step. Who runs only matters where someone waits who might displace them. So the running requests are
told of their changes on time, and the worst of them kept in order, only while that is so (the order is
*contended*); before, changes that are due are put off, and made up for with the clocks turned back when the
order is needed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from simsched.engine.leap_changes import Changes
from simsched.engine.leap_order import Order
from simsched.engine.leap_queue import WaitingQueue
from simsched.engine.leap_view import DECODING, LeapView
from simsched.policies.base import Policy, Priority

if TYPE_CHECKING:
    from simsched.engine.vllm_v1_leap import VllmV1Leap

Entry = tuple[Priority, int]
"""A place in an order: (priority, index); the index is the arrival number."""

CALM: Final = 256  # steps without use for it, after which the order of the running requests is let go
WORST: Final = 32  # running requests that are kept in order at least, when they are put in order


class PolicyOrder(Order):
    """The waiting requests in a queue, the worst of the running ones in a list while that is of use."""

    def __init__(self, engine: VllmV1Leap, policy: Policy, n: int) -> None:
        self.by_admission = False
        self._engine = engine
        self._policy = policy
        self._preemptive = policy.preemptive
        self._asks_waiting = policy.changes_while_waiting()
        self._arrivals = engine.recorder.arrival_time
        self._views: dict[int, LeapView] = {}  # unfinished
        self._queue = WaitingQueue(n)
        self._ready: list[int] = []  # those there is room for, out of the queue, the best last
        self._held: list[int] = []  # victims, out of the queue until the step is scheduled
        self._worst: list[Entry] | None = None  # of the running, the best of them first
        self._bound: Entry | None = None  # all running ones from here on are among the worst; None: all are
        self._last_used = 0  # step counter when they were of use
        self._changes = Changes(engine)

    # -- the waiting queue -------------------------------------------------------------------------------
    def arrived(self, index: int, now: float) -> None:
        self.arrived_in_calm(index, now)
        view = self._views[index]
        if self._asks_waiting:
            self._ask_waiting(view, now)
        self._enqueue(view, now)

    def _ask_waiting(self, view: LeapView, now: float) -> None:
        """When may its priority next differ?"""
        change = self._policy.next_change(view, now)
        self._changes.announce_waiting(view, change, self._engine.steps, now)

    def _enqueue(self, view: LeapView, now: float) -> None:
        view.key = key = self._policy.priority(view, now)
        self._queue.push(key, view.index)

    def requeue(self, index: int, now: float) -> None:
        self._enqueue(self._views[index], now)

    def head(self) -> int:
        if self._ready:
            return self._ready[-1]
        head = self._queue.head()
        assert head is not None
        return head[1]

    def pop(self) -> int:
        index = self._ready.pop() if self._ready else self._queue.pop()
        if self._worst is not None:
            entry = (self._views[index].key, index)
            if self._bound is None or entry >= self._bound:
                insort(self._worst, entry)
        return index

    def release(self, now: float) -> None:
        """The step is scheduled: who was kept out of the queue until then goes back."""
        for index in self._ready:
            self._queue.push(self._views[index].key, index)
        self._ready = []
        for index in self._held:
            self._enqueue(self._views[index], now)
        self._engine.num_waiting += len(self._held)
        self._held = []

    # -- before schedule() ---------------------------------------------------------------------------------
    def prepare(self, now: float) -> bool:
        """Let announced changes come and make room; returns whether this step may repeat."""
        engine = self._engine
        due = self._changes.due(now)
        if due:
            self._change(due, now)
        if self._worst is None:
            for index in engine.partials:
                self._catch_up(self._views[index])
        elif engine.steps - self._last_used > CALM and not engine.partials:
            self._worst = None
            self._changes.put_off(self._running())
        if not engine.num_waiting or not self._preemptive:
            return True
        return self._make_room(now)

    def limit(self) -> tuple[int, float]:
        """The step counter and the time at which the next announced changes come."""
        return self._changes.limit()

    def _change(self, due: Sequence[LeapView], now: float) -> None:
        """The announced changes of these requests have come."""
        steps, advance, changes = self._engine.steps, self._policy.advance, self._changes
        for view in due:
            key, change = advance(view, now)
            if view.ran:
                changes.announce_running(view, change, steps, now, steps + 1)
            else:
                changes.announce_waiting(view, change, steps, now)
            if key != view.key:
                self._move(view, key)

    def _move(self, view: LeapView, key: Priority) -> None:
        """This is its priority now."""
        index, worst, bound = view.index, self._worst, self._bound
        if index not in self._engine.running:
            self._queue.push(key, index)
        elif worst is not None:
            entry = (view.key, index)
            if bound is None or entry >= bound:
                del worst[bisect_left(worst, entry)]
            entry = (key, index)
            if bound is None or entry >= bound:
                insort(worst, entry)
        view.key = key

    def _make_room(self, now: float) -> bool:
        """Preempt running requests for better waiting ones, as part 3 says."""
        engine, queue = self._engine, self._queue
        slots = engine.max_num_seqs - len(engine.running)
        head = queue.head()
        assert head is not None
        if slots < 1 and self._worst and not head[0] < self._worst[-1][0]:  # type: ignore[operator]
            self._last_used = engine.steps
            return True  # it would have to displace someone, and even the worst is better
        size, steps = engine.block_size, engine.steps
        where, offset, known, computed = engine.where, engine.offset, engine.known, engine.computed
        free = engine.free - engine.phases[steps % size]
        budget = engine.max_tokens - engine.num_decoders
        for index in engine.partials:
            free -= not computed[index] % size
            budget -= min(known[index] - computed[index], engine.max_tokens)
        ready: list[int] = []
        victims: list[int] = []
        planned = 0  # of the victims: for the head alone
        while head is not None:
            priority, index = head
            need = -(-known[index] // size)
            room = free
            while slots + planned < 1 or need > room:
                worst = self._worst_but(len(victims), now)
                if worst is None or not priority < worst[0]:  # type: ignore[operator]
                    break
                victim = worst[1]
                victims.append(victim)
                planned += 1
                has = offset[victim] + steps - 1 if where[victim] == DECODING else computed[victim]
                room += -(-has // size)
            if slots + planned < 1 or need > room or budget + planned <= 0:
                break
            ready.append(queue.pop())
            slots += planned - 1
            free = room - need
            budget += planned - known[index]
            planned = 0
            head = queue.head()
        # with more tokens in the victims' blocks, a plan that failed might come off in a later step
        calm = head is not None and not planned and not ready
        if planned:
            del victims[-planned:]
        ready.reverse()
        self._ready = ready
        if victims:
            engine.preempt(victims, now)
            self._held = victims
        return calm

    # -- the order of the running requests -----------------------------------------------------------------
    def _running(self) -> list[LeapView]:
        views = self._views
        return [views[index] for index in self._engine.running]

    def _worst_but(self, count: int, now: float) -> Entry | None:
        """The running request with so many worse ones."""
        self._last_used = self._engine.steps
        worst = self._worst
        if worst is None:
            worst = self._contend(now)
        while True:
            if count >= len(worst):
                if self._bound is None:
                    return None
                self._pick_worst(worst, count)
                continue
            entry = worst[-1 - count]
            if not self._changes.drifting:
                return entry
            key, index = entry
            view = self._views[index]
            view.key = self._policy.priority(view, now)
            if view.key == key:
                return entry
            del worst[-1 - count]  # it has improved; those before it may be worse now
            entry = (view.key, index)
            if self._bound is None or entry >= self._bound:
                insort(worst, entry)

    def _contend(self, now: float) -> list[Entry]:
        """Take up the order of the running requests."""
        self.running(now)
        worst = self._worst = []
        self._pick_worst(worst, 0)
        self._changes.tell_on_time(self._running())
        return worst

    def _pick_worst(self, worst: list[Entry], count: int) -> None:
        """Put the worst of the running requests in order, more than `count`."""
        order = sorted([(view.key, view.index) for view in self._running()])
        skip = max(0, len(order) - max(len(order) // 4, 2 * count, WORST))
        worst[:] = order[skip:]
        self._bound = order[skip] if skip else None

    def running(self, now: float) -> list[int]:
        order: list[Entry] = []
        for view in self._running():
            self._catch_up(view)
            view.key = self._policy.priority(view, now)
            order.append((view.key, view.index))
        order.sort()
        if self._worst is not None:
            self._worst, self._bound = order, None
        return [index for _, index in order]

    def victim(self, running: list[int]) -> int:
        return running[-1]

    def in_order(self, some: list[int], now: float) -> list[int]:
        order: list[Entry] = []
        for index in some:
            view = self._views[index]
            self._catch_up(view)
            order.append((self._policy.priority(view, now), index))
        return [index for _, index in sorted(order)]

    def _leave(self, view: LeapView) -> None:
        """It stops running."""
        worst = self._worst
        if worst:
            entry = (view.key, view.index)
            if worst[-1] == entry:  # a victim as a rule
                worst.pop()
            elif self._bound is None or entry >= self._bound:
                del worst[bisect_left(worst, entry)]

    # -- what happens to requests --------------------------------------------------------------------------
    def preempted(self, victims: Sequence[int], now: float) -> None:
        views, on_preempt = self._views, self._policy.on_preempt
        for index in victims:
            view = views[index]
            self._leave(view)
            view.num_preemptions += 1
            on_preempt(view, now)
            view.due_step = view.due_time = None
            if self._asks_waiting and not view.ran:  # else it is asked when this step is over
                self._ask_waiting(view, now)

    def finished(self, index: int, now: float) -> None:
        view = self._views.pop(index)
        if self._worst is not None:
            self._leave(view)
        view.due_step = view.due_time = None
        self._policy.on_finish(view, now)

    def calm(self) -> bool:
        """Is the order of the running requests of no concern?"""
        return self._worst is None

    def arrived_in_calm(self, index: int, now: float) -> None:
        """It arrived; if it will run at once, nobody need know its priority."""
        view = self._views[index] = LeapView(self._engine, index, self._arrivals[index])
        self._policy.on_arrival(view, now)

    def began(self, index: int, before: int, start: float, now: float) -> None:
        """It ran in its first step, which began at step counter `before` and time `start`."""
        view = self._views[index]
        view.start(before, start)
        steps = self._engine.steps
        self._changes.announce_running(view, self._policy.next_change(view, now), steps, now, steps)

    def step_done(self, before: int, start: float, now: float) -> None:
        """Note who has started and who has stopped running in a step that is over. What was announced before
        may have come in that very step, so that their priorities are other ones already."""
        engine, views, steps = self._engine, self._views, self._engine.steps
        policy, announce = self._policy, self._changes.announce_running
        stopped: Sequence[int] = engine.stopped
        if engine.partials:
            ran = {index for index, _ in engine.chunks}
            stopped = [*stopped, *(index for index in engine.partials if index not in ran)]
        for index in stopped:
            view = views[index]
            if view.ran:
                view.stop(before, start)
                view.due_step = view.due_time = None
                if self._asks_waiting:
                    self._ask_waiting(view, now)
                    key = policy.priority(view, now)
                    if key != view.key:
                        self._move(view, key)
        for index, _ in engine.chunks:
            started = views.get(index)  # unless it is done already
            if started is not None and not started.ran:
                started.start(before, start)
                announce(started, policy.next_change(started, now), steps, now, steps)
                if self._worst is not None:
                    key = policy.priority(started, now)
                    if key != started.key:
                        self._move(started, key)

    # -- changes that were put off -------------------------------------------------------------------------
    def _catch_up(self, view: LeapView) -> None:
        """Make up for the changes of a running request that have been put off."""
        if self._worst is not None or not view.ran:
            return
        engine, changes = self._engine, self._changes
        steps, time = engine.steps, engine.time
        while (due := changes.came(view)) is not None and due <= steps:
            engine.steps, engine.time = due, engine.end_of_step(due)
            _, change = self._policy.advance(view, engine.time)
            changes.announce_running(view, change, due, engine.time, due + 1)
        engine.steps, engine.time = steps, time

    def oldest_change(self) -> int:
        """The step counter since which announced changes of running requests may have been put off."""
        if self._worst is not None:
            return self._engine.steps
        return self._changes.oldest(self._running())
