"""What claims are about that is no metric of a run: the service of tenants, and limits of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simsched.policies.vtc import Vtc
from simsched.reproduce.claims.traces import LIMITS

if TYPE_CHECKING:
    import polars as pl

SERVICE_GAP, ON_TIME = "service_gap", "on_time"
MEASURES = {
    SERVICE_GAP: "Largest difference in service between tenants (weighted tokens)",
    ON_TIME: "Share of requests that are done within the limit of their class",
}
"""Name -> what it is called."""


def measured(name: str, requests: pl.DataFrame) -> float:
    """A measure of a run's requests (columns of requests.parquet)."""
    return service_gap(requests) if name == SERVICE_GAP else on_time(requests)


def on_time(requests: pl.DataFrame) -> float:
    """Of all requests, those that are done within the limit of their class."""
    limits = np.array([LIMITS[name] for name in requests["class"]])
    latency = (requests["finish_time"] - requests["arrival_time"]).fill_null(np.inf).to_numpy()
    return float(np.mean(latency <= limits))


def service_gap(requests: pl.DataFrame, weights: tuple[float, float] = (1.0, 2.0)) -> float:
    """The largest difference between what two tenants get in an interval in which something of both waits.

    A tenant gets `weights[0]` for each prompt token when a request of it is scheduled first, and `weights[1]`
    for each output token, which are taken to come evenly from the first to the last.
    """
    tenants = sorted(set(requests["tenant"]))
    accounts = [_account(requests.filter(requests["tenant"] == each), weights) for each in tenants]
    gap = 0.0
    for place, (one_waits, one) in enumerate(accounts):
        for other_waits, other in accounts[place + 1 :]:
            for start, end in _both(one_waits, other_waits):
                times = np.linspace(start, end, 500)
                difference = one(times) - other(times)
                gap = max(gap, float(difference.max() - difference.min()))
    return gap


def _account(requests: pl.DataFrame, weights: tuple[float, float]) -> tuple[list[tuple[float, float]], Any]:
    """The intervals in which a request of these waits, and the service up to given times."""
    table = requests.drop_nulls(["first_scheduled_time", "first_token_time", "finish_time"])
    names = ("arrival_time", "first_scheduled_time", "first_token_time", "finish_time")
    arrival, scheduled, first, finish = (table[name].to_numpy() for name in names)
    prompts, outputs = (table[name].to_numpy() for name in ("num_prompt_tokens", "num_output_tokens"))

    def service(times: Any) -> Any:
        total = np.zeros(len(times))
        for row in range(len(arrival)):
            total += weights[0] * prompts[row] * (times >= scheduled[row])
            if first[row] < finish[row]:
                done = np.clip((times - first[row]) / (finish[row] - first[row]), 0.0, 1.0)
                total += weights[1] * ((times >= first[row]) + done * (outputs[row] - 1))
            else:
                total += weights[1] * outputs[row] * (times >= finish[row])
        return total

    return _union(sorted(zip(arrival.tolist(), scheduled.tolist(), strict=True))), service


def _union(intervals: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of intervals in order of their starts, those that no other one touches."""
    joined: list[tuple[float, float]] = []
    for start, end in intervals:
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined


def _both(one: list[tuple[float, float]], other: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Where intervals of both lists overlap."""
    pairs = ((max(a, c), min(b, d)) for a, b in one for c, d in other)
    return [(start, end) for start, end in pairs if start < end]


def vtc_bound(requests: pl.DataFrame, num_kv_tokens: int) -> float:
    """What the paper proves of two tenants of which something always waits: 2 max(w_in L, w_out M), with the
    longest prompt L and the M tokens that the KV cache holds."""
    policy = Vtc()
    longest = int(requests["num_prompt_tokens"].max())  # type: ignore[arg-type]
    return 2.0 * max(policy.input_weight * longest, policy.output_weight * num_kv_tokens)
