"""Each replica in turn."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from simsched.routers.base import Replicas, RoutedRequest, Router, register


@register("round-robin")
@dataclass(eq=False)
class RoundRobin(Router):
    """Request k goes to replica k modulo their number, whatever their load."""

    looks_at_replicas = False

    def start(self, num_replicas: int, seed: int) -> None:
        super().start(num_replicas, seed)
        self._next = 0

    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        chosen = self._next
        self._next = (chosen + 1) % len(replicas)
        return chosen
