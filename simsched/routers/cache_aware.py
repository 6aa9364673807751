"""The replica that has served the longest prefix of this prompt, unless the load is out of balance.

Sources of the rule, each compared with the router itself (`python -m validate routers`):

    vllm-router 0.1.17, src/policies/cache_aware.rs      cache-aware
    sglang-router 0.3.2, src/policies/cache_aware.rs     cache-aware(holder=first)

SGLang's routers before had `on_miss=smallest-tree`, too. vllm-router compares the prompt's tokens, SGLang's
the characters of its text; here it is tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.routers.base import Replicas, RoutedRequest, Router, least, register
from simsched.routers.prefix_tree import PrefixTree
from simsched.routers.sent_prefixes import beginning
from simsched.workload.content import Stretch


@register("cache-aware")
@dataclass(eq=False)
class CacheAware(Router):
    """Out of balance, that is if the most and the fewest requests in flight differ by more than
    `balance_abs_threshold` and by more than the factor `balance_rel_threshold`: the fewest. Else a replica
    with the longest match, if that is more than `cache_threshold` of the prompt; else `on_miss`."""

    cache_threshold: float = Field(default=0.3, ge=0, le=1)
    """Share of a prompt that must match."""
    balance_abs_threshold: int = Field(default=64, ge=0)
    """Requests in flight."""
    balance_rel_threshold: float = Field(default=1.5, ge=1, lt=inf)
    """Most requests in flight over fewest."""
    holder: Literal["least-requests", "first"] = "least-requests"
    """Of several replicas with the longest match: the one with the fewest requests in flight, or the one that
    was sent these tokens first."""
    on_miss: Literal["least-requests", "smallest-tree"] = "least-requests"
    """Where a prompt without a match goes: to the fewest requests in flight, or where least is remembered."""
    eviction_interval: float = Field(default=120.0, gt=0, lt=inf)
    """Seconds between two clearings of the tree."""
    max_tree_tokens: int = Field(default=2**22, ge=1)
    """Tokens of prompts that stay remembered for each replica (vllm-router: 2**25 characters, eight to a
    token in its keys; SGLang: 2**26 of text)."""

    def start(self, num_replicas: int, seed: int) -> None:
        super().start(num_replicas, seed)
        self._sent = PrefixTree(num_replicas)
        self._next_eviction = self.eviction_interval

    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        if now >= self._next_eviction:
            self._sent.evict(self.max_tree_tokens)
            self._next_eviction = (now // self.eviction_interval + 1) * self.eviction_interval
        prefix = beginning(request.prefix, request.num_prompt_tokens)
        chosen = self._choose(prefix, request.num_prompt_tokens, replicas.in_flight)
        self._sent.insert(prefix, request.num_prompt_tokens, chosen)
        return chosen

    def _choose(self, prefix: Sequence[Stretch], num_prompt_tokens: int, in_flight: list[int]) -> int:
        most, fewest = max(in_flight), min(in_flight)
        if most - fewest > self.balance_abs_threshold and most > fewest * self.balance_rel_threshold:
            return least(in_flight)
        if self.holder == "first":
            longest, holder = self._sent.match(prefix)
            if holder is not None and longest / num_prompt_tokens > self.cache_threshold:
                return holder
        elif prefix:
            matched = self._sent.matched_by(prefix)
            longest = max(matched)
            if longest / num_prompt_tokens > self.cache_threshold:
                holders = [replica for replica, tokens in enumerate(matched) if tokens == longest]
                return min(holders, key=in_flight.__getitem__)
        return least(in_flight if self.on_miss == "least-requests" else self._sent.tokens)
