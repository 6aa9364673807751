"""Our policies in the leaping engine (*policy order* and *displacement* in docs/engine.md).

When the policy is asked is in `asked_policy.py`. Who runs only matters where someone waits who might displace
them. So the running requests are told of their changes on time, and kept in order, only while that is so (the
order is *contended*); before, changes that are due are put off, and made up for with the clocks turned back
when the order is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final

from simsched.engine.agenda import NO_LIMIT
from simsched.engine.request_status import FINISHED, WAITING
from simsched.engine.vllm_v1.asked_policy import AskedPolicy
from simsched.engine.vllm_v1.leaping_request import LeapRequest
from simsched.engine.vllm_v1.queues import RunningByPriority
from simsched.policies.base import Priority

Entry = tuple[Priority, int]
"""A place in an order: (priority, arrival number)."""

CALM: Final = 256  # steps without use for it, after which the order of the running requests is let go
STALE: Final = 2048  # old places in the order of the running requests, beyond which it is made anew


class PolicyOrder(AskedPolicy):
    """Who is next among the waiting requests, and who of the running ones gives up its place for them."""

    # -- the waiting queue -------------------------------------------------------------------------------
    def head(self) -> LeapRequest:
        if self._to_admit:
            return self._to_admit[-1]
        head = self._queue.head()
        assert head is not None
        return head

    def pop(self) -> LeapRequest:
        request = self._to_admit.pop() if self._to_admit else self._queue.pop()
        if self._checks and self._policy.priority(request, self._now) != request.key:
            self._check(request)
        if self._order is not None and self._preemptive:
            self._order.push(request)
        return request

    def release(self, now: float) -> None:
        """The step is scheduled: who was kept out of the queue until then goes back."""
        for request in self._to_admit:
            self._queue.push(request, request.key)
        self._to_admit = []
        for request in self._victims_until_scheduled:
            self.requeue(request, now)
        self._engine.num_waiting += len(self._victims_until_scheduled)
        self._victims_until_scheduled = []

    # -- before schedule() ---------------------------------------------------------------------------------
    def prepare(self, now: float) -> bool:
        """Let announced changes come and make room; returns whether this step may repeat."""
        engine = self._engine
        self._now = now
        if self._sessions is not None:
            self._begin_sessions(self._sessions)
        looks_up = self._reads_cache or self._sees_queue
        looks_up = looks_up and engine.num_waiting > 0 and not self._is_of_no_concern()
        if looks_up:
            self._look_up(now)
        self._ask_always(now)
        due = self._changes.due(now)
        if due:
            self._change(due, now)
        if self.moved:
            self._ask_moved(now)
        if self._order is None:
            for request in engine.partials.values():
                self._catch_up(request)
        elif not self._keeps_time and engine.clock.done - self._last_used > CALM and not engine.partials:
            self._order = None
            self._changes.put_off(engine.running.values())
        elif self._order.num_pushed > STALE:
            self._order = RunningByPriority(engine.running)
        may_repeat = not self.decides or self._decide(now)
        if not engine.num_waiting or not self._preemptive:
            return may_repeat and not looks_up
        return self._make_room(now) and may_repeat and not looks_up

    def _decide(self, now: float) -> bool:
        """Ask the policy what it decides beyond the order; returns whether this step may repeat."""
        return True

    def _make_room(self, now: float) -> bool:
        """Preempt running requests for better waiting ones: *displacement*."""
        engine, queue = self._engine, self._queue
        slots = engine.max_running - len(engine.running)
        head = queue.head()
        assert head is not None
        if slots < 1 and self._order is not None:
            worst = self._order.worst()
            if worst is not None and not head.key < worst.key:  # type: ignore[operator]
                self._last_used = engine.clock.done
                return True  # it would have to displace someone, and even the worst is better
        size = engine.block_size
        free = engine.free - engine.growth_by_residue[engine.clock.formed % size]
        budget = engine.max_tokens - engine.num_decoding
        for request in engine.partials.values():
            free -= not request.computed % size
            budget -= min(request.known - request.computed, engine.max_tokens)
        for request in engine.ending.values():
            free -= not request.computed % size
            budget -= 1
        ready: list[LeapRequest] = []
        victims: list[LeapRequest] = []
        planned = 0  # of the victims: for the head alone
        lacks_budget = False
        while head is not None:
            need = -(-head.known // size)
            room = free
            while slots + planned < 1 or need > room:
                order = self._order or self._contend(now)
                victim = self._worst(order, now)
                if victim is None or not head.key < victim.key:  # type: ignore[operator]
                    break
                order.take_out()
                if self._checks and not self._changes.drifting:
                    self._check(victim)
                victims.append(victim)
                planned += 1
                room += -(-victim.num_computed_tokens // size)
            least = 1 if engine.chunked else head.known
            if slots + planned < 1 or need > room:
                break
            if budget + planned < least:
                lacks_budget = True
                break
            ready.append(queue.pop())
            slots += planned - 1
            free = room - need
            budget += planned - head.known
            planned = 0
            head = queue.head()
        # With more tokens in the victims' blocks, a plan that failed might come off in a later step; so might
        # one without budget, once blocks run short: it then has its victims' tokens too.
        may_repeat = head is not None and not planned and not ready and not lacks_budget
        for _ in range(planned):
            spared = victims.pop()
            self._move(spared, spared.key)
        ready.reverse()
        self._to_admit = ready
        if victims:
            engine.preempt(victims, now)
            self._victims_until_scheduled = victims
        return may_repeat

    # -- the order of the running requests -----------------------------------------------------------------
    def _worst(self, order: RunningByPriority, now: float) -> LeapRequest | None:
        """The worst of the running requests in their order."""
        self._last_used = self._engine.clock.done
        while True:
            worst = order.worst()
            if worst is None or not self._changes.drifting:
                return worst
            key = self._policy.priority(worst, now)
            if key == worst.key:
                return worst
            worst.key = key  # it has improved, and others may be worse now
            order.push(worst)

    def _contend(self, now: float) -> RunningByPriority:
        """Take up the order of the running requests."""
        running = self.running(now)
        if self._asks_anew:
            steps, next_change, changes = self._engine.clock.done, self._policy.next_change, self._changes
            changes.on_time = True
            for request in running:
                if request.ran:
                    changes.announce_running(request, next_change(request, now), steps, now, steps + 1)
        else:
            self._changes.tell_on_time(running)
        # (in order only where somebody may be displaced)
        self._order = order = RunningByPriority(self._engine.running if self._preemptive else {})
        return order

    def running(self, now: float) -> list[LeapRequest]:
        running = self._engine.running
        order: list[Entry] = []
        for request in running.values():
            self._catch_up(request)
            key = self._key(request, now)
            if key != request.key:
                self._move(request, key)
            order.append((key, request.number))
        order.sort()
        return [running[number] for _, number in order]

    def _key(self, request: LeapRequest, now: float) -> Priority:
        """The priority of a running request in this step. Where requests share state, one that is preempted
        may move others: before the next step."""
        if self._shares and self._order is not None and not self._changes.drifting:
            return request.key
        return self._policy.priority(request, now)

    def victim(self, running: list[LeapRequest], place: int) -> LeapRequest:
        return running[-1]

    def in_order(self, some: list[LeapRequest], now: float) -> list[LeapRequest]:
        order: list[Entry] = []
        for request in some:
            self._catch_up(request)
            order.append((self._key(request, now), request.number))
        return [self._engine.running[number] for _, number in sorted(order)]

    # -- what happens to requests --------------------------------------------------------------------------
    def preempted(self, victims: Sequence[LeapRequest], now: float) -> None:
        on_preempt = self._policy.on_preempt
        for request in victims:
            request.num_preemptions += 1
            moved = on_preempt(request, now)
            if moved:
                self.moved.update(moved)
            request.due_step, request.due_time = NO_LIMIT, inf
            if self._asks_waiting and not request.ran:  # else it is asked when this step is over
                self._ask_waiting(request, now)

    def announce_draining(self, request: LeapRequest, now: float) -> None:
        """It was preempted while a step with it is under way, so that it still runs (asynchronous
        scheduling)."""
        if request.ran:  # else it is asked when that step is over
            change = self._policy.next_change(request, now)
            steps = self._engine.clock.done
            self._changes.announce_running(request, change, steps, now, steps + 1, in_queue=True)

    def drained(self, request: LeapRequest, now: float) -> None:
        """That step is over."""
        if request.where == WAITING:
            key = self._policy.priority(request, now)
            if key != request.key:
                self._move(request, key)

    def finished(self, request: LeapRequest, now: float) -> None:
        request.due_step, request.due_time = NO_LIMIT, inf
        if self._unasked:
            self._unasked.pop(request.number, None)
        if not request.ran:  # it began and ended in the step that is over
            request.start(self._engine.clock.done - 1, self._engine.step_start)
        if self._shares:
            self._by_id.pop(request.request_id, None)
            if self._sessions is not None:
                self.moved.update(self._sessions.finished(request, now))
        moved = self._policy.on_finish(request, now)
        if moved:
            self.moved.update(moved)

    def is_uncontended(self) -> bool:
        """Is the order of the running requests of no concern?"""
        return self._order is None and not (self._sees_queue and self._preemptive)

    def began(self, request: LeapRequest, before: int, start: float, now: float) -> None:
        """It ran in its first step, which began at step counter `before` and time `start`."""
        request.start(before, start)
        if self._asks_anew and self._order is None and request.where != WAITING:
            request.due_step, request.due_time = NO_LIMIT, inf
            return
        steps = self._engine.clock.done
        change = self._policy.next_change(request, now)
        in_queue = request.where == WAITING  # preempted while this step was under way
        self._changes.announce_running(request, change, steps, now, steps, in_queue=in_queue)

    def began_uncontended(self, request: LeapRequest, before: int, start: float, now: float) -> None:
        """The same in an uncontended run. What it announces is asked for once it is of concern."""
        request.start(before, start)
        if not self._asks_anew:
            self._unasked[request.number] = now

    def began_before(self, request: LeapRequest, start: float, now: float) -> None:
        """`began`, said later of a request that has run ever since: its first step was from `start` to `now`,
        and the clock is turned back to its end."""
        clock = self._engine.clock
        later = clock.reading()
        steps = request.num_prompt_tokens + 1 - request.offset
        clock.set((steps + clock.formed - clock.done, steps, now))
        self.began(request, steps - 1, start, now)
        clock.set(later)

    def ask_unasked(self) -> None:
        """The uncontended run ends, or history is to be trimmed."""
        for number in [*self._unasked]:
            self._ask_as_begun(self._engine.running[number])

    def _ask_as_begun(self, request: LeapRequest) -> None:
        """What has it announced as it began?"""
        now = self._unasked.pop(request.number, None)
        if now is not None:
            self.began_before(request, request.service_from, now)

    def step_done(
        self,
        before: int,
        start: float,
        now: float,
        irregular: Sequence[tuple[LeapRequest, int]],
        left_out: Sequence[LeapRequest],
    ) -> None:
        """Note who has started and who has stopped running in a step that is over. What was announced before
        may have come in that very step, so that their priorities are other ones already."""
        policy = self._policy
        for request in left_out:
            if request.ran and request.where != FINISHED:
                request.stop(before, start)
                if self._asks_waiting:
                    self._ask_waiting(request, now)
                    key = policy.priority(request, now)
                    if key != request.key:
                        self._move(request, key)
        for request, _ in irregular:
            if not request.ran and request.where != FINISHED:
                self.began(request, before, start, now)
                if self._order is not None:
                    key = policy.priority(request, now)
                    if key != request.key:
                        self._move(request, key)

    # -- changes that were put off -------------------------------------------------------------------------
    def _catch_up(self, request: LeapRequest, until: int = NO_LIMIT) -> None:
        if self._order is not None or self._asks_anew or not request.ran:
            return
        if self._unasked:
            self._ask_as_begun(request)
        clock, changes = self._engine.clock, self._changes
        now = clock.reading()
        until = min(until, now[1])
        while (due := changes.came(request)) is not None and due <= until:
            clock.turn_to(due)
            _, change = self._policy.advance(request, clock.time)
            changes.announce_running(request, change, due, clock.time, due + 1)
        clock.set(now)

    def oldest_change(self) -> int:
        """The step counter since which announced changes of running requests may have been put off."""
        if self._order is not None or self._asks_anew:
            return self._engine.clock.done
        return self._changes.oldest(self._engine.running.values())
