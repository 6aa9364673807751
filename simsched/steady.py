"""Whether a run was in steady state: where its warm-up ends, and whether its backlog still grows.

The backlog is counted in two ways: requests that have arrived and are not finished, and the output tokens
that those still need. A run is steady if neither grows over the arrivals that follow the warm-up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simsched.workload.trace import FloatArray, IntArray

SPANS = 1000
"""Equal spans of the arrivals, in which the backlog is averaged."""
BATCH = 5
"""Spans in a batch of MSER-5."""
GROWING = 0.002
"""A backlog grows if it keeps more than this share of what arrives; less would take days to matter."""
KNOWN = 0.02
"""A run is steady if it excludes, with 95 %, that the backlog keeps this share of what arrives."""
LEVEL = 0.05
_GROUPS = 20  # of the spans behind the warm-up, for the trend


@dataclass(frozen=True)
class Trend:
    """A least-squares slope and its 95 % interval."""

    slope: float
    low: float
    high: float

    def grows(self, arriving: float) -> bool:
        """Is this the growth of a backlog, of which so much arrives per second?"""
        return self.low > 0 and self.slope > GROWING * arriving


@dataclass(frozen=True)
class SteadyState:
    """What a run's backlog says."""

    warmup_end: float
    """Seconds on the run's clock."""
    arrivals_end: float
    """When the last request arrives."""
    requests: Trend
    """Requests/s by which the backlog grows between the two."""
    tokens: Trend
    """Output tokens/s by which the work that is left grows there."""
    request_rate: float
    """Requests/s that arrive there,"""
    token_rate: float
    """and output tokens/s that they ask for."""

    @property
    def growing(self) -> bool:
        """Does either grow, significantly and by more than `GROWING` of what arrives?"""
        return self.requests.grows(self.request_rate) or self.tokens.grows(self.token_rate)

    @property
    def steady(self) -> bool:
        """Does neither grow, as far as the run is long enough to say so? Neither this nor `growing`: too
        short to tell."""
        known = self.requests.high < KNOWN * self.request_rate and self.tokens.high < KNOWN * self.token_rate
        return known and not self.growing


def steady_state(
    arrival: FloatArray,
    first_token: FloatArray,
    finish: FloatArray,
    num_output_tokens: IntArray,
    window: tuple[float, float] | None = None,
) -> SteadyState | None:
    """What the backlog of n requests says (times in seconds; NaN = never).

    Args:
        arrival, first_token, finish, num_output_tokens: (n,) each.
        window: from when to when to look; None: over all arrivals, without their warm-up, which is that of
            `mser5` and at most a quarter of them: what rises for longer is growth.

    Returns:
        None where there is no time between arrivals, or too few requests for a trend.
    """
    seen = _backlog(arrival, finish, window)
    if seen is None:
        return None
    edges, backlog, cut = seen
    work = remaining_tokens(arrival, first_token, finish, num_output_tokens, edges)
    warmup_end, end = float(edges[cut]), float(edges[-1])
    later = (arrival >= warmup_end) & (arrival <= end)
    seconds = end - warmup_end
    return SteadyState(
        warmup_end,
        end,
        _trend_of(edges, backlog, cut),
        trend(edges[cut:], work[cut:]),
        float(later.sum()) / seconds,
        float(num_output_tokens[later].sum()) / seconds,
    )


def growth(
    arrival: FloatArray, finish: FloatArray, window: tuple[float, float] | None = None
) -> Trend | None:
    """`SteadyState.requests` alone, of n requests of which some need not have begun (`steady_state`)."""
    seen = _backlog(arrival, finish, window)
    return None if seen is None else _trend_of(*seen)


