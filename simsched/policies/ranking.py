"""Learned ranking (Fu et al., NeurIPS 2024): a score that puts short answers first."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.policies.predicted import needed
from simsched.request import RequestView


@register("ranking")
@dataclass(eq=False)
class Ranking(Policy):
    """By predicted score, the lowest (expected shortest) first; the score never changes."""

    reads = "score"

    def priority(self, request: RequestView, now: float) -> float:
        return needed(request.score, "score", request)

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER
