"""A run's requests as a table: the columns of requests.parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simsched.record import RunRecord
from simsched.workload.trace import FloatArray, Trace

if TYPE_CHECKING:
    import polars as pl

REQUEST_NUMBERS = (
    "arrival_time", "num_prompt_tokens", "num_output_tokens", "first_scheduled_time", "first_token_time",
    "finish_time", "num_preemptions", "max_itl", "slowdown",
)  # fmt: skip
"""The columns of requests.parquet after `request_id`."""

TRACE_COLUMNS = {
    "tenant": "tenant",
    "class": "request_class",
    "priority": "priority",
    "score": "score",
    "session_id": "session_id",
}
"""What a trace may bring of its requests, by the name it has in requests.parquet -> in `Trace`."""

GROUPS = (*TRACE_COLUMNS, "replica")
"""By what requests may be grouped, where they have it."""


def trace_columns(trace: Trace) -> dict[str, Any]:
    """The columns of `TRACE_COLUMNS` that the trace has."""
    found = {name: getattr(trace, column) for name, column in TRACE_COLUMNS.items()}
    return {
        name: values if isinstance(values, np.ndarray) else list(values)
        for name, values in found.items()
        if values is not None
    }


def request_table(
    record: RunRecord, *, alone: FloatArray | None = None, session_alone: FloatArray | None = None
) -> pl.DataFrame:
    """One row a request, in the order of the trace, with the columns of requests.parquet.

    Times are seconds on the run's clock, null where they never came. `slowdown` is null without `alone` ((n,)
    seconds) and for unfinished requests; `rejected` are those of them that the server refused. Behind them
    come `num_cached_tokens` and `prefix_cache_hit_rate` (of the prompt), where a run knows them, and
    what the trace brought (`TRACE_COLUMNS`), and `session_alone` ((n,) seconds) where it is given.
    """
    import polars as pl

    trace = record.trace
    if trace.request_id is None:
        request_id = pl.int_range(len(trace), eager=True).cast(pl.String)
    else:
        request_id = pl.Series(list(trace.request_id), dtype=pl.String)
    done = record.finished
    slowdown = np.full(len(trace), np.nan)
    if alone is not None:
        slowdown[done] = (record.finish_time - record.arrival_time)[done] / alone[done]
    columns: dict[str, Any] = {
        "request_id": request_id,
        "arrival_time": record.arrival_time,
        "num_prompt_tokens": trace.num_prompt_tokens,
        "num_output_tokens": trace.num_output_tokens,
        "first_scheduled_time": record.first_scheduled_time,
        "first_token_time": record.first_token_time,
        "finish_time": record.finish_time,
        "num_preemptions": record.num_preemptions,
        "max_itl": record.max_itl,
        "slowdown": slowdown,
        "rejected": record.refused,
    }
    never = ["first_scheduled_time", "first_token_time", "finish_time", "max_itl", "slowdown"]
    if (cached := record.cached_tokens) is not None:
        columns["num_cached_tokens"] = cached
        columns["prefix_cache_hit_rate"] = cached / trace.num_prompt_tokens
        never += ["num_cached_tokens", "prefix_cache_hit_rate"]
    if record.replica is not None:
        columns["replica"] = pl.Series(record.replica).replace(-1, None)
    for name, values in trace_columns(trace).items():
        columns[name] = values
    if session_alone is not None:
        columns["session_alone"] = session_alone
        never.append("session_alone")
    return pl.DataFrame(columns).with_columns(pl.col(never).fill_nan(None))
