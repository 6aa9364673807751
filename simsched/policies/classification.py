"""Length classes (the paper's baseline): a classifier's bucket of the output length, the shortest first."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.policies.predicted import needed
from simsched.request import RequestView


@register("classification")
@dataclass(eq=False)
class Classification(Policy):
    """By predicted class. The buckets are the predictor's: classes that come with the trace are used as
    they are, an emulated classifier is made with these."""

    buckets: Literal["fixed", "percentile"] = "fixed"
    """Classes of equal width up to `max_length`, as in the paper, or holding equal shares of the requests."""
    num_buckets: int = Field(default=10, ge=2, le=10_000)
    max_length: int = Field(default=8192, ge=2)
    """Tokens; the paper's 10 buckets are 8192 / 10 wide."""

    reads = "predicted_class"

    def priority(self, request: RequestView, now: float) -> float:
        return needed(request.predicted_class, "predicted_class", request)

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER
