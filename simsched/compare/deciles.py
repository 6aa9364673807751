"""Who pays: requests grouped by true output length, shortest tenth first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simsched.compare.samples import Samples
from simsched.metrics import WINDOW

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


def requests_at(results: Results, samples: Samples, load: int) -> pl.DataFrame:
    """The requests of a load that are measured (those that arrive in its window), with the name of the `arm`
    in front, arms in the order of the grid."""
    import polars as pl

    rows = {row["cell"]: row for row in results.summary.select("cell", *WINDOW).to_dicts()}
    parts = []
    for arm in samples.arms:
        for cell in samples.cells.get((load, arm), ()):
            mine: list[pl.Expr] = []
            start, end = (rows[cell][name] for name in WINDOW)
            if start is not None:
                mine.append(pl.col("arrival_time") >= start)
            if end is not None:
                mine.append(pl.col("arrival_time") <= end)
            table = requests_of_cell(results, cell).filter(mine)
            parts.append(table.select(pl.lit(arm).alias("arm"), pl.all()))
    empty = results.requests.clear().select(pl.lit("").alias("arm"), pl.all())
    return pl.concat(parts) if parts else empty


def requests_of_cell(results: Results, cell: str) -> pl.DataFrame:
    """The requests of one cell."""
    import polars as pl

    return results.requests.filter(
        pl.col(name).is_null() if value is None else pl.col(name) == value
        for name, value in results.cells[cell].items()
    )


def by_decile(requests: pl.DataFrame, column: str = "slowdown") -> pl.DataFrame:
    """Mean of a column per arm and decile of output length, over finished requests.

    Args:
        requests: rows of `requests_at`, all of one load; runs are averaged over.
        column: one of `COLUMNS`.

    Returns:
        Columns `arm, decile` (1 to 10; 1 = shortest outputs), `shortest, longest` (output tokens),
        `mean, requests`, sorted by decile, arms in the order of their requests. Equal
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
    share = pl.col("num_output_tokens").rank("average").over("arm") / pl.len().over("arm")
    return (
        requests.with_columns(
            decile=(share * NUM_GROUPS).ceil().clip(1, NUM_GROUPS).cast(pl.Int64), value=values[column]
        )
        .group_by("arm", "decile", maintain_order=True)
        .agg(
            shortest=pl.col("num_output_tokens").min(),
            longest=pl.col("num_output_tokens").max(),
            mean=pl.col("value").mean(),
            requests=pl.len(),
        )
        .sort("decile", maintain_order=True)
    )
