"""Highest response ratio next: who has waited longest for the work that it asks."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.policies.predicted import needed
from simsched.request import RequestView

_MOVES = Change(after_steps_run=1, after_time=0.0)


@register("hrrn")
@dataclass(eq=False)
class Hrrn(Policy):
    """The largest response ratio (wait + service) / service first (Brinch Hansen, 1971), with the service
    proportional to the tokens of the prompt that are not cached, or to the output's predicted length. What a
    token takes makes no difference: the order is that of wait / tokens.

    SGLang's `--schedule-policy hrrn` (#32911) counts the uncached tokens too, and as the wait the tokens that
    the engine has worked through meanwhile, which is the wait in seconds where it works at an even pace; it
    turns to first come, first served above 128 waiting requests, which is not here. Only the queue is
    ordered; who has run goes first, in order of arrival. One overtakes another because time goes by, so those
    who wait are asked in every step; as long as nobody waits a run leaps.
    """

    preemptive: bool = False
    service: Literal["uncached", "output"] = "uncached"
    """What a request asks: prompt tokens that are not cached, or predicted output tokens."""

    def __post_init__(self) -> None:
        if self.service == "uncached":
            self.reads_cache = True  # type: ignore[misc]
        else:
            self.reads = "predicted_length"  # type: ignore[misc]

    def priority(self, request: RequestView, now: float) -> tuple[int, float]:
        if request.steps_run and not self.preemptive:
            return 0, request.arrival_time
        return 1, -(now - request.arrival_time) / self._tokens(request)

    def _tokens(self, request: RequestView) -> float:
        if self.service == "uncached":
            return max(1, request.num_prompt_tokens - request.num_cached_tokens)
        return max(1.0, needed(request.predicted_length, "predicted_length", request))

    def next_change(self, request: RequestView, now: float) -> Change:
        if self.preemptive:
            return Change(after_time=0.0, while_running="any")
        return NEVER if request.steps_run else _MOVES
