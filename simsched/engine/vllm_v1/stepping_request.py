"""A request as the engine keeps it, step by step; policies see it as `simsched.request.RequestView`."""

from __future__ import annotations

from simsched.engine.arrival import Arrival
from simsched.engine.facts import WithFacts
from simsched.policies.base import Change, Priority


class Request(WithFacts):
    """State of one request in an engine that touches every running request in every step.

    It does not know its true output length: the engine does.
    """

    __slots__ = (
        "announced",
        "announced_at",
        "arrival_time",
        "attained",
        "blocks",
        "cached",
        "facts",
        "key",
        "length_quantiles",
        "num_computed_tokens",
        "num_output_tokens",
        "num_preemptions",
        "num_prompt_tokens",
        "number",
        "predicted_class",
        "predicted_length",
        "priority",
        "ran",
        "request_id",
        "running_since",
        "score",
        "service_before",
        "steps_idle",
        "steps_run",
        "tenant",
        "time",
    )

    def __init__(self, number: int, arrival: Arrival) -> None:
        self.number = number
        self.request_id = arrival.request_id
        self.arrival_time = arrival.arrival_time
        self.num_prompt_tokens = arrival.num_prompt_tokens
        self.score = arrival.score
        self.predicted_class = arrival.predicted_class
        self.predicted_length = arrival.predicted_length
        self.length_quantiles = arrival.length_quantiles
        self.priority = arrival.priority
        self.tenant = arrival.tenant
        self.facts = arrival.facts
        self.cached = -1
        self.attained = None
        self.blocks = None
        self.num_output_tokens = 0
        self.num_computed_tokens = 0
        self.num_preemptions = 0
        self.steps_run = 0
        self.steps_idle = 0
        self.ran = False  # in the step done last
        self.service_before = 0.0  # seconds, before its current streak of steps
        self.running_since = 0.0  # start of that streak
        self.time = 0.0  # end of the step done last
        self.key: Priority = 0.0
        self.announced = Change()
        self.announced_at = (0.0, 0, 0)  # time, steps_run and steps_idle when the change was announced

    @property
    def num_tokens(self) -> int:
        """Tokens known: prompt and generated (N of the engine rules)."""
        return self.num_prompt_tokens + self.num_output_tokens

    @property
    def attained_service(self) -> float:
        """Seconds of steps in which it ran: a streak's are the clock's, since a busy engine never pauses."""
        return self.service_before + (self.time - self.running_since if self.ran else 0.0)

    def step_done(self, start: float, now: float, ran: bool) -> bool:
        """A step from `start` to `now` is over; returns whether it has started or stopped running."""
        changed = ran != self.ran
        if ran:
            if changed:
                self.running_since = start
            self.steps_run += 1
            self.steps_idle = 0
        else:
            if changed:
                self.service_before += self.time - self.running_since
            self.steps_idle += 1
        self.ran = ran
        self.time = now
        return changed

    def announce(self, change: Change, now: float) -> None:
        """The policy says when its priority may next differ."""
        self.announced = change
        self.announced_at = (now, self.steps_run, self.steps_idle)

    def due(self, now: float) -> bool:
        """Has the announced change come?"""
        change = self.announced
        time, run, idle = self.announced_at
        return (
            (change.after_service is not None and self.ran and now > time + change.after_service)
            or (change.after_steps_run is not None and self.steps_run >= run + change.after_steps_run)
            or (change.after_steps_idle is not None and self.steps_idle >= idle + change.after_steps_idle)
            or (change.after_time is not None and now >= time + change.after_time)
        )