def _backlog(
    arrival: FloatArray, finish: FloatArray, window: tuple[float, float] | None
) -> tuple[FloatArray, FloatArray, int] | None:
    """The edges of the spans, the mean backlog in each, and how many of them are warm-up."""
    if len(arrival) < _GROUPS:
        return None
    start, end = window or (float(arrival.min()), float(arrival.max()))
    end = min(end, float(arrival.max()))
    if not end > start:
        return None
    edges = np.linspace(start, end, SPANS + 1)
    backlog = mean_backlog(arrival, finish, edges)
    cut = min(mser5(backlog), SPANS // 4) if window is None else 0
    return edges, backlog, cut


def _trend_of(edges: FloatArray, backlog: FloatArray, cut: int) -> Trend:
    return trend((edges[cut:-1] + edges[cut + 1 :]) / 2, backlog[cut:])


def session_window(session: IntArray, arrival: FloatArray) -> tuple[float, float]:
    """Where sessions start at a rate and their later turns wait for answers: from when nearly as many turns
    arrive as sessions started make (99 % of all turns come within that after their session's start), and
    until when sessions start; seconds. What comes later is less and less.

    Args:
        session: (n,) the number of each request's session; below zero, it is one by itself.
        arrival: (n,) seconds.
    """
    inside = session >= 0
    start = np.full(int(session.max(initial=-1)) + 1, np.inf)
    np.minimum.at(start, session[inside], arrival[inside])
    since = np.zeros(len(arrival))
    since[inside] = arrival[inside] - start[session[inside]]
    return float(np.percentile(since, 99.0)), float((arrival - since).max())


def steady_state_of_sessions(
    arrival: FloatArray,
    first_token: FloatArray,
    finish: FloatArray,
    num_output_tokens: IntArray,
    window: tuple[float, float],
) -> SteadyState | None:
    """`steady_state` in a `session_window`, and behind the warm-up of what arrives before its end."""
    there = arrival <= window[1]
    times = arrival[there], first_token[there], finish[there], num_output_tokens[there]
    state = steady_state(*times)
    return state if state is None or state.warmup_end >= window[0] else steady_state(*times, window)


def mean_backlog(arrival: FloatArray, finish: FloatArray, edges: FloatArray) -> FloatArray:
    """(k,) requests in the system, averaged over each of the k spans between the edges (k + 1,)."""
    waited = _elapsed(arrival, edges) - _elapsed(finish[np.isfinite(finish)], edges)
    mean: FloatArray = np.diff(waited) / np.diff(edges)
    return mean


def _elapsed(events: FloatArray, times: FloatArray) -> FloatArray:
    """(k,) seconds since all earlier events, summed, at each time."""
    events = np.sort(events)
    sums = np.concatenate(([0.0], np.cumsum(events)))
    number = np.searchsorted(events, times, side="right")
    elapsed: FloatArray = number * times - sums[number]
    return elapsed


def remaining_tokens(
    arrival: FloatArray, first_token: FloatArray, finish: FloatArray, num_output_tokens: IntArray,
    times: FloatArray,
) -> FloatArray:  # fmt: skip
    """(k,) output tokens that the requests in the system still need, at each time.

    Tokens are taken to come evenly from the first to the last, as the times of a request say no more.
    """
    tokens = num_output_tokens.astype(float)
    left = _sum_until(arrival, tokens, times)
    done = np.isfinite(finish) & np.isfinite(first_token)
    first, last, amount = first_token[done], finish[done], tokens[done]
    at_once = last <= first
    left -= _sum_until(last[at_once], amount[at_once], times)
    first, last, amount = first[~at_once], last[~at_once], amount[~at_once]
    speed = amount / (last - first)
    left -= times * _sum_until(first, speed, times) - _sum_until(first, speed * first, times)
    left += times * _sum_until(last, speed, times) - _sum_until(last, speed * last, times)
    return left


def _sum_until(events: FloatArray, amounts: FloatArray, times: FloatArray) -> FloatArray:
    order = np.argsort(events, kind="stable")
    sums = np.concatenate(([0.0], np.cumsum(amounts[order])))
    total: FloatArray = sums[np.searchsorted(events[order], times, side="right")]
    return total


def mser5(values: FloatArray) -> int:
    """How many of the first values to leave out as warm-up.

    MSER-5 (White, Cobb and Spratt, "A comparison of five steady-state truncation heuristics for simulation",
    Winter Simulation Conference 2000): of the means of batches of five, leave out as many as make the
    standard error of the mean of the others least, at most half of them.
    """
    batches = values[: len(values) // BATCH * BATCH].reshape(-1, BATCH).mean(axis=1)
    m = len(batches)
    if m < 4:
        return 0
    # of the batches from the k-th on, for every k: sums from the end
    number = np.arange(m, 0, -1)
    totals = np.cumsum(batches[::-1])[::-1]
    squares = np.cumsum((batches**2)[::-1])[::-1]
    error = (squares - totals**2 / number) / number**2
    return BATCH * int(np.argmin(error[: m // 2 + 1]))


def trend(times: FloatArray, values: FloatArray) -> Trend:
    """The slope of values against time with an interval that allows for their correlation.

    Means of twenty groups are regressed on time; where neighbouring residuals still go together (a queue
    near saturation remembers for long), the variance of the slope grows by (1 + r) / (1 - r), r being their
    lag-one correlation with Kendall's correction for its bias, and its degrees of freedom shrink alike.
    """
    from scipy.special import stdtrit

    x, y = (np.array([part.mean() for part in np.array_split(each, _GROUPS)]) for each in (times, values))
    n = len(x)
    x = x - x.mean()
    spread = float((x**2).sum())
    slope = float((x * y).sum()) / spread
    residuals = y - y.mean() - slope * x
    variance = float((residuals**2).sum())
    if variance <= 1e-18 * max(1.0, float((y**2).sum())):
        return Trend(slope, slope, slope)
    r = float((residuals[1:] * residuals[:-1]).sum()) / variance
    r = min(0.9, max(0.0, r + (1 + 3 * r) / n))
    wider = (1 + r) / (1 - r)
    freedom = max(2.0, n / wider - 2)
    error = math.sqrt(variance / max(1.0, n - 2) / spread * wider)
    half = float(stdtrit(freedom, 1 - LEVEL / 2)) * error
    return Trend(slope, slope - half, slope + half)
