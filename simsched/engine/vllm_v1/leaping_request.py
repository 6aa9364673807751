"""A request in the leaping engine. Where it decodes, its tokens and clocks are computed when asked."""

from __future__ import annotations

from math import inf
from typing import Final

from simsched.engine.agenda import NO_LIMIT
from simsched.engine.arrival import Arrival, Quantiles
from simsched.engine.facts import Attained, told_blocks, told_cached, told_sessions
from simsched.engine.request_status import DECODING, FINISHED, WAITING
from simsched.engine.step_clock import StepClock
from simsched.policies.base import NEVER, Change, Priority
from simsched.request import PromptBlocks

MANY: Final = 1 << 29
"""More requests than will ever arrive; small enough for fast division."""


Announced = tuple[Change, int, float, int]
"""A change, the step counter and the time when it was announced, the first step counter for it to come."""

NO_CHANGE: Announced = (NEVER, 0, 0.0, 0)


class LeapRequest:
    """What the engine keeps of a request and, where one of our policies orders requests, what that policy
    sees of it (`simsched.request.RequestView`) and what its order notes of it.

    Its true length is not here but in the engine. `place` is for vLLM's `priority` order: (priority, arrival
    time, id, number).
    """

    __slots__ = (
        "_clock",
        "_quantiles",
        "_row",
        "announced",
        "arrival_time",
        "attained",
        "blocks",
        "cached",
        "coming",
        "computed",
        "due_step",
        "due_time",
        "facts",
        "idle_from",
        "key",
        "known",
        "num_preemptions",
        "num_prompt_tokens",
        "number",
        "offset",
        "place",
        "predicted_class",
        "predicted_length",
        "priority",
        "ran",
        "request_id",
        "run_before",
        "run_from",
        "score",
        "service_before",
        "service_from",
        "since",
        "tenant",
        "where",
    )

    place: tuple[int, float, str, int]
    _quantiles: Quantiles | tuple[float, ...] | None

    def __init__(self, number: int, arrival: Arrival) -> None:
        self.number = number
        self.num_prompt_tokens = arrival.num_prompt_tokens
        self.where = WAITING
        self.known = arrival.num_prompt_tokens  # N; of a decoding request: offset + steps
        self.computed = 0  # C; of a decoding request: N - 1
        self.offset = 0
        self.since = 0  # step counter when it began to decode (asynchronous scheduling)
        self.coming = 0  # of N, tokens on their way (asynchronous scheduling; not of a decoding request)

    def decode(self, offset: int) -> None:
        """From now on it gets a token in every step."""
        self.where = DECODING
        self.offset = offset

    def end(self, tokens: int) -> None:
        """It has all its tokens, and the last of them is out."""
        self.where = FINISHED
        self.known = tokens
        self.computed = tokens - 1
        self.coming = 0

    def attach_view(self, clock: StepClock, arrival: Arrival) -> None:
        """It arrives where a policy of ours orders requests."""
        self._clock = clock
        # (all of its fields at once: one by one they take longer)
        (
            self._row,
            self.arrival_time,
            _,
            _,
            self.request_id,
            _,
            self.priority,
            self.score,
            self.predicted_class,
            self.predicted_length,
            self._quantiles,
            self.tenant,
            _,
            self.facts,
            _,
            _,
        ) = arrival
        self.cached = -1
        self.attained: Attained | None = None
        self.blocks: PromptBlocks | None = None
        self.num_preemptions = 0
        self.ran = False  # in the step done last
        self.run_before = 0  # steps, before its current streak
        self.run_from = 0  # step counter when that began
        self.service_before = 0.0  # seconds, likewise
        self.service_from = 0.0  # seconds on the clock
        self.idle_from = clock.done  # step counter when it last stopped running, or arrived
        self.key: Priority = 0.0  # its priority, in the queue or among the running
        self.announced = NO_CHANGE  # when it last ran
        self.due_step = NO_LIMIT  # when its policy is to be told of a change
        self.due_time = inf  # likewise

    @property
    def length_quantiles(self) -> tuple[float, ...] | None:
        if self._quantiles is None:
            return None
        if not isinstance(self._quantiles, tuple):
            self._quantiles = self._quantiles.of(self._row)
        return self._quantiles

    # `WithFacts` again: a compiled class can't inherit from one that interpreted classes inherit from
    @property
    def slo_ttft(self) -> float | None:
        return self.facts.slo_ttft

    @property
    def slo_tpot(self) -> float | None:
        return self.facts.slo_tpot

    @property
    def deadline(self) -> float | None:
        return self.facts.deadline

    @property
    def request_class(self) -> str | None:
        return self.facts.request_class

    @property
    def session_id(self) -> str | None:
        return self.facts.session_id

    @property
    def turn(self) -> int | None:
        return self.facts.turn

    @property
    def num_cached_tokens(self) -> int:
        cached = self.cached
        return cached if cached >= 0 else told_cached(cached)

    @property
    def prompt_blocks(self) -> PromptBlocks:
        return told_blocks(self.blocks)

    @property
    def session_service(self) -> float:
        return told_sessions(self.attained, "session_service").service

    @property
    def session_wait(self) -> float:
        return told_sessions(self.attained, "session_wait").wait

    @property
    def critical_path_service(self) -> float:
        return told_sessions(self.attained, "critical_path_service").critical_path

    @property
    def num_output_tokens(self) -> int:
        known = self.offset + self._clock.done if self.where == DECODING else self.known - self.coming
        return known - self.num_prompt_tokens

    @property
    def num_computed_tokens(self) -> int:
        return self.offset + self._clock.formed - 1 if self.where == DECODING else self.computed

    @property
    def steps_run(self) -> int:
        run: int = self._clock.done - self.run_from if self.ran else 0
        return self.run_before + run

    @property
    def steps_idle(self) -> int:
        idle: int = 0 if self.ran else self._clock.done - self.idle_from
        return idle

    @property
    def attained_service(self) -> float:
        return self.service_before + (self._clock.time - self.service_from if self.ran else 0.0)

    def start(self, steps: int, time: float) -> None:
        """It runs in the step that began then."""
        self.ran = True
        self.run_from = steps
        self.service_from = time

    def stop(self, steps: int, time: float) -> None:
        """It does not run in the step that began then."""
        self.run_before += steps - self.run_from
        self.service_before += time - self.service_from
        self.ran = False
        self.idle_from = steps
        self.due_step, self.due_time = NO_LIMIT, inf
