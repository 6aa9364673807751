"""Two replicas at random, and of these the one with fewer requests in flight.

Source of the rule's details: vllm-router 0.1.17, src/policies/power_of_two.rs (two different ones; the first
drawn wins a tie).
"""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from simsched.routers.base import Replicas, RoutedRequest, Router, below, register


@register("power-of-two")
@dataclass(eq=False)
class PowerOfTwo(Router):
    """Nearly as balanced as looking at all of them (Mitzenmacher 2001), for two looks."""

    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        in_flight = replicas.in_flight
        count = len(in_flight)
        if count == 1:
            return 0
        first = below(self.random, count)
        second = below(self.random, count - 1)
        second += second >= first
        return first if in_flight[first] <= in_flight[second] else second
