"""Prompts that begin alike go to one replica, unless it has too much to do.

Source of the rule: SGLang's model gateway, sgl-model-gateway/src/policies/prefix_hash.rs. The first tokens
are hashed to a ring. Where its choice has more than `load_factor` times the mean load (the new request
counted), the least loaded replica takes the request, if it has less than that.
"""

from __future__ import annotations

from math import inf

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.routers.base import Replicas, RoutedRequest, Router, least, register
from simsched.routers.ring import HashRing


@register("prefix-hash")
@dataclass(eq=False)
class PrefixHash(Router):
    """A prompt that shares its beginning with none is hashed by its own id."""

    prefix_tokens: int = Field(default=256, ge=1)
    """Tokens of a prompt's beginning that are hashed."""
    load_factor: float = Field(default=1.25, ge=1, lt=inf)
    """Largest load that the ring's choice may have, over the mean."""
    virtual_nodes: int = Field(default=160, ge=1, le=100_000)
    """Points of each replica on the ring."""

    def start(self, num_replicas: int, seed: int) -> None:
        super().start(num_replicas, seed)
        self._ring = HashRing(num_replicas, self.virtual_nodes)

    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        chosen = self._ring.owner(self._key(request))
        in_flight = replicas.in_flight
        total = sum(in_flight)
        # With nothing in flight every replica may take it.
        limit = (total + 1) / len(in_flight) * self.load_factor if total else inf
        if in_flight[chosen] <= limit:
            return chosen
        lightest = least(in_flight)
        return lightest if in_flight[lightest] <= limit else chosen

    def _key(self, request: RoutedRequest) -> str:
        # The stretch with the last of these tokens stands for all of them.
        hashed = min(self.prefix_tokens, request.num_prompt_tokens)
        for node, end in request.prefix:
            if end >= hashed:
                return f"prefix-{node}"
        return f"request-{request.request_id}"
