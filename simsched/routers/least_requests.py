"""The replica with the fewest requests in flight (join the shortest queue)."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from simsched.routers.base import Replicas, RoutedRequest, Router, least, register


@register("least-requests")
@dataclass(eq=False)
class LeastRequests(Router):
    """Counts what it has sent and not got back; of equals, the first."""

    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        return least(replicas.in_flight)
