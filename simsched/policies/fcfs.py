"""First come, first served: vLLM's default."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.request import RequestView


@register("fcfs")
@dataclass(eq=False)
class Fcfs(Policy):
    """By arrival."""

    preemptive: bool = False

    builtin = "fcfs"

    def priority(self, request: RequestView, now: float) -> float:
        return request.arrival_time

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER
