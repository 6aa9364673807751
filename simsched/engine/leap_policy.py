"""Our policies in the leaping engine (engine-spec part 3).

A priority is computed when a request arrives and when its policy has announced that it may differ, not in
every step. Who runs only matters where someone waits who might displace them. So the running requests are
kept in order, and told of their changes on time, only while that is so (the order is *contended*); before,
changes that are due are put off, and made up for with the clocks turned back when the order is needed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from heapq import heappop, heappush
from math import inf, nextafter
from typing import TYPE_CHECKING

from simsched.engine.leap_order import NO_LIMIT, CannotLeap
from simsched.engine.leap_view import LeapView
from simsched.policies.base import NEVER, Change, Policy, Priority

if TYPE_CHECKING:
    from simsched.engine.vllm_v1_leap import VllmV1Leap

Entry = tuple[Priority, float, int]
"""A place in an order: (priority, arrival time, index)."""

Announced = tuple[Change, int, float, int]
"""A change, the step counter and the time when it was announced, the first step counter for it to come."""

NO_CHANGE: Announced = (NEVER, 0, 0.0, 0)

CALM = 256  # steps without use for it, after which the order of the running requests is let go


class PolicyOrder:
    """The waiting queue as a heap, the running requests as a sorted list while that is of use."""

    by_admission = False

    def __init__(self, engine: VllmV1Leap, policy: Policy, n: int) -> None:
        self._engine = engine
        self._policy = policy
        self._preemptive = policy.preemptive
        self._arrivals = engine.recorder.arrival_time
        self._views: list[LeapView | None] = [None] * n
        self._entry: list[Entry | None] = [None] * n  # its valid one, in the heap or in the sorted list
        self._heap: list[Entry] = []  # waiting; entries that are not the valid one are stale
        self._ready: list[Entry] = []  # those there is room for, out of the heap, best first
        self._tried = 0  # of those: admitted
        self.held: list[int] = []
        self._sorted: list[Entry] | None = None  # running, the best first
        self._last_used = 0  # step counter when that was of use
        self._announced = [NO_CHANGE] * n
        self._asked = [0] * n  # number of the latest announcement; others are stale
        self._num_asked = 0
        self._at_step: dict[int, list[tuple[int, int]]] = {}  # step counter -> (index, announcement)
        self._due_steps: list[int] = []  # its keys, as a heap
        self._at_time: list[tuple[float, int, int]] = []  # (seconds, index, announcement)

    # -- the waiting queue -------------------------------------------------------------------------------
    def arrived(self, index: int, now: float) -> None:
        view = self._views[index] = LeapView(self._engine, index, self._arrivals[index])
        self._policy.on_arrival(view, now)
        self._ask(index, view, now, self._engine.steps)
        self._enqueue(index, view, now)

    def _enqueue(self, index: int, view: LeapView, now: float) -> None:
        entry = self._entry[index] = (self._policy.priority(view, now), self._arrivals[index], index)
        heappush(self._heap, entry)

    def requeue(self, index: int, now: float) -> None:
        view = self._views[index]
        assert view is not None
        self._enqueue(index, view, now)

    def _next(self) -> Entry | None:
        """The best of the heap, left in it."""
        heap, valid = self._heap, self._entry
        while heap:
            entry = heap[0]
            if valid[entry[2]] is entry:
                return entry
            heappop(heap)
        return None

    def head(self) -> int:
        if self._tried < len(self._ready):
            return self._ready[self._tried][2]
        entry = self._next()
        assert entry is not None
        return entry[2]

    def pop(self) -> int:
        if self._tried < len(self._ready):
            entry = self._ready[self._tried]
            self._tried += 1
        else:
            entry = heappop(self._heap)  # the head, as it has been asked for
        if self._sorted is not None:
            insort(self._sorted, entry)
        return entry[2]

    def release(self, now: float) -> None:
        ready = self._ready
        if ready:
            for entry in ready[self._tried :]:
                heappush(self._heap, entry)
            ready.clear()
            self._tried = 0
        if self.held:
            for index in self.held:
                self.requeue(index, now)
            self._engine.num_waiting += len(self.held)
            self.held = []

    # -- before schedule() ---------------------------------------------------------------------------------
    def prepare(self, now: float) -> bool:
        engine = self._engine
        steps = engine.steps
        due_steps, at_time = self._due_steps, self._at_time
        if (due_steps and due_steps[0] <= steps) or (at_time and at_time[0][0] <= now):
            self._fire(now)
        if self._sorted is None:
            for index in engine.partials:
                self._catch_up(index)
        elif steps - self._last_used > CALM and not engine.partials:
            self._sorted = None
            for index in engine.running:
                self._asked[index] = 0  # from now on their changes are put off
        if not engine.num_waiting or not self._preemptive:
            return True
        return self._make_room(now)

    def _make_room(self, now: float) -> bool:
        """Preempt running requests for better waiting ones, as part 3 says."""
        engine, views, ready = self._engine, self._views, self._ready
        slots = engine.max_num_seqs - len(engine.running)
        entry = self._next()
        assert entry is not None
        if slots < 1 and self._sorted and not entry[0] < self._sorted[-1][0]:  # type: ignore[operator]
            self._last_used = engine.steps
            return True  # it would have to displace someone, and even the worst is better
        block_size = engine.block_size
        free = engine.free - engine.phases[engine.steps % block_size]
        budget = engine.max_tokens - engine.num_decoders
        for index in engine.partials:
            computed = engine.computed[index]
            free -= not computed % block_size
            budget -= min(engine.known[index] - computed, engine.max_tokens)
        while entry is not None:
            known = engine.known[entry[2]]
            need = -(-known // block_size)
            plan: list[int] = []
            room = free
            while slots + len(plan) < 1 or need > room:
                worst = self._worst(len(plan), now)
                if worst is None or not entry[0] < worst[0]:  # type: ignore[operator]
                    break
                plan.append(worst[2])
                view = views[worst[2]]
                assert view is not None
                room += -(-view.num_computed_tokens // block_size)
            if slots + len(plan) < 1 or need > room or budget + len(plan) <= 0:
                # with more tokens in the victims' blocks, the plan might come off in a later step
                return not plan and not ready
            heappop(self._heap)
            ready.append(entry)
            for victim in plan:
                engine.preempt(victim, now)
            self.held += plan
            slots += len(plan) - 1
            free = room - need
            budget += len(plan) - known
            entry = self._next()
        return False

    def _worst(self, place: int, now: float) -> Entry | None:
        """The running request with so many worse ones."""
        if self._sorted is None:
            self._contend(now)
        self._last_used = self._engine.steps
        order = self._sorted
        assert order is not None
        while (at := len(order) - 1 - place) >= 0:
            entry = order[at]
            index = entry[2]
            if self._announced[index][0].while_running == "none":
                return entry
            view = self._views[index]
            assert view is not None
            key = self._policy.priority(view, now)
            if key == entry[0]:
                return entry
            del order[at]  # it has improved since; those before it may be worse now
            moved = self._entry[index] = (key, entry[1], index)
            insort(order, moved)
        return None

    # -- the running requests ------------------------------------------------------------------------------
    def _contend(self, now: float) -> None:
        self._sorted = self._order_running(now)
        for index in self._engine.running:
            if self._views[index].ran:  # type: ignore[union-attr]
                self._watch(index)

    def _order_running(self, now: float) -> list[Entry]:
        order: list[Entry] = []
        for index in self._engine.running:
            self._catch_up(index)
            view = self._views[index]
            assert view is not None
            entry = self._entry[index] = (self._policy.priority(view, now), self._arrivals[index], index)
            order.append(entry)
        order.sort()
        return order

    def running(self, now: float) -> list[int]:
        order = self._order_running(now)
        if self._sorted is not None:
            self._sorted = order
        return [entry[2] for entry in order]

    def victim(self, running: list[int]) -> int:
        return running[-1]

    def in_order(self, some: list[int], now: float) -> list[int]:
        order: list[Entry] = []
        for index in some:
            self._catch_up(index)
            view = self._views[index]
            assert view is not None
            order.append((self._policy.priority(view, now), self._arrivals[index], index))
        return [entry[2] for entry in sorted(order)]

    def _leave(self, index: int) -> None:
        """It stops running."""
        order = self._sorted
        if order is not None:
            entry = self._entry[index]
            assert entry is not None
            if order[-1] is entry:  # a victim as a rule
                order.pop()
            else:
                del order[bisect_left(order, entry)]

    def preempted(self, index: int, now: float) -> None:
        self._leave(index)
        view = self._views[index]
        assert view is not None
        view.num_preemptions += 1
        if self._sorted is None:
            self._catch_up(index)
        self._policy.on_preempt(view, now)
        if view.ran:  # it will be asked when this step is over
            self._asked[index] = 0
        else:
            self._ask(index, view, now, self._engine.steps + 1)

    def finished(self, index: int, now: float) -> None:
        self._leave(index)
        view = self._views[index]
        assert view is not None
        self._views[index] = self._entry[index] = None
        self._asked[index] = 0
        self._policy.on_finish(view, now)

    def calm(self) -> bool:
        """Is the order of the running requests of no concern?"""
        return self._sorted is None

    def arrived_in_calm(self, index: int, now: float) -> None:
        """It arrived, and will run at once: nobody need know its priority."""
        view = self._views[index] = LeapView(self._engine, index, self._arrivals[index])
        self._policy.on_arrival(view, now)

    def began(self, index: int, before: int, start: float, now: float) -> None:
        """It ran in its first step, which began at step counter `before` and time `start`."""
        view = self._views[index]
        assert view is not None
        view.start(before, start)
        self._ask(index, view, now, self._engine.steps)

    def step_done(self, before: int, start: float, now: float) -> None:
        engine, views = self._engine, self._views
        chunks = engine.chunks
        for index in engine.stopped:
            self._stop(index, before, start, now)
        for index, _ in chunks:
            view = views[index]
            if view is not None and not view.ran:
                view.start(before, start)
                self._ask(index, view, now, engine.steps)
        if engine.partials:
            ran = {index for index, _ in chunks}
            for index in engine.partials:
                if index not in ran:
                    self._stop(index, before, start, now)

    def _stop(self, index: int, before: int, start: float, now: float) -> None:
        view = self._views[index]
        assert view is not None
        if view.ran:
            view.stop(before, start)
            self._ask(index, view, now, self._engine.steps)

    # -- announced changes ---------------------------------------------------------------------------------
    def _ask(self, index: int, view: LeapView, now: float, first: int) -> None:
        """When may its priority next differ? `first`: the earliest step counter at which that can be."""
        change = self._policy.next_change(view, now)
        if change is NEVER:
            self._announced[index] = NO_CHANGE
            self._asked[index] = 0
            return
        if change.while_running == "any":
            raise CannotLeap("priorities drift while requests run")
        steps = self._engine.steps
        self._announced[index] = (change, steps, now, first)
        self._asked[index] = 0
        if view.ran:
            if self._sorted is not None:
                self._watch(index)
            return
        _, _, idle, clock, _ = change
        if idle is None and clock is None:
            return
        number = self._new_number(index)
        if idle is not None:
            self._note(steps + idle, index, number)
        if clock is not None:
            heappush(self._at_time, (now + clock, index, number))

    def _new_number(self, index: int) -> int:
        self._num_asked = self._asked[index] = self._num_asked + 1
        return self._num_asked

    def _note(self, step: int, index: int, number: int) -> None:
        noted = self._at_step.get(step)
        if noted is None:
            self._at_step[step] = [(index, number)]
            heappush(self._due_steps, step)
        else:
            noted.append((index, number))

    def _watch(self, index: int) -> None:
        """Note when the announced change of a running request comes."""
        (service, run, _, clock, _), steps, time, _ = self._announced[index]
        number = self._new_number(index)
        if service is not None:
            heappush(self._at_time, (nextafter(time + service, inf), index, number))
        if run is not None:
            self._note(steps + run, index, number)
        if clock is not None:
            heappush(self._at_time, (time + clock, index, number))

    def _fire(self, now: float) -> None:
        """The announced changes that have come."""
        steps, asked = self._engine.steps, self._asked
        due_steps, at_time = self._due_steps, self._at_time
        due: list[int] = []
        while due_steps and due_steps[0] <= steps:
            noted = self._at_step.pop(heappop(due_steps))
            due += [index for index, number in noted if asked[index] == number]
        while at_time and at_time[0][0] <= now:
            _, index, number = heappop(at_time)
            if asked[index] == number:
                due.append(index)
        if len(due) > 1:
            due = sorted(set(due))
        order, running = self._sorted, self._engine.running
        for index in due:
            view, old = self._views[index], self._entry[index]
            assert view is not None
            assert old is not None
            self._policy.on_change(view, now)
            self._ask(index, view, now, steps + 1)
            key = self._policy.priority(view, now)
            if key == old[0]:
                continue
            entry = self._entry[index] = (key, old[1], index)
            if index not in running:
                heappush(self._heap, entry)
            elif order is not None:
                del order[bisect_left(order, old)]
                insort(order, entry)

    def _catch_up(self, index: int) -> None:
        """Make up for the changes of a running request that have been put off."""
        view = self._views[index]
        assert view is not None
        if self._sorted is not None or not view.ran:
            return
        engine = self._engine
        steps, time = engine.steps, engine.time
        while (due := self._came(index)) is not None and due <= steps:
            engine.steps, engine.time = due, engine.end_of_step(due)
            self._policy.on_change(view, engine.time)
            self._ask(index, view, engine.time, due + 1)
        engine.steps, engine.time = steps, time

    def _came(self, index: int) -> int | None:
        """The step counter at which the announced change of a running request came or comes."""
        change, steps, time, first = self._announced[index]
        due: int | None = None
        if change.after_steps_run is not None:
            due = max(first, steps + change.after_steps_run)
        late = inf
        if change.after_service is not None:
            late = nextafter(time + change.after_service, inf)
        if change.after_time is not None:
            late = min(late, time + change.after_time)
        if late < inf:
            step = max(first, self._engine.first_step_from(late))
            due = step if due is None else min(due, step)
        return due

    def limit(self) -> tuple[int, float]:
        asked = self._asked
        due_steps, at_time = self._due_steps, self._at_time
        while due_steps:
            noted = self._at_step[due_steps[0]]
            while noted and asked[noted[-1][0]] != noted[-1][1]:
                noted.pop()
            if noted:
                break
            del self._at_step[heappop(due_steps)]
        while at_time and asked[at_time[0][1]] != at_time[0][2]:
            heappop(at_time)
        return due_steps[0] if due_steps else NO_LIMIT, at_time[0][0] if at_time else inf

    def oldest_change(self) -> int:
        """The step counter since which announced changes of running requests may have been put off."""
        if self._sorted is not None:
            return self._engine.steps
        waits = [self._announced[index] for index in self._engine.running]
        return min((entry[1] for entry in waits if entry[0] is not NEVER), default=self._engine.steps)
