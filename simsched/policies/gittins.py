"""The Gittins index of a predicted distribution of the output length."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import ceil

from pydantic.dataclasses import dataclass

from simsched.policies.base import Change, Policy, register
from simsched.policies.distribution import gittins_index, quantiles_of
from simsched.request import RequestView

_IMPROVES = Change(while_running="improves")


@register("gittins")
@dataclass(eq=False)
class Gittins(Policy):
    """The smallest index inf over D of E[min(X - a, D) given X > a] / P(X - a <= D given X > a), where a
    request has generated a tokens: what a chance to see it done costs at best (Gittins, 1979; it minimises
    the mean latency on one server where lengths are unknown). With a distribution of one point it is shortest
    remaining first. A request that outlives its distribution keeps going, as under `srtf`.
    """

    reads = "length_quantiles"

    def priority(self, request: RequestView, now: float) -> float:
        return gittins_index(self.costs(request), self.attained(request))

    def costs(self, request: RequestView) -> Sequence[float]:
        """What it will have cost, equally probable values."""
        return quantiles_of(request)

    def attained(self, request: RequestView) -> float:
        """What it has cost."""
        return request.num_output_tokens

    def next_change(self, request: RequestView, now: float) -> Change:
        # between two points the index falls with every token; past one it jumps
        points = quantiles_of(request)
        place = bisect_right(points, request.num_output_tokens)
        if place == len(points):
            return _IMPROVES
        left = max(1, ceil(points[place] - request.num_output_tokens))
        return Change(after_steps_run=left, while_running="improves")

    def changes_while_waiting(self) -> bool:
        return False
