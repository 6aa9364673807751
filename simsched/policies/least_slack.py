"""Least slack first: who is due soonest for what is still to do."""

from __future__ import annotations

from math import inf
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.errors import InputError
from simsched.policies.base import NEVER, Change, Policy, register
from simsched.policies.edf import due
from simsched.request import RequestView

_MOVES = Change(after_steps_run=1, after_time=0.0)
_RUNS_AT_ONCE = Change(after_steps_run=1)


@register("least-slack")
@dataclass(eq=False)
class LeastSlack(Policy):
    """Orders the queue by urgency; who has run goes first, in order of arrival, also back in the queue.

    - `slack`: the smallest (due - now - `time_per_token` * prompt tokens), due as under `edf`. The present is
      the same for all and left out, so the order of two never changes, and a run leaps.
    - `vllm` (vLLM #53571): the largest 200 wait / slo_ttft + 10 (1 - prompt / `max_length`), with `deadline`
      where a request has no slo_ttft. There requests without one get 20, 40 or 120 s by their length, and a
      tenth of each step is kept for others; neither is here. One overtakes another because time goes by, so
      those who wait are asked in every step.
    """

    preemptive: bool = False
    form: Literal["slack", "vllm"] = "slack"
    deadline: float = Field(default=20.0, gt=0, lt=inf)
    """Seconds, for requests that bring none."""
    time_per_token: float = Field(default=5.3e-5, ge=0, lt=inf)
    """Seconds of prefill a token (slack); the default is Llama-3-8B's on an A100, as for `fastserve`."""
    max_length: float = Field(default=8192.0, gt=0, lt=inf)
    """Tokens (vllm): the model's context."""

    asks_for = ("deadline", "slo_ttft")

    def __post_init__(self) -> None:
        if self.preemptive and self.form == "vllm":
            expected = "expected preemptive=false"
            raise InputError(f"policy least-slack: form vllm orders the queue alone; {expected}")

    def priority(self, request: RequestView, now: float) -> tuple[int, float]:
        if request.steps_run and not self.preemptive:
            return 0, request.arrival_time
        prompt = request.num_prompt_tokens
        if self.form == "slack":
            return 1, due(request, self.deadline) - self.time_per_token * prompt
        asked = self.deadline if request.slo_ttft is None else request.slo_ttft
        wait = now - request.arrival_time
        return 1, -(200.0 * wait / asked + 10.0 * (1.0 - prompt / self.max_length))

    def next_change(self, request: RequestView, now: float) -> Change:
        if self.preemptive or request.steps_run:
            return NEVER
        return _MOVES if self.form == "vllm" else _RUNS_AT_ONCE

    def changes_while_waiting(self) -> bool:
        return self.form == "vllm"
