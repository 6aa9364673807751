"""What a trace looks like: its load, its lengths, and how much of its prompts is shared."""

from __future__ import annotations

from typing import Any

import numpy as np

from simsched.workload.content import shared_tokens
from simsched.workload.trace import Trace
from simsched.workload.window import load_of


def describe(trace: Trace) -> dict[str, Any]:
    """Figures of a trace, ready for JSON.

    `num_requests`; `duration` (s, first to last arrival); `request_rate` (requests/s) and `arrival_cv`
    (standard deviation of the gaps over their mean), both None when all arrive at once or
    turns wait for answers; `median_rate` and
    `peak_rate` (of tenths of the duration, None with fewer than 20 requests); `input_length` and
    `output_length` (tokens: mean, median, p90, p99, max); `shared_prefix` (see there); `columns` given beside
    these.
    """
    duration = float(trace.arrival_time[-1] - trace.arrival_time[0])
    gaps = np.diff(trace.arrival_time)
    load = load_of(trace)
    spread_out = duration > 0 and trace.think_times is None
    optional = (
        *("request_id", "score", "predicted_class", "predicted_length", "length_quantiles"),
        *("priority", "tenant"),
        *("session_id", "parent", "think_times", "history_length", "request_class", "hash_ids", "prompt"),
    )
    return {
        "name": trace.name,
        "num_requests": len(trace),
        "duration": duration,
        "request_rate": (len(trace) - 1) / duration if spread_out else None,
        "median_rate": load.median if load is not None else None,
        "peak_rate": load.peak if load is not None else None,
        "arrival_cv": float(gaps.std() / gaps.mean()) if spread_out else None,
        "input_length": _lengths(trace.num_prompt_tokens),
        "output_length": _lengths(trace.num_output_tokens),
        "shared_prefix": shared_prefix(trace),
        "columns": [name for name in optional if getattr(trace, name) is not None],
    }


def shared_prefix(trace: Trace) -> float | None:
    """Share of all prompt tokens that a prefix cache without end would hold of earlier prompts and answers.

    None where no two requests can share anything: without hash_ids and sessions.
    """
    shared = shared_tokens(trace)
    return None if shared is None else sum(shared) / int(trace.num_prompt_tokens.sum())


def _lengths(tokens: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, float]:
    median, p90, p99 = np.percentile(tokens, (50, 90, 99)).tolist()
    return {"mean": float(tokens.mean()), "median": median, "p90": p90, "p99": p99, "max": int(tokens.max())}
