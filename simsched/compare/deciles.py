"""Who pays: requests grouped by true output length, shortest tenth first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from simsched.results import Results

NUM_GROUPS = 10
COLUMNS = {
    "slowdown": "Mean slowdown (times alone)",
    "latency_per_token": "Mean latency per token (ms)",
    "e2el": "Mean end-to-end latency (s)",
    "ttft": "Mean time to first token (s)",
}
"""What can be averaged over a decile, with its label."""


def requests_at(results: Results, load: Mapping[str, Any]) -> pl.DataFrame:
    """The requests of the cells with these options (None: not given there)."""
    import polars as pl

    requests = results.requests
    for name, value in load.items():
        requests = requests.filter(pl.col(name).is_null() if value is None else pl.col(name) == value)
    return requests


def by_decile(requests: pl.DataFrame, column: str = "slowdown") -> pl.DataFrame:
    """Mean of a column per policy and decile of output length, over finished requests.

    Args:
        requests: rows of `Results.requests`, all of one load; runs are averaged over.
        column: one of `COLUMNS`.

    Returns:
        Columns `policy, decile` (1 to 10; 1 = shortest outputs), `shortest, longest` (output tokens),
        `mean, requests`, sorted by decile, policies in the order of their requests. Equal
        lengths share a decile, so one may be missing.
    """
    import polars as pl

    latency = pl.col("finish_time") - pl.col("arrival_time")
    values = {
        "slowdown": pl.col("slowdown"),
        "latency_per_token": latency / pl.col("num_output_tokens") * 1e3,
        "e2el": latency,
        "ttft": pl.col("first_token_time") - pl.col("arrival_time"),
    }
    share = pl.col("num_output_tokens").rank("average").over("policy") / pl.len().over("policy")
    return (
        requests.with_columns(
            decile=(share * NUM_GROUPS).ceil().clip(1, NUM_GROUPS).cast(pl.Int64), value=values[column]
        )
        .group_by("policy", "decile", maintain_order=True)
        .agg(
            shortest=pl.col("num_output_tokens").min(),
            longest=pl.col("num_output_tokens").max(),
            mean=pl.col("value").mean(),
            requests=pl.len(),
        )
        .sort("decile", maintain_order=True)
    )
