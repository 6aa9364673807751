"""What a trace looks like: its load, its lengths, and how much of its prompts is shared."""

from __future__ import annotations

from typing import Any

import numpy as np

from simsched.workload.trace import Trace


def describe(trace: Trace) -> dict[str, Any]:
    """Figures of a trace, ready for JSON.

    `num_requests`; `duration` (s, first to last arrival); `request_rate` (requests/s) and `arrival_cv`
    (standard deviation of the gaps over their mean), both None when all arrive at once; `input_length` and
    `output_length` (tokens: mean, median, p90, p99, max); `shared_prefix` (share of the prompt tokens that
    a prefix cache without end would hold already, None without hash_ids); `columns` given beside these.
    """
    duration = float(trace.arrival_time[-1] - trace.arrival_time[0])
    gaps = np.diff(trace.arrival_time)
    spread_out = duration > 0
    optional = (
        "request_id",
        "score",
        "predicted_class",
        "predicted_length",
        "priority",
        "tenant",
        "hash_ids",
    )
    return {
        "name": trace.name,
        "num_requests": len(trace),
        "duration": duration,
        "request_rate": (len(trace) - 1) / duration if spread_out else None,
        "arrival_cv": float(gaps.std() / gaps.mean()) if spread_out else None,
        "input_length": _lengths(trace.num_prompt_tokens),
        "output_length": _lengths(trace.num_output_tokens),
        "shared_prefix": shared_prefix(trace),
        "columns": [name for name in (*optional, "prompt") if getattr(trace, name) is not None],
    }


def shared_prefix(trace: Trace) -> float | None:
    """Share of all prompt tokens in leading blocks that an earlier request had; None without hash_ids."""
    if trace.hash_ids is None or trace.hash_block_size is None:
        return None
    seen: set[int] = set()
    shared = 0
    for ids, tokens in zip(trace.hash_ids, trace.num_prompt_tokens.tolist(), strict=True):
        hits = next((i for i, block in enumerate(ids) if block not in seen), len(ids))
        shared += min(tokens, hits * trace.hash_block_size)
        seen.update(ids)
    return shared / int(trace.num_prompt_tokens.sum())


def _lengths(tokens: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, float]:
    median, p90, p99 = np.percentile(tokens, (50, 90, 99)).tolist()
    return {"mean": float(tokens.mean()), "median": median, "p90": p90, "p99": p99, "max": int(tokens.max())}
