"""llm-d's endpoint picker: a weighted sum of scores between 0 and 1, the highest wins.

Source: llm-d-inference-scheduler 520af478, pkg/epp/framework/plugins/scheduling/scorer (queuedepth,
kvcacheutilization, prefix, preciseprefixcache, runningrequests) and requestcontrol/dataproducer/
approximateprefix. Weights: its sample configuration with prefix, KV and queue scorers (2 : 1 : 1); metrics
are scraped every 50 ms, and KV events come 50 ms late (BLIS, docs/guide/routing.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.routers.base import Replicas, Reporting, RoutedRequest, Router, below, register
from simsched.routers.sent_prefixes import SentPrefixes, beginning

BLOCK = 16  # tokens in a block of its approximate prefix index


@register("llm-d")
@dataclass(eq=False)
class LlmD(Router):
    """Equal scores: any of them, at random.

    With `kv_events` the prefix's score is that of the precise scorer: how much of the prompt an engine has,
    scaled to 0..1 between the least and the most of those engines that have any of it; 0 for the others.
    """

    prefix: float = Field(default=2.0, ge=0, lt=inf)
    """Weight of the share of the prompt's blocks that the replica is believed to have."""
    kv_usage: float = Field(default=1.0, ge=0, lt=inf)
    """Weight of 1 - the share of KV blocks in use."""
    queue: float = Field(default=1.0, ge=0, lt=inf)
    """Weight of (longest queue - own queue) / (longest - shortest); 1 where all are alike."""
    running: float = Field(default=0.0, ge=0, lt=inf)
    """Weight of the same for running requests."""
    interval: float = Field(default=0.05, ge=0, lt=inf)
    """Seconds between two looks at the engines' metrics; 0: always fresh."""
    max_prefix_tokens: int = Field(default=4096, ge=BLOCK)
    """Tokens of a prompt that are looked up (256 blocks of 16)."""
    cache_tokens: int = Field(default=31_250 * BLOCK, ge=BLOCK)
    """Tokens remembered for each replica (31,250 blocks of 16)."""
    kv_events: bool = False
    """Go by what the engines publish of their caches, in place of the prompts that were sent."""
    event_delay: float = Field(default=0.05, ge=0, lt=inf)
    """Seconds that such news takes."""

    def start(self, num_replicas: int, seed: int) -> None:
        super().start(num_replicas, seed)
        self._sent = SentPrefixes(num_replicas)
        self._num_reports = -1
        self._terms: list[tuple[float, float, float]] = []  # of each score, all but the prefix's
        self._best: list[int] = []  # where none has anything of the prompt

    def reporting(self) -> Reporting:
        return Reporting("scraped", self.interval, block_events=self.event_delay if self.kv_events else None)

    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        if replicas.num_reports != self._num_reports:
            self._num_reports = replicas.num_reports
            self._look(replicas)
        if replicas.blocks is not None:
            return self._choose(_among_those_that_have(replicas.blocks.matched_by(request)))
        # What no other prompt shares is looked up too, and never found.
        tokens = min(request.num_prompt_tokens, self.max_prefix_tokens)
        prefix = beginning(request.prefix, tokens)
        total = tokens // BLOCK
        shares = [held // BLOCK / total for held in self._sent.matched_by(prefix)] if prefix and total else []
        chosen = self._choose(shares)
        self._sent.insert(prefix, tokens, chosen, now)
        self._sent.evict_from(chosen, self.cache_tokens)
        return chosen

    def _choose(self, shares: Sequence[float]) -> int:
        """By the prefix's score of each replica; empty: none has anything of it."""
        best = self._best
        if shares:
            best = _highest(
                [
                    self.prefix * share + usage + queue + running
                    for share, (usage, queue, running) in zip(shares, self._terms, strict=True)
                ]
            )
        return best[below(self.random, len(best))]

    def _look(self, replicas: Replicas) -> None:
        """The engines' metrics are new."""
        self._terms = [
            (self.kv_usage * (1 - usage), self.queue * queue, self.running * running)
            for usage, queue, running in zip(
                replicas.kv_usage,
                _shorter_is_better(replicas.waiting),
                _shorter_is_better(replicas.running),
                strict=True,
            )
        ]
        self._best = _highest([usage + queue + running for usage, queue, running in self._terms])


def _among_those_that_have(matched: Sequence[int]) -> list[float]:
    having = [tokens for tokens in matched if tokens]
    if not having:
        return []
    least, most = min(having), max(having)
    if least == most:
        return [1.0 if tokens else 0.0 for tokens in matched]
    return [(tokens - least) / (most - least) if tokens else 0.0 for tokens in matched]


def _highest(scores: Sequence[float]) -> list[int]:
    best = max(scores)
    return [k for k, score in enumerate(scores) if score == best]


def _shorter_is_better(counts: Sequence[int]) -> list[float]:
    longest, shortest = max(counts), min(counts)
    if longest == shortest:
        return [1.0] * len(counts)
    return [(longest - count) / (longest - shortest) for count in counts]
