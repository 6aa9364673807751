"""When the changes come that a policy has announced, in the leaping engine."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, nextafter
from typing import Final

from simsched.engine.agenda import NO_LIMIT, Agenda
from simsched.engine.base import CannotLeap
from simsched.engine.step_clock import StepClock
from simsched.engine.vllm_v1.leaping_request import NO_CHANGE, LeapRequest
from simsched.policies.base import NEVER, Change

ALWAYS: Final = -1
"""`due_step` of a waiting request that may move in every step."""


class Changes:
    """The steps and times at which to tell the policy of the changes that it has announced."""

    def __init__(self, clock: StepClock) -> None:
        self._clock = clock
        self.on_time = False
        """Are running requests told on time? Else their changes are put off."""
        self.drifting = False
        """Has any request been announced to improve while it runs?"""
        self.may_ask_more = False
        """Is it of no concern to the policy if it is asked more often than it has announced?"""
        self._always: dict[int, LeapRequest] = {}
        # an entry is stale if the request itself says otherwise (`due_step`, `due_time`)
        self._at_step: Agenda[int, LeapRequest] = Agenda()
        self._at_time: Agenda[float, LeapRequest] = Agenda()

    def announce_running(
        self,
        request: LeapRequest,
        change: Change,
        steps: int,
        now: float,
        first: int,
        in_queue: bool = False,
    ) -> None:
        """The policy said this at this step counter and time of a request that ran in the step done last.

        Args:
            first: the earliest step counter at which the change can come.
            in_queue: it waits again, so that the change can't be put off.
        """
        request.due_step, request.due_time = NO_LIMIT, inf
        if change is NEVER:
            request.announced = NO_CHANGE
            return
        request.announced = (change, steps, now, first)
        service, run, _, clock, drift = change
        if drift != "none":
            if drift == "any":
                raise CannotLeap("priorities drift while requests run")
            self.drifting = True
        if not self.on_time and not in_queue:
            return
        if run is not None:
            request.due_step = due = steps + run
            self._at_step.push(due, request)
        if service is not None or clock is not None:
            time = inf if service is None else nextafter(now + service, inf)
            if clock is not None:
                time = min(time, now + clock)
            request.due_time = time
            self._at_time.push(time, request)

    def announce_waiting(self, request: LeapRequest, change: Change, steps: int, now: float) -> None:
        """The same of a request that did not run."""
        _, _, idle, clock, _ = change
        request.due_step, request.due_time = NO_LIMIT, inf
        if self.may_ask_more and (clock == 0.0 or idle == 1):
            request.due_step = ALWAYS
            self._always[request.number] = request
            return
        if idle is not None:
            request.due_step = due = steps + idle
            self._at_step.push(due, request)
        if clock is not None:
            request.due_time = time = now + clock
            self._at_time.push(time, request)

    def tell_on_time(self, running: Iterable[LeapRequest]) -> None:
        """From now on running requests are told of their changes on time; no change has come as yet."""
        self.on_time = True
        for request in running:
            if request.ran:
                self.announce_running(request, *request.announced)

    def put_off(self, running: Iterable[LeapRequest]) -> None:
        """From now on changes of running requests are put off."""
        self.on_time = False
        for request in running:
            request.due_step, request.due_time = NO_LIMIT, inf

    def always(self) -> list[LeapRequest]:
        """Those waiting that may have moved in any step: they are in no agenda."""
        if not self._always:
            return []
        held = [request for request in self._always.values() if request.due_step == ALWAYS]
        if len(held) < len(self._always):
            self._always = {request.number: request for request in held}
        return held

    def due(self, now: float) -> list[LeapRequest]:
        """Those whose change has come, in order of arrival."""
        steps = self._clock.done
        due = [request for request in self._at_step.due(steps) if request.due_step <= steps]
        due += [request for request in self._at_time.due(now) if request.due_time <= now]
        if len(due) < 2:
            return due
        by_number = {request.number: request for request in due}
        return [by_number[number] for number in sorted(by_number)]

    def limit(self) -> tuple[int, float]:
        """The step counter and the time at which the next ones come."""
        if self.always():
            return self._clock.done + 1, inf
        return self._at_step.first(_step_holds, NO_LIMIT), self._at_time.first(_time_holds, inf)

    def came(self, request: LeapRequest) -> int | None:
        """The step counter at which the announced change of a running request came or comes."""
        change, steps, time, first = request.announced
        due: int | None = None
        if change.after_steps_run is not None:
            due = max(first, steps + change.after_steps_run)
        late = inf
        if change.after_service is not None:
            late = nextafter(time + change.after_service, inf)
        if change.after_time is not None:
            late = min(late, time + change.after_time)
        if late < inf:
            step = max(first, self._clock.step_at(late))
            due = step if due is None else min(due, step)
        return due

    def oldest(self, running: Iterable[LeapRequest]) -> int:
        """The step counter since which changes of running requests may have been put off."""
        waits = [request.announced for request in running]
        return min((each[1] for each in waits if each[0] is not NEVER), default=self._clock.done)


def _step_holds(step: int, request: LeapRequest) -> bool:
    return request.due_step == step


def _time_holds(time: float, request: LeapRequest) -> bool:
    return request.due_time == time
