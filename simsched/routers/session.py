"""A session's turns go to one replica, where their history is cached: consistent hashing of the session's id.

Source of the rule: vllm-router 0.1.17, src/policies/consistent_hash.rs (160 virtual nodes a worker), and the
production stack's `session` routing. With the workers' URLs, each session goes where vllm-router sends a
request with that `X-Session-Id` (`python -m validate routers`).
"""

from __future__ import annotations

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.errors import InputError
from simsched.routers.base import Replicas, RoutedRequest, Router, register
from simsched.routers.furc_hash import ring_point
from simsched.routers.ring import HashRing


@register("session")
@dataclass(eq=False)
class Session(Router):
    """A request without a session is one of its own."""

    looks_at_replicas = False
    routes_by = ("session_id",)

    virtual_nodes: int = Field(default=160, ge=1, le=100_000)
    """Points of each replica on the ring."""
    workers: list[str] = Field(default_factory=list)
    """The URL of each replica, as vllm-router has it; none: names and a hash function of our own."""

    def start(self, num_replicas: int, seed: int) -> None:
        """Raises:
        InputError: there are not as many URLs as replicas.
        """
        super().start(num_replicas, seed)
        if not self.workers:
            self._ring = HashRing(num_replicas, self.virtual_nodes)
        elif len(self.workers) != num_replicas:
            given = f"{len(self.workers)} workers of {num_replicas} replicas"
            raise InputError(f"router session: {given}; expected one URL each")
        else:
            self._ring = HashRing(num_replicas, self.virtual_nodes, names=self.workers, point=ring_point)

    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        key = request.session_id or request.request_id
        return self._ring.owner(f"header:x-session-id:{key}" if self.workers else key)
