"""Keeps every request's place in the policy's order, recomputed only when it may have changed.

`Policy.next_change` says when a priority may next differ. Requests that run are checked as their counters
move; the others wait in two heaps (idle steps, seconds), so a thousand waiting requests cost nothing a step.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable

from simsched.policies.base import Policy
from simsched.vllm.view import StepClock, VllmView

# due (steps or seconds), arrival number, version of the announcement, view
Due = tuple[float, int, int, VllmView]
LAST_CLASS = 2**31


class PriorityBook:
    """Sort keys `(priority, arrival time, arrival number)` of all unfinished requests."""

    def __init__(self, policy: Policy, clock: StepClock) -> None:
        self.policy = policy
        self.clock = clock
        self.waiting_changed = False
        """A waiting request has moved in the order since `refresh` was last asked to clear this."""
        self._idle: list[Due] = []
        self._timed: list[Due] = []
        self._due: list[VllmView] = []
        self._drifting: dict[int, VllmView] = {}

    def add(self, view: VllmView, now: float) -> bool:
        """A request has arrived. False: without the hint that the policy reads, so it is served last."""
        reads = self.policy.reads
        complete = reads is None or getattr(view, reads) is not None
        if reads is not None and not complete:
            setattr(view, reads, LAST_CLASS if reads == "predicted_class" else math.inf)
        self.policy.on_arrival(view, now)
        self._price(view, now)
        return complete

    def started(self, view: VllmView, now: float) -> None:
        """The request has joined the batch."""
        view.running = True
        self._price(view, now)

    def skipped(self, view: VllmView, now: float) -> None:
        """The request holds its place, but does not run in this step."""
        view.running = False
        self._price(view, now)

    def preempted(self, view: VllmView, now: float) -> None:
        """The request has lost its place."""
        view.running = False
        self.policy.on_preempt(view, now)
        self._price(view, now)

    def finished(self, view: VllmView, now: float) -> None:
        """The request is done, or was aborted."""
        view.change_version += 1
        self._drifting.pop(view.number, None)
        self.policy.on_finish(view, now)

    def step_done(self, ran: Iterable[VllmView], step_time: float) -> None:
        """A step of `step_time` seconds is over, in which these requests ran."""
        self.clock.steps += 1
        now = self.clock.steps
        for view in ran:
            view.steps_run += 1
            view.attained_service += step_time
            view.last_step = now
            if view.steps_run >= view.due_steps_run or view.attained_service > view.due_service:
                self._due.append(view)

    def refresh(self, now: float) -> None:
        """Let every change that has come by `now` take place; each request changes at most once."""
        due = {view.number: view for view in self._due}
        self._due.clear()
        while self._timed and self._timed[0][0] <= now:
            _, number, version, view = heapq.heappop(self._timed)
            if version == view.change_version:
                due[number] = view
        steps = self.clock.steps
        while self._idle and self._idle[0][0] <= steps:
            _, number, version, view = heapq.heappop(self._idle)
            if version == view.change_version:
                if view.last_step + view.due_steps_idle <= steps:
                    due[number] = view
                else:  # a step that was under way when this was announced ran it
                    self._push(self._idle, view.last_step + view.due_steps_idle, view)
        for view in due.values():
            self.policy.on_change(view, now)
            self._price(view, now)
        for view in self._drifting.values():
            view.key = (self.policy.priority(view, now), view.arrival_time, view.number)

    def _price(self, view: VllmView, now: float) -> None:
        """Ask for the priority, and for when to ask again."""
        view.key = (self.policy.priority(view, now), view.arrival_time, view.number)
        change = self.policy.next_change(view, now)
        view.change_version += 1
        view.due_steps_run = (
            math.inf if change.after_steps_run is None else view.steps_run + change.after_steps_run
        )
        view.due_service = (
            math.inf if change.after_service is None else view.attained_service + change.after_service
        )
        if change.after_time is not None:
            self._push(self._timed, now + change.after_time, view)
        if view.running:
            if change.while_running != "none":
                self._drifting[view.number] = view
            return
        self._drifting.pop(view.number, None)
        self.waiting_changed = True
        if change.after_steps_idle is not None:
            view.due_steps_idle = view.steps_idle + change.after_steps_idle
            self._push(self._idle, view.last_step + view.due_steps_idle, view)

    def _push(self, heap: list[Due], due: float, view: VllmView) -> None:
        heapq.heappush(heap, (due, view.number, view.change_version, view))
