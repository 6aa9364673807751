"""Shortest job first."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.policies.predicted import needed
from simsched.request import RequestView


@register("sjf")
@dataclass(eq=False)
class Sjf(Policy):
    """By output length, as its predictor (the oracle, unless another is named) gives it."""

    preemptive: bool = False

    reads = "predicted_length"
    predictor = "oracle"

    def priority(self, request: RequestView, now: float) -> float:
        return needed(request.predicted_length, "predicted_length", request)

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER
