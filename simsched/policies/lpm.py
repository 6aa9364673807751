"""Longest prefix match first, SGLang's cache-aware order."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.request import RequestView

_RUNS_AT_ONCE = Change(after_steps_run=1)


@register("lpm")
@dataclass(eq=False)
class LongestPrefixMatch(Policy):
    """By the tokens of the prompt that the cache holds, the most first (Zheng et al., NeurIPS 2024; SGLang's
    `--schedule-policy lpm`).

    Only the queue is ordered; who has run goes first, in order of arrival, also back in the queue. SGLang
    turns to first come, first served while more than 128 requests wait, and puts requests off that share a
    prefix with one of the same batch: a policy that orders requests does not see the queue; neither is here.
    """

    preemptive: bool = False

    reads_cache = True

    def priority(self, request: RequestView, now: float) -> tuple[int, float]:
        if request.steps_run:
            return 0, request.arrival_time
        return 1, -request.num_cached_tokens

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER if request.steps_run else _RUNS_AT_ONCE

    def changes_while_waiting(self) -> bool:
        return False
