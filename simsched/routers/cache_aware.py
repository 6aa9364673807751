"""The replica that has served the longest prefix of this prompt, unless the load is out of balance.

Sources of the rule: SGLang, sgl-router/src/policies/cache_aware.rs and tree.rs (`on_miss=smallest-tree`), and
vllm-router 0.1.17, src/policies/cache_aware.rs (`on_miss=least-requests`), whose defaults these are. They
compare characters of the prompt's text; here it is tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.routers.base import Replicas, RoutedRequest, Router, least, register
from simsched.routers.sent_prefixes import SentPrefixes, beginning
from simsched.workload.content import Stretch


@register("cache-aware")
@dataclass(eq=False)
class CacheAware(Router):
    """Out of balance, that is if the most and the fewest requests in flight differ by more than
    `balance_abs_threshold` and by more than the factor `balance_rel_threshold`: the fewest. Else the replica
    with the longest match, if that is more than `cache_threshold` of the prompt; else `on_miss`."""

    cache_threshold: float = Field(default=0.3, ge=0, le=1)
    """Share of a prompt that must match."""
    balance_abs_threshold: int = Field(default=64, ge=0)
    """Requests in flight."""
    balance_rel_threshold: float = Field(default=1.5, ge=1, lt=inf)
    """Most requests in flight over fewest."""
    on_miss: Literal["least-requests", "smallest-tree"] = "least-requests"
    """Where a prompt without a match goes: to the fewest requests in flight, or where least is remembered."""
    eviction_interval: float = Field(default=120.0, gt=0, lt=inf)
    """Seconds between two clearings of the tree."""
    max_tree_tokens: int = Field(default=2**23, ge=1)
    """Tokens of prompts that stay remembered for each replica (vllm-router: 2**25 characters, four to a
    token; SGLang: 2**26)."""

    def start(self, num_replicas: int, seed: int) -> None:
        super().start(num_replicas, seed)
        self._sent = SentPrefixes(num_replicas)
        self._next_eviction = self.eviction_interval

    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        if now >= self._next_eviction:
            self._sent.evict(self.max_tree_tokens)
            self._next_eviction = (now // self.eviction_interval + 1) * self.eviction_interval
        prefix = beginning(request.prefix, request.num_prompt_tokens)
        chosen = self._choose(prefix, request.num_prompt_tokens, replicas.in_flight, now)
        self._sent.insert(prefix, request.num_prompt_tokens, chosen, now)
        return chosen

    def _choose(
        self, prefix: Sequence[Stretch], num_prompt_tokens: int, in_flight: list[int], now: float
    ) -> int:
        most, fewest = max(in_flight), min(in_flight)
        if most - fewest > self.balance_abs_threshold and most > fewest * self.balance_rel_threshold:
            return least(in_flight)
        tokens, holder = self._sent.match(prefix, now)
        if holder is not None and tokens / num_prompt_tokens > self.cache_threshold:
            return holder
        return least(in_flight if self.on_miss == "least-requests" else self._sent.tokens)
