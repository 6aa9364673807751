"""`RequestView` over a vLLM request, and the hints that come with it."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable
from typing import Any, Protocol

from simsched.engine.facts import Facts, WithFacts
from simsched.engine.step_clock import StepClock
from simsched.policies.base import Priority

HINT = "simsched_"
"""Prefix of our keys in `SamplingParams.extra_args` (over HTTP: `vllm_xargs`)."""

HINTS = (
    "request_id",
    "score",
    "predicted_class",
    "predicted_length",
    "length_quantiles",
    "priority",
    "tenant",
    "class",
    "session_id",
    "turn",
    "parents",
    *("slo_ttft", "slo_tpot", "deadline"),
)


class EngineRequest(Protocol):
    """What we read of vLLM's `Request`. `max_tokens` is missing on purpose: policies never see it."""

    request_id: str
    num_prompt_tokens: int
    num_output_tokens: int
    num_computed_tokens: int
    num_preemptions: int
    priority: int
    sampling_params: Any


def read_hints(request: EngineRequest) -> dict[str, Any]:
    """Our hints of a request, without the prefix; unknown and non-scalar ones are ignored."""
    arguments = getattr(request.sampling_params, "extra_args", None) or {}
    return {
        name: value for name in HINTS if isinstance(value := arguments.get(HINT + name), str | int | float)
    }


class VllmView(WithFacts):
    """One request of the engine as its policy sees it; counters as in `simsched.request.RequestView`."""

    __slots__ = (
        "arrival_time",
        "attained",
        "blocks",
        "cached",
        "change_version",
        "displaced",
        "due_service",
        "due_steps_idle",
        "due_steps_run",
        "ended",
        "engine_request",
        "facts",
        "key",
        "last_step",
        "length_quantiles",
        "num_prompt_tokens",
        "number",
        "predicted_class",
        "predicted_length",
        "priority",
        "queued",
        "ran",
        "request_id",
        "running_since",
        "score",
        "service_before",
        "step_clock",
        "steps_run",
        "tenant",
    )

    def __init__(
        self, request: EngineRequest, arrival_time: float, number: int, step_clock: StepClock
    ) -> None:
        hints = read_hints(request)
        self.engine_request = request
        self.step_clock = step_clock
        self.number = number
        self.request_id = str(hints.get("request_id", request.request_id))
        self.arrival_time = arrival_time
        self.num_prompt_tokens = request.num_prompt_tokens
        self.score = _number(hints.get("score"))
        length_class = _number(hints.get("predicted_class"))
        self.predicted_class = None if length_class is None else int(length_class)
        self.predicted_length = _number(hints.get("predicted_length"))
        self.length_quantiles = _numbers(hints.get("length_quantiles"))
        client = _number(hints.get("priority"))
        self.priority = request.priority if client is None else int(client)
        self.tenant = _text(hints.get("tenant"))
        turn = _number(hints.get("turn"))
        self.facts = Facts(
            slo_ttft=_number(hints.get("slo_ttft")),
            slo_tpot=_number(hints.get("slo_tpot")),
            deadline=_number(hints.get("deadline")),
            request_class=_text(hints.get("class")),
            session_id=_text(hints.get("session_id")),
            turn=None if turn is None else int(turn),
            parents=_ids(hints.get("parents")),
        )
        self.cached = -1
        self.attained = None
        self.blocks = None
        self.queued = False  # stands in the waiting queue
        self.ended = False
        self.displaced = False  # preempted, and has not run again
        self.steps_run = 0
        self.last_step = step_clock.done
        self.ran = False  # in the step done last
        self.running_since = 0.0  # start of the current streak of steps
        self.service_before = 0.0  # seconds, before that streak
        # kept by the PriorityTracker
        self.key: tuple[Priority, float, int] = (0.0, arrival_time, number)
        self.change_version = 0
        self.due_steps_run = math.inf
        self.due_service = math.inf
        self.due_steps_idle = 0

    @property
    def num_output_tokens(self) -> int:
        return self.engine_request.num_output_tokens

    @property
    def num_computed_tokens(self) -> int:
        return self.engine_request.num_computed_tokens

    @property
    def num_preemptions(self) -> int:
        return self.engine_request.num_preemptions

    @property
    def attained_service(self) -> float:
        return self.service_before + (self.step_clock.time - self.running_since if self.ran else 0.0)

    @property
    def steps_idle(self) -> int:
        return self.step_clock.done - self.last_step


class HashedBlocks:
    """The full blocks of a prompt, by vLLM's own hashes, each of a block and everything before it."""

    __slots__ = ("_request", "block_size")

    def __init__(self, request: Any, block_size: int) -> None:
        self._request = request
        self.block_size = block_size

    def __len__(self) -> int:
        full: int = self._request.num_prompt_tokens // self.block_size
        return min(full, len(self._request.block_hashes))

    def __getitem__(self, block: int) -> Hashable:
        if not 0 <= block < len(self):
            raise IndexError(block)
        name: Hashable = self._request.block_hashes[block]
        return name


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _ids(value: Any) -> tuple[str, ...]:
    """The hint, a JSON list of request ids; empty if it is missing or not that."""
    try:
        found = json.loads(value)
    except (TypeError, ValueError):
        return ()
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _number(value: Any) -> float | None:
    """The hint as a number; None if it is missing or not one."""
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number


def _numbers(value: Any) -> tuple[float, ...] | None:
    """The hint, numbers with commas between them; None if it is missing or not that."""
    if value is None:
        return None
    numbers = [_number(part) for part in str(value).split(",")]
    found = tuple(sorted(number for number in numbers if number is not None))
    return found if len(found) == len(numbers) else None
