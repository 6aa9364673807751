"""A predicted distribution of the output length (`length_quantiles`), and what is left of it on the way."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import inf

from simsched.errors import InputError
from simsched.request import RequestView


def quantiles_of(request: RequestView) -> tuple[float, ...]:
    """Its equally probable lengths, rising.

    Raises:
        InputError: the request has none.
    """
    points = request.length_quantiles
    if points is None:
        raise InputError(
            f"request {request.request_id}: no length_quantiles; expected a trace with them, or a predictor"
        )
    return points


def mean_beyond(points: Sequence[float], age: float) -> float:
    """E[X given X > age] of equally probable points; the last of them once all are outlived."""
    first = bisect_right(points, age)
    beyond = points[first:]
    return sum(beyond) / len(beyond) if beyond else points[-1]


def gittins_index(costs: Sequence[float], attained: float) -> float:
    """inf over D of E[min(X - a, D) given X > a] / P(X - a <= D given X > a), of equally probable points.

    The infimum is at one of the points: stop when the k-th of those beyond a is reached. Once all are
    outlived, it is the last point less a, which is below 0: the end is overdue.
    """
    first = bisect_right(costs, attained)
    number = len(costs) - first
    if not number:
        return costs[-1] - attained
    best, spent = inf, 0.0
    for done in range(1, number + 1):
        left = costs[first + done - 1] - attained
        spent += left
        best = min(best, (spent + left * (number - done)) / done)
    return best
