"""P-PAS and P-PAS+ (arXiv 2608.15171): the token budget by what runs."""

from __future__ import annotations

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.policies.engine_view import EngineView
from simsched.request import RequestView, left_to_compute


@register("p-pas")
@dataclass(eq=False)
class PPas(Policy):
    """First come, first served, with a small token budget where prefills would hold up decodes: `small`
    if at least two prefills and a decode are there, `large` otherwise. `plus` (P-PAS+): also `small` for
    one prefill with at least `long_prefill` tokens left beside at least two decodes.

    Prefills are the running requests in the midst of theirs and those that may take a free place; a
    budget is never above the engine's own (`max_num_batched_tokens`).
    """

    preemptive: bool = False
    plus: bool = False
    small: int = Field(default=1280, ge=1)
    large: int = Field(default=16_384, ge=1)
    long_prefill: int = Field(default=65_536, ge=1)

    def priority(self, request: RequestView, now: float) -> float:
        return request.arrival_time

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER

    def token_budget(self, engine: EngineView) -> int:
        running, decodes = engine.num_running, engine.num_decodes
        places = max(0, engine.max_num_seqs - running)
        if running - decodes + min(engine.num_waiting, places) >= 2 and decodes >= 1:
            return self.small
        if self.plus and decodes >= 2:
            lefts = map(left_to_compute, engine.running if running > decodes else ())
            prefills = [left for left in lefts if left > 1]
            if places and engine.num_waiting:
                prefills += map(left_to_compute, engine.waiting[:places])
            if any(left >= self.long_prefill for left in prefills):
                return self.small
        return self.large
