"""TRAIL (ICLR 2025): shortest predicted remaining first, and preemption only early in an answer."""

from __future__ import annotations

from bisect import bisect_right
from math import ceil, inf

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import Change, Policy, register
from simsched.policies.distribution import mean_beyond, quantiles_of
from simsched.request import RequestView

_IMPROVES = Change(while_running="improves")


@register("trail")
@dataclass(eq=False)
class Trail(Policy):
    """By the predicted tokens still to come. A running request may be displaced only until it has generated
    `c` times its first prediction; then it is ahead of all that may (Shahout et al., arXiv 2410.01035). c = 0
    is not preemptive at all, a large c is shortest remaining first.

    Every `every` tokens the length is predicted anew; in between the remainder counts down. The paper reads
    the model's own embeddings for that and smooths what they say by Bayes' rule. Here the new prediction is
    Bayes' rule alone, the mean of the predicted distribution beyond what has been generated: it knows no more
    than the distribution did. How much embeddings know is set by how good that is (`--tau`, `--predictor`).
    """

    c: float = Field(default=0.8, ge=0, lt=inf)
    every: int = Field(default=8, ge=1)
    """Tokens between two predictions; the authors' code."""

    reads = "length_quantiles"

    def __post_init__(self) -> None:
        if self.c == 0:
            self.preemptive = False

    def priority(self, request: RequestView, now: float) -> tuple[int, float]:
        points, tokens = quantiles_of(request), request.num_output_tokens
        predicted = mean_beyond(points, tokens - tokens % self.every)
        return int(not self._is_safe(request, points)), predicted - tokens

    def _is_safe(self, request: RequestView, points: tuple[float, ...]) -> bool:
        """Has it generated so much that it may not be displaced any more?"""
        return request.steps_run > 0 and request.num_output_tokens >= self._safe_from(points)

    def _safe_from(self, points: tuple[float, ...]) -> float:
        return self.c * mean_beyond(points, 0)

    def next_change(self, request: RequestView, now: float) -> Change:
        points, tokens = quantiles_of(request), request.num_output_tokens
        steps = [] if self._is_safe(request, points) else [max(1, ceil(self._safe_from(points) - tokens))]
        place = bisect_right(points, tokens - tokens % self.every)
        if place < len(points):
            # the prediction changes where it is made with a point outlived
            outlived = max(self.every, self.every * ceil(points[place] / self.every))
            steps.append(max(1, outlived - tokens))
        return Change(after_steps_run=min(steps), while_running="improves") if steps else _IMPROVES

    def changes_while_waiting(self) -> bool:
        return False
