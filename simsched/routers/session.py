"""A session's turns go to one replica, where their history is cached: consistent hashing of the session's id.

Source of the rule: vllm-router 0.1.17, src/policies/consistent_hash.rs (160 virtual nodes a worker), and the
production stack's `session` routing.
"""

from __future__ import annotations

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.routers.base import Replicas, RoutedRequest, Router, register
from simsched.routers.ring import HashRing


@register("session")
@dataclass(eq=False)
class Session(Router):
    """A request without a session is one of its own."""

    looks_at_replicas = False

    virtual_nodes: int = Field(default=160, ge=1, le=100_000)
    """Points of each replica on the ring."""

    def start(self, num_replicas: int, seed: int) -> None:
        super().start(num_replicas, seed)
        self._ring = HashRing(num_replicas, self.virtual_nodes)

    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        return self._ring.owner(request.session_id or request.request_id)
