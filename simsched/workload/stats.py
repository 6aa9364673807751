"""What a trace looks like: its load, its lengths, and how much of its prompts is shared."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsched.workload.content import shared_tokens
from simsched.workload.sessions import sessions_of
from simsched.workload.trace import SLOS, Trace
from simsched.workload.window import load_of


def describe(trace: Trace) -> dict[str, Any]:
    """Figures of a trace, ready for JSON.

    `num_requests`; `duration` (s, first to last arrival, of rows with a time of their own); `request_rate`
    (requests/s) and `arrival_cv` (standard deviation of the gaps over their mean), both None when all arrive
    at once or turns wait for answers; `median_rate` and `peak_rate` (of tenths of the duration, None with
    fewer than 20 requests); `sessions` (see `sessions_in`); `input_length` and `output_length` (tokens: mean,
    median, p90, p99, max); `shared_prefix` (see there); `columns` given beside these, by their names in a
    file.
    """
    duration = float(trace.arrival_time[-1] - trace.arrival_time[0])
    gaps = np.diff(trace.arrival_time)
    load = load_of(trace)
    spread_out = duration > 0 and trace.think_times is None
    optional = (
        *("request_id", "score", "predicted_class", "predicted_length", "length_quantiles"),
        *("priority", "tenant", *SLOS),
        *("session_id", "parent", "think_times", "history_length", "request_class", "hash_ids", "prompt"),
    )
    in_file = {"think_times": "think_time", "request_class": "class"}
    return {
        "name": trace.name,
        "num_requests": len(trace),
        "duration": duration,
        "request_rate": (len(trace) - 1) / duration if spread_out else None,
        "median_rate": load.median if load is not None else None,
        "peak_rate": load.peak if load is not None else None,
        "arrival_cv": float(gaps.std() / gaps.mean()) if spread_out else None,
        "sessions": sessions_in(trace),
        "input_length": _spread(trace.num_prompt_tokens),
        "output_length": _spread(trace.num_output_tokens),
        "shared_prefix": shared_prefix(trace),
        "columns": [in_file.get(name, name) for name in optional if getattr(trace, name) is not None],
    }


def sessions_in(trace: Trace) -> dict[str, Any] | None:
    """Figures of its sessions; None where it has neither sessions nor turns that wait for answers.

    `num_sessions` (a request of none is one by itself); `session_rate` (sessions/s, from the first start to
    the last; None where all start at once); `turns` (of a session) and `think_time` (s; None without):
    mean, median, p90, p99, max.
    """
    if trace.session_id is None and trace.think_times is None:
        return None
    session = sessions_of(trace)
    turns = np.bincount(session)
    thinks = None if trace.think_times is None else trace.think_times[~np.isnan(trace.think_times)]
    _, first = np.unique(session, return_index=True)
    starts = trace.arrival_time[first]
    lasts = float(starts.max() - starts.min())
    return {
        "num_sessions": len(turns),
        "session_rate": (len(turns) - 1) / lasts if lasts > 0 else None,
        "turns": _spread(turns),
        "think_time": None if thinks is None or not len(thinks) else _spread(thinks),
    }


def shared_prefix(trace: Trace) -> float | None:
    """Share of all prompt tokens that a prefix cache without end would hold of earlier prompts and answers.

    None where no two requests can share anything: without hash_ids and sessions.
    """
    shared = shared_tokens(trace)
    return None if shared is None else sum(shared) / int(trace.num_prompt_tokens.sum())


def _spread(values: NDArray[Any]) -> dict[str, float]:
    median, p90, p99 = np.percentile(values, (50, 90, 99)).tolist()
    mean, most = float(values.mean()), values.max().item()
    return {"mean": mean, "median": median, "p90": p90, "p99": p99, "max": most}
