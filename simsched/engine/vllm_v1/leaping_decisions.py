"""A policy's decisions beyond order in the leaping engine (*gate*, *budgets* and *chosen victims* in
docs/engine.md).

`admit` is asked when a request arrives or is preempted, when the change comes with which it was held, and
when a request has left the running ones. Between those a stretch of decodes is leapt over. Budgets matter
only where more than decodes may run, so a step in which they were asked for is not repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import cast

from simsched.engine.agenda import NO_LIMIT, Agenda
from simsched.engine.arrival import Arrival
from simsched.engine.config import ResolvedConfig
from simsched.engine.decisions import BudgetHooks
from simsched.engine.request_status import ENDING, FINISHED, WAITING
from simsched.engine.vllm_v1.leaping_request import LeapRequest
from simsched.engine.vllm_v1.leaping_view import LeapingView
from simsched.engine.vllm_v1.policy_order import PolicyOrder
from simsched.engine.vllm_v1.queues import WaitingQueue
from simsched.engine.vllm_v1.state import LeapingState
from simsched.policies.base import ADMIT, REJECT, Policy, Priority, hooks_of

HeldUntil = tuple[int, float, int]
"""Step counter and time at which to ask again, and how many requests had left when it was held."""


class DecidingOrder(PolicyOrder):
    """The order of a policy that takes decisions beyond it."""

    def __init__(self, engine: LeapingState, policy: Policy, config: ResolvedConfig) -> None:
        super().__init__(engine, policy)
        self.decides = True
        self.hears_of_all = True  # whoever arrives is decided about
        self._waits_silently = False  # they may be asked about
        self._runs_uncontended = not (self._shares or self._sees_queue)
        self.has_answered: bool | None = None
        """What `prepare` has said of a step that an uncontended run leaves to `schedule`."""
        hooks = hooks_of(policy)
        self.view = LeapingView(engine, self, config)
        self.rejected: list[int] = []
        self._admits = "admit" in hooks
        self._holds_the_line = policy.holds_the_line
        self._chooses_victims = "victim" in hooks
        self._budget_hooks = BudgetHooks(policy, self.view, config.enable_chunked_prefill)
        self.outside = WaitingQueue()
        """Who waits and has not been let in."""
        self._not_asked: list[LeapRequest] = []  # of them, those who have arrived or were preempted since
        self._held: dict[int, HeldUntil] = {}
        self._at_step: Agenda[int, LeapRequest] = Agenda()
        self._at_time: Agenda[float, LeapRequest] = Agenda()
        self._departures = 0
        self._departures_seen = 0

    # -- the queue is for those who are let in ---------------------------------------------------------------
    def requeue(self, request: LeapRequest, now: float) -> None:
        if not self._admits:
            super().requeue(request, now)
            return
        self.outside.push(request, self._policy.priority(request, now))
        if not self._holds_the_line:
            self._not_asked.append(request)

    def remove(self, request: LeapRequest) -> None:
        if self.outside.has(request):
            self.outside.remove(request)
            self._held.pop(request.number, None)
        else:
            super().remove(request)

    def _move(self, request: LeapRequest, key: Priority) -> None:
        if request.where == WAITING and self.outside.has(request):
            self.outside.push(request, key)
        else:
            super()._move(request, key)

    def _all_waiting(self) -> list[LeapRequest]:
        return [*self._queue, *self.outside]

    def release(self, now: float) -> None:
        if self._to_admit or self._victims_until_scheduled:
            super().release(now)
        self.view.end_walk()
        self._engine.num_waiting = len(self._queue) + len(self.outside)

    def preempted(self, victims: Sequence[LeapRequest], now: float) -> None:
        super().preempted(victims, now)
        self._departures += len(victims)

    def finished(self, request: LeapRequest, now: float) -> None:
        super().finished(request, now)
        self._departures += 1

    def is_uncontended(self) -> bool:
        """May an uncontended run ask about whoever arrives? Its requests are moved by what it has announced
        alone. (Where prompts share prefixes there is no such run; elsewhere new ones find nothing cached.)"""
        return self._runs_uncontended

    def await_ends(self, numbers: Sequence[int]) -> None:
        """The last tokens of these are on their way (asynchronous scheduling)."""
        engine = self._engine
        for number in numbers:
            request = engine.running[number]
            request.end(engine.total[number])
            request.where = ENDING
            request.coming = 1
            engine.ending[number] = request

    # -- before schedule() ---------------------------------------------------------------------------------
    def prepare(self, now: float) -> bool:
        answer = self.has_answered
        if answer is None:
            return super().prepare(now)
        self.has_answered = None
        return answer

    def take_in(self, first: int, arrivals: Sequence[Arrival], now: float) -> bool:
        """These have arrived in an uncontended run, numbered from `first` on. Decide about the next step: may
        all of them be in it, and no prompt is cut?"""
        engine = self._engine
        longest = 0
        for number, arrival in enumerate(arrivals, first):
            self.arrived(number, arrival, now)
            if arrival.num_prompt_tokens > longest:
                longest = arrival.num_prompt_tokens
        engine.num_waiting = engine.num_new = len(arrivals)
        self.has_answered = self.prepare(now)
        if len(self.outside) or self.rejected:
            return False
        return longest <= (engine.long_prefill or engine.max_tokens)

    def take_out(self) -> list[LeapRequest]:
        """All of them are admitted, in this order."""
        engine = self._engine
        admitted: list[LeapRequest] = []
        for _ in range(engine.num_waiting):
            request = self.head()
            self.pop()
            engine.running[request.number] = request
            admitted.append(request)
        engine.num_waiting = engine.num_new = 0
        self.has_answered = None
        return admitted

    def _decide(self, now: float) -> bool:
        engine = self._engine
        self.view.now = now
        self.view.running_in_order = None
        # what it sees and remembers of running requests is to be up to date whenever it decides
        self._last_used = engine.clock.done
        if self._order is None:
            self._order = self._contend(now)
        if not engine.num_waiting and not engine.partials:  # there is nothing to decide
            if self._budget_hooks.is_used:
                engine.max_tokens, engine.long_prefill = self._budget_hooks.of_next_step(False)
            return not self.moved
        if self._admits:
            if self._holds_the_line:
                self._ask_the_head(now)
            else:
                self._ask_all(now)
            if not engine.running and not len(self._queue):
                head = self.outside.head()
                if head is not None:
                    self._let_in(head)
        engine.num_waiting = len(self._queue)
        stays = not self.moved  # else a request that was turned away has moved others
        if not self._budget_hooks.is_used:
            return stays
        has_place = len(engine.running) < engine.max_running or self._preemptive
        may_prefill = len(self._queue) > 0 and has_place
        if not may_prefill:
            for request in engine.partials.values():
                if request.known - request.computed > 1:
                    may_prefill = True
                    break
        engine.max_tokens, engine.long_prefill = self._budget_hooks.of_next_step(may_prefill)
        return stays and not may_prefill

    def _ask_the_head(self, now: float) -> None:
        """Until one is held."""
        if not len(self.outside):
            return
        if self._held:
            self._at_step.due(self._engine.clock.done)  # what has come is not to come again
            self._at_time.due(now)
        while True:
            head = self.outside.head()
            if head is None or not self._may_be_asked(head, now) or self._is_held(head, now):
                return

    def _may_be_asked(self, request: LeapRequest, now: float) -> bool:
        held = self._held.get(request.number)
        if held is None:
            return True
        step, time, departures = held
        return departures != self._departures or step <= self._engine.clock.done or time <= now

    def _ask_all(self, now: float) -> None:
        """All that may be asked about again."""
        due = self._at_step.due(self._engine.clock.done) + self._at_time.due(now)
        if self._departures != self._departures_seen:
            self._departures_seen = self._departures
            asked = self.outside.in_order()
        elif due or self._not_asked:
            some = {each.number: each for each in due + self._not_asked if self.outside.has(each)}
            asked = sorted(some.values(), key=_place)
        else:
            return
        self._not_asked = []
        for request in asked:
            if self._may_be_asked(request, now):
                self._is_held(request, now)

    def _is_held(self, request: LeapRequest, now: float) -> bool:
        """Ask about it: it is let in, gone, or held."""
        answer = self._policy.admit(request, self.view)
        if answer == ADMIT:
            self._let_in(request)
            return False
        if answer == REJECT:
            self.outside.remove(request)
            self._held.pop(request.number, None)
            request.where = FINISHED
            self._engine.turn_away(request)
            self.rejected.append(request.number)
            super().finished(request, now)  # it was not running, so nobody is asked again
            return False
        _, _, idle, wait, _ = answer[0]
        step, time = NO_LIMIT, inf
        if idle is not None:
            step = self._engine.clock.done + idle
            self._at_step.push(step, request)
        if wait is not None:
            time = now + wait
            self._at_time.push(time, request)
        self._held[request.number] = (step, time, self._departures)
        return True

    def _let_in(self, request: LeapRequest) -> None:
        self.outside.remove(request)
        self._held.pop(request.number, None)
        self._queue.push(request, request.key)

    def limit(self) -> tuple[int, float]:
        step, time = super().limit()
        if not self._held:
            return step, time
        return (
            min(step, self._at_step.first(self._step_holds, NO_LIMIT)),
            min(time, self._at_time.first(self._time_holds, inf)),
        )

    def _step_holds(self, step: int, request: LeapRequest) -> bool:
        held = self._held.get(request.number)
        return held is not None and held[0] == step

    def _time_holds(self, time: float, request: LeapRequest) -> bool:
        held = self._held.get(request.number)
        return held is not None and held[1] == time

    # -- victims -------------------------------------------------------------------------------------------
    def victim(self, running: list[LeapRequest], place: int) -> LeapRequest:
        if not self._chooses_victims:
            return super().victim(running, place)
        self.view.begin_walk(running)
        return cast(LeapRequest, self._policy.victim(running[place:], self.view))

    def running_in_order(self, now: float) -> list[LeapRequest]:
        """The running requests, the best first."""
        if self._changes.drifting or self._order is None:
            return self.running(now)
        return sorted(self._engine.running.values(), key=_place)

    def queued(self) -> list[LeapRequest]:
        """Who waits where the engine looks, in order."""
        return sorted([*self._queue.in_order(), *self._to_admit], key=_place)

    def kept_out(self) -> list[LeapRequest]:
        """Who waits elsewhere."""
        return [*self.outside.in_order(), *self._victims_until_scheduled]

    @property
    def num_queued(self) -> int:
        """How many wait where the engine looks, before the step is formed."""
        return len(self._queue)

    @property
    def num_outside(self) -> int:
        """How many have not been let in."""
        return len(self.outside)

    @property
    def admits(self) -> bool:
        """Does the policy say who is let in?"""
        return self._admits


def _place(request: LeapRequest) -> tuple[Priority, int]:
    return request.key, request.number
