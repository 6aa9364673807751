"""Longest prefix match first, SGLang's cache-aware order."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, register
from simsched.policies.sglang_queue import SGLangQueue
from simsched.request import RequestView

_RUNS_AT_ONCE = Change(after_steps_run=1)


@register("lpm")
@dataclass(eq=False)
class LongestPrefixMatch(SGLangQueue):
    """By the tokens of the prompt that the cache holds, the most first (Zheng et al., NeurIPS 2024; SGLang's
    `--schedule-policy lpm`).

    As in SGLang, requests are served in order of arrival while more than `longest_queue` wait. Of those with
    no more than `in_batch_check` tokens in the cache that share their first `in_batch_shared` tokens, the
    earliest keeps its place and the others come last, so that they find the prefix cached. Prompts are
    compared by KV block, where SGLang goes by token. Only the queue is ordered; who has run goes first, in
    order of arrival, also back in the queue.
    """

    def priority(self, request: RequestView, now: float) -> tuple[int, float]:
        return self.place(request, -request.num_cached_tokens)

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER if request.steps_run else _RUNS_AT_ONCE

    def changes_while_waiting(self) -> bool:
        return False
