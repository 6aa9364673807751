"""Any replica, at random."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from simsched.routers.base import Replicas, RoutedRequest, Router, register


@register("random")
@dataclass(eq=False)
class RandomChoice(Router):
    """Every replica with the same probability."""

    looks_at_replicas = False

    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        return self.random.randrange(len(replicas))
