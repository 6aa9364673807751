"""What a metric is called in words, its unit, and which end of it is the good one."""

from __future__ import annotations

import re
from collections.abc import Iterable

_STATISTIC = {"mean": "Mean", "median": "Median", "std": "Std. of"}
_QUANTITY = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "itl": "inter-token latency",
    "e2el": "end-to-end latency",
    "latency_per_token": "latency per token",
    "max_waiting_time": "longest wait for a token",
    "first_answer": "time to a session's first answer",
    "session_completion": "session completion time",
    "session_slowdown": "session slowdown",
}
_WHOLE = {
    "request_throughput": "Request throughput (req/s)",
    "output_throughput": "Output throughput (tokens/s)",
    "total_token_throughput": "Total throughput (tokens/s)",
    "request_goodput": "Goodput (req/s)",
    "prefix_cache_hit_rate": "Prefix cache hit rate",
    "good_share": "Good requests (share)",
    "growth": "Growth of the backlog (req/s)",
    "mean_slowdown": "Mean slowdown (times alone)",
    "replica_load_cv": "Variation of load over replicas",
    "replica_tokens_cv": "Variation of tokens over replicas",
    "dummy_step_share": "Dummy batches (share of passes)",
    "barrier_wait_share": "Waiting for the slowest rank (share)",
    "num_preemptions": "Preemptions",
    "unfinished": "Unfinished requests",
    "rejected": "Refused requests",
    "request_rate": "Request rate (req/s)",
    "kendall_tau": "Kendall's tau of the predictor",
    "tau": "Kendall's tau of the predictor",
}

LONG_MS = 10_000
"""A column or an axis that reaches so many milliseconds is shown in seconds."""


def split_metric(name: str) -> tuple[str, str]:
    """`"p99_ttft_ms"` -> `("P99", "time to first token")`; `("", name)` for what has no statistic."""
    statistic, _, rest = name.partition("_")
    quantity = _QUANTITY.get(rest.removesuffix("_ms"))
    if quantity and statistic in _STATISTIC:
        return _STATISTIC[statistic], quantity
    if quantity and re.fullmatch(r"p\d+(\.\d+)?", statistic):
        return statistic.upper(), quantity
    return "", name


def in_seconds(name: str, values: Iterable[float | None]) -> bool:
    """Are these values of a metric, which is in ms, better shown in seconds?"""
    return name.endswith("_ms") and any(value is not None and value >= LONG_MS for value in values)


def metric_label(name: str, *, unit: bool = True, seconds: bool = False) -> str:
    """A metric's name in words: `"p99_ttft_ms"` -> `"P99 time to first token (ms)"`, or `(s)`."""
    if name in _WHOLE:
        return _WHOLE[name] if unit else _WHOLE[name].partition(" (")[0]
    statistic, quantity = split_metric(name)
    if not statistic:
        return name.replace("_", " ")
    measured = ("s" if seconds else "ms") if name.endswith("_ms") else "x alone"
    return f"{statistic} {quantity}" + (f" ({measured})" if unit else "")


def higher_is_better(name: str) -> bool:
    """True for throughputs and goodput, False for every time and count."""
    return name.endswith(("_throughput", "_goodput")) or name in ("good_share", "prefix_cache_hit_rate")
