"""Dynamo's KV router: the replica where the prompt's missing blocks and the blocks in use cost least.

Source: dynamo lib/kv-router/src/scheduling/selector/default.rs. In blocks,

    cost = prefill_load_scale * max(0, prefill - overlap_credit * overlap)
           + decode + active_weight * requests in flight

prefill: prompt tokens that the replica has still to compute, by the router's own estimate, and this
prompt's. overlap: blocks of this prompt that it is believed to have. decode: blocks of the requests in
flight there, with this one's. Without `kv_events` it believes what it has sent, and beliefs expire (Dynamo's
indexer without KV events); with them, it believes what the engines publish.
"""

from __future__ import annotations

from math import exp, inf

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.routers.base import NO_REPORTS, Replicas, Reporting, RoutedRequest, Router, register
from simsched.routers.sent_prefixes import SentPrefixes, beginning


class InFlight:
    """A request in flight: what of its prompt was to be computed, and its blocks."""

    __slots__ = ("blocks", "prefill_tokens")

    def __init__(self, prefill_tokens: int, blocks: float) -> None:
        self.prefill_tokens = prefill_tokens
        self.blocks = blocks


@register("dynamo")
@dataclass(eq=False)
class Dynamo(Router):
    """`temperature` 0: the least cost, of equals any. Above: a softmax over costs scaled to 0..1."""

    overlap_credit: float = Field(default=1.0, ge=0, le=1)
    """What a cached block takes off the prefill."""
    prefill_load_scale: float = Field(default=1.0, ge=0, lt=inf)
    """What a block of prefill counts, a block in use being 1."""
    active_weight: float = Field(default=0.0, ge=0, lt=inf)
    """What a request in flight counts, in blocks."""
    temperature: float = Field(default=0.0, ge=0, lt=inf)
    """Of the softmax."""
    block_size: int = Field(default=16, ge=1)
    """Tokens in a block."""
    ttl: float = Field(default=120.0, gt=0, lt=inf)
    """Seconds after its last use that a block is believed to be cached."""
    kv_events: bool = False
    """Go by what the engines publish of their caches, in place of the prompts that were sent."""
    event_delay: float = Field(default=0.05, ge=0, lt=inf)
    """Seconds that such news takes."""

    def start(self, num_replicas: int, seed: int) -> None:
        super().start(num_replicas, seed)
        self._sent = SentPrefixes(num_replicas)
        self._prefill_tokens = [0] * num_replicas
        self._blocks = [0.0] * num_replicas
        self._in_flight: dict[str, InFlight] = {}

    def reporting(self) -> Reporting:
        return Reporting(block_events=self.event_delay) if self.kv_events else NO_REPORTS

    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        size, tokens = self.block_size, request.num_prompt_tokens
        prefix = beginning(request.prefix, tokens)
        if replicas.blocks is not None:
            overlap_tokens = replicas.blocks.matched_by(request)
        else:
            self._sent.expire(now - self.ttl)
            overlap_tokens = self._sent.matched_by(prefix)
        blocks = -(-tokens // size)
        costs = [
            self.prefill_load_scale
            * max(0.0, (self._prefill_tokens[k] + tokens - self.overlap_credit * overlap_tokens[k]) / size)
            + self._blocks[k]
            + blocks
            + self.active_weight * replicas.in_flight[k]
            for k in range(len(replicas))
        ]
        chosen = self._pick(costs)
        sent = InFlight(tokens - overlap_tokens[chosen], blocks)
        self._in_flight[request.request_id] = sent
        self._prefill_tokens[chosen] += sent.prefill_tokens
        self._blocks[chosen] += sent.blocks
        if not self.kv_events:
            self._sent.insert(prefix, tokens, chosen, now)
        return chosen

    def _pick(self, costs: list[float]) -> int:
        lowest, highest = min(costs), max(costs)
        if self.temperature == 0 or lowest == highest:
            return self.random.choice([k for k, cost in enumerate(costs) if cost == lowest])
        scale = (highest - lowest) * self.temperature
        return self.random.choices(range(len(costs)), [exp((lowest - cost) / scale) for cost in costs])[0]

    def on_first_token(self, request: RoutedRequest, replica: int, now: float) -> None:
        sent = self._in_flight[request.request_id]
        self._prefill_tokens[replica] -= sent.prefill_tokens
        sent.prefill_tokens = 0

    def on_finish(self, request: RoutedRequest, replica: int, now: float) -> None:
        sent = self._in_flight.pop(request.request_id)
        self._prefill_tokens[replica] -= sent.prefill_tokens
        self._blocks[replica] -= sent.blocks
