"""Shortest uncached prefill first, as TensorRT-LLM ships it and as vLLM's proposal #51375 has it."""

from __future__ import annotations

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.request import RequestView

_RUNS_AT_ONCE = Change(after_steps_run=1)


@register("uncached-first")
@dataclass(eq=False)
class UncachedFirst(Policy):
    """Those whose prompts have the fewest tokens to compute first: what the cache holds costs nothing.

    Only the queue is ordered; who has run goes first, in order of arrival, also back in the queue. Who has
    waited for `starvation_steps` steps goes ahead of all that have not, in order of arrival (TensorRT-LLM's
    starvation iterations; 0: nobody does).
    """

    preemptive: bool = False
    starvation_steps: int = Field(default=0, ge=0)

    reads_cache = True

    def priority(self, request: RequestView, now: float) -> tuple[int, float]:
        if request.steps_run:
            return 0, request.arrival_time
        if self.starvation_steps and request.steps_idle >= self.starvation_steps:
            return 1, request.arrival_time
        return 2, request.num_prompt_tokens - request.num_cached_tokens

    def next_change(self, request: RequestView, now: float) -> Change:
        if request.steps_run:
            return NEVER
        left = self.starvation_steps - request.steps_idle
        return Change(after_steps_run=1, after_steps_idle=left) if left > 0 else _RUNS_AT_ONCE

    def changes_while_waiting(self) -> bool:
        return self.starvation_steps > 0
