"""Highest response ratio next: who has waited longest for the work that it asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, register
from simsched.policies.predicted import needed
from simsched.policies.sglang_queue import SGLangQueue
from simsched.request import RequestView

_MOVES = Change(after_steps_run=1, after_time=0.0)


@register("hrrn")
@dataclass(eq=False)
class Hrrn(SGLangQueue):
    """The largest response ratio (wait + service) / service first (Brinch Hansen, 1971), with the service
    proportional to the tokens of the prompt that are not cached, or to the output's predicted length. What a
    token takes makes no difference: the order is that of wait / tokens.

    SGLang's `--schedule-policy hrrn` (#32911) counts the uncached tokens too, and as the wait the tokens that
    the engine has worked through meanwhile, which is the wait in seconds where it works at an even pace. As
    there, requests are served in order of arrival while more than `longest_queue` wait, and of those that
    share a prefix which is not cached all but the earliest come last (as in `lpm`). With the output as the
    service, which is not SGLang's, neither is done. Only the queue is ordered; who has run goes first, in
    order of arrival. One overtakes another because time goes by, so those who wait are asked in every step;
    as long as nobody waits a run leaps.
    """

    service: Literal["uncached", "output"] = "uncached"
    """What a request asks: prompt tokens that are not cached, or predicted output tokens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.service == "output":
            self.reads = "predicted_length"  # type: ignore[misc]
            self.reads_cache = self.reads_prompts = False  # type: ignore[misc]

    def on_queue(self, waiting: Sequence[RequestView], now: float) -> Iterable[str]:
        return super().on_queue(waiting, now) if self.service == "uncached" else ()

    def priority(self, request: RequestView, now: float) -> tuple[int, float]:
        ratio = (now - request.arrival_time) / self._tokens(request)
        return (1, -ratio) if self.preemptive else self.place(request, -ratio)

    def _tokens(self, request: RequestView) -> float:
        if self.service == "uncached":
            return max(1, request.num_prompt_tokens - request.num_cached_tokens)
        return max(1.0, needed(request.predicted_length, "predicted_length", request))

    def next_change(self, request: RequestView, now: float) -> Change:
        if self.preemptive:
            return Change(after_time=0.0, while_running="any")
        return NEVER if request.steps_run else _MOVES
