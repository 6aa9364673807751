"""Keeps every request's place in the policy's order, recomputed only when it may have changed.

`Policy.next_change` says when a priority may next differ. Requests that run are checked as their counters
move; the others wait in two heaps (idle steps, seconds), so a thousand waiting requests cost nothing a step.
The reference is `engine.vllm_v1.stepping_request`, which looks at every request in every step.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence

from simsched.engine.session_service import SessionService
from simsched.engine.step_clock import StepClock
from simsched.policies.base import Moved, Policy, sees_queue
from simsched.vllm.view import VllmView

# due (steps or seconds), arrival number, version of the announcement, view
Due = tuple[float, int, int, VllmView]
_LAST = {"predicted_class": 2**31, "length_quantiles": (math.inf,)}
"""What a request is taken for that comes without a hint."""


class PriorityTracker:
    """Sort keys `(priority, arrival time, arrival number)` of all unfinished requests."""

    def __init__(self, policy: Policy, clock: StepClock) -> None:
        self.policy = policy
        self.clock = clock
        self.moved = False
        """Has the key of a request in the waiting queue changed since this was last set to False?"""
        self._idle: list[Due] = []
        self._timed: list[Due] = []
        self._due: dict[int, VllmView] = {}
        self._ran: Sequence[VllmView] = ()
        self._turned: list[VllmView] = []  # started or stopped running since the last refresh
        self._drifting: dict[int, VllmView] = {}
        self._by_id: dict[str, VllmView] = {}
        self._named: set[str] = set()  # ids of those whom something else has moved
        self._sees_queue = sees_queue(policy)
        self._sessions = SessionService() if policy.reads_sessions else None

    def add(self, view: VllmView, now: float) -> bool:
        """A request has arrived. False: without the hint that the policy reads, so it is served last."""
        reads = self.policy.reads
        complete = reads is None or getattr(view, reads) is not None
        if reads is not None and not complete:
            setattr(view, reads, _LAST.get(reads, math.inf))
        self._by_id[view.request_id] = view
        if self.policy.reads_cache:
            view.cached = 0
        if self._sessions is not None:
            self._sessions.arrived(view)
        self._note(self.policy.on_arrival(view, now))
        self._ask(view, now)
        self._price(view, now)
        return complete

    def preempted(self, view: VllmView, now: float) -> None:
        """The request has lost its place and its blocks; a step that is under way may still bring a token."""
        view.displaced = True
        self._drifting.pop(view.number, None)
        self._note(self.policy.on_preempt(view, now))
        self._ask(view, now)
        self._price(view, now)

    def finished(self, view: VllmView, now: float) -> None:
        """The request is done, or was aborted; its last step has been counted."""
        view.change_version += 1
        self._drifting.pop(view.number, None)
        self._due.pop(view.number, None)
        self._turned = [each for each in self._turned if each is not view]
        self._by_id.pop(view.request_id, None)
        if self._sessions is not None:
            self._note(self._sessions.finished(view, now))
        self._note(self.policy.on_finish(view, now))

    def step_done(self, batch: Sequence[VllmView], start: float, end: float) -> None:
        """A step from `start` to `end` (s) is over, in which these requests ran; tokens are counted."""
        clock = self.clock
        streak_end = clock.time
        clock.done += 1
        clock.time = end
        steps = clock.done
        for view in batch:
            view.steps_run += 1
            view.last_step = steps
            if view.displaced and view.ran:
                self._turned.append(view)
            if not view.ran:
                view.ran = True
                view.displaced = False
                view.running_since = start
                if not view.ended:
                    self._turn(view, end)
            if view.steps_run >= view.due_steps_run:
                self._due[view.number] = view
        for view in self._ran:
            if view.last_step != steps and not view.ended:
                view.ran = False
                view.service_before += streak_end - view.running_since
                self._due.pop(view.number, None)
                self._turn(view, end)
        self._ran = batch

    def found_in_cache(self, view: VllmView, tokens: int) -> None:
        """What admission would find of a waiting request as this step begins."""
        if tokens != view.cached:
            view.cached = tokens
            self._named.add(view.request_id)

    def _note(self, moved: Moved) -> None:
        if moved:
            self._named.update(moved)

    def refresh(self, now: float, waiting: Iterable[VllmView] = ()) -> None:
        """Let every change that has come by `now` take place; a request changes at most once.

        Args:
            now: seconds on the clock.
            waiting: those in the queue.
        """
        if self._sessions is not None:
            self._sessions.begin_step()
        if self._sees_queue and (views := sorted(waiting, key=_number)):
            self._note(self.policy.on_queue(views, now))
        due, self._due = self._due, {}
        for view in self._ran:
            if now > view.due_service and not view.ended:  # the time between two steps counts as service
                due[view.number] = view
        while self._timed and self._timed[0][0] <= now:
            _, number, version, view = heapq.heappop(self._timed)
            if version == view.change_version:
                due[number] = view
        steps = self.clock.done
        while self._idle and self._idle[0][0] <= steps:
            _, number, version, view = heapq.heappop(self._idle)
            if version == view.change_version:
                if view.steps_idle >= view.due_steps_idle:
                    due[number] = view
                else:  # a step that was under way when this was announced ran it
                    self._push(self._idle, view.last_step + view.due_steps_idle, view)
        for _, view in sorted(due.items()):  # no two have the same number
            self._note(self.policy.on_change(view, now))
            self._ask(view, now)
            self._price(view, now)
        named, self._named = self._named, set()
        for name in named:
            if name in self._by_id:
                self._ask(self._by_id[name], now)
                self._price(self._by_id[name], now)
        for view in self._turned:
            self._price(view, now)
        self._turned.clear()
        for view in self._drifting.values():  # they run: the order of those that wait stays as it is
            view.key = (self.policy.priority(view, now), view.arrival_time, view.number)

    def _turn(self, view: VllmView, now: float) -> None:
        """It has started or stopped running: what was announced before may have come in the same step."""
        self._turned.append(view)
        self._ask(view, now)

    def _price(self, view: VllmView, now: float) -> None:
        key = (self.policy.priority(view, now), view.arrival_time, view.number)
        if view.queued and key != view.key:
            self.moved = True
        view.key = key

    def _ask(self, view: VllmView, now: float) -> None:
        """Ask the policy when this priority may next differ."""
        change = self.policy.next_change(view, now)
        view.change_version += 1
        run, service, time, idle = (
            change.after_steps_run, change.after_service, change.after_time, change.after_steps_idle
        )  # fmt: skip
        view.due_steps_run = math.inf if run is None else view.steps_run + run
        view.due_service = math.inf if service is None else now + service
        if time is not None:
            self._push(self._timed, now + time, view)
        if idle is not None:
            view.due_steps_idle = view.steps_idle + idle
            if not view.ran:
                self._push(self._idle, view.last_step + view.due_steps_idle, view)
        if view.ran and not view.displaced and change.while_running != "none":
            self._drifting[view.number] = view
        else:
            self._drifting.pop(view.number, None)

    def _push(self, heap: list[Due], due: float, view: VllmView) -> None:
        heapq.heappush(heap, (due, view.number, view.change_version, view))


def _number(view: VllmView) -> int:
    return view.number
