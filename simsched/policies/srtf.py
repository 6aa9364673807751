"""Shortest remaining time first."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from simsched.policies.base import Change, Policy, register
from simsched.policies.predicted import needed
from simsched.request import RequestView

_IMPROVES = Change(while_running="improves")


@register("srtf")
@dataclass(eq=False)
class Srtf(Policy):
    """By the output tokens still to come, of the length that its predictor (the oracle) gives. A request
    that outlives its prediction keeps going: its remainder turns negative."""

    reads = "predicted_length"
    predictor = "oracle"
    drift_per_token = -1.0

    def priority(self, request: RequestView, now: float) -> float:
        return needed(request.predicted_length, "predicted_length", request) - request.num_output_tokens

    def next_change(self, request: RequestView, now: float) -> Change:
        return _IMPROVES
