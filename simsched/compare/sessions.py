"""Sessions in place of requests: how long until the first answer, and until the last one."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from simsched.compare.deciles import requests_of_cell
from simsched.compare.phrases import ratio_text
from simsched.compare.statistics import paired_ratio
from simsched.errors import InputError
from simsched.metrics import WINDOW
from simsched.text.table import text_table

if TYPE_CHECKING:
    import polars as pl

    from simsched.compare.samples import Samples
    from simsched.results import Results

BY = "session"
"""The `--by` that means this."""


@dataclass(frozen=True)
class SessionRow:
    """The sessions of an arm, over all runs of a load; times in seconds, None where none is finished."""

    arm: str
    sessions: int
    turns: float
    """Mean number of a session."""
    unfinished: int
    """Sessions with a turn that has no answer; the times leave them out."""
    mean_first_answer_s: float | None
    """From the arrival of a session's first turn to the end of its answer."""
    p99_first_answer_s: float | None
    mean_completion_s: float | None
    """From there to the end of its last answer, with the think times between."""
    p99_completion_s: float | None
    mean_slowdown: float | None
    """Of the completion time over that of the session alone on an idle engine."""
    p99_slowdown: float | None
    completion_ratio: float | None
    """Completion time over that under the baseline, session by session: geometric mean over the sessions of a
    run, then over runs; None for the baseline itself."""
    completion_ratio_ci: tuple[float, float] | None
    """Its 95 % interval over runs (sessions of one run depend on each other); None with one run."""


@dataclass(frozen=True)
class Sessions:
    """All arms at one load."""

    rows: list[SessionRow]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"by": BY, "rows": [asdict(row) for row in self.rows]}

    def to_table(self, width: int | None = None) -> str:
        """As text; tables at most `width` letters wide."""
        headers = ["arm", "sessions", "turns", "unfinished", "first answer s", "P99", "completion s", "P99"]
        headers += ["slowdown", "P99"]
        body = []
        for row in self.rows:
            ratio, interval = row.completion_ratio, row.completion_ratio_ci
            *cells, _, _ = asdict(row).values()
            shown = "" if interval is None else " to ".join(map(ratio_text, interval))
            body.append([*cells, "baseline" if ratio is None else ratio_text(ratio), shown])
        return (
            f"{text_table([*headers, 'ratio', '95 % interval'], body, width=width)}\n"
            "Sessions: from the arrival of the first turn to the end of its answer, and of the last answer; "
            "slowdown: the latter over what it would be alone on an idle engine; ratio: of completion "
            "times, geometric mean over the same sessions; its interval is over runs"
        )


def by_session(results: Results, samples: Samples, load: int, baseline: str) -> Sessions:
    """The sessions of a load whose first turn arrives in its window, with all of their turns.

    Args:
        results: the directory.
        samples: of it.
        load: index of the load.
        baseline: the arm that ratios refer to.

    Raises:
        InputError: the requests have no sessions.
    """
    if "session_id" not in results.requests.columns:
        raise InputError(f"--by {BY}: these requests have no session_id")
    tables = {arm: session_table(results, samples, load, arm) for arm in samples.arms}
    return Sessions(
        [
            _row(arm, table, None if arm == baseline else tables[baseline])
            for arm, table in tables.items()
            if table.height
        ]
    )


def session_table(results: Results, samples: Samples, load: int, arm: str) -> pl.DataFrame:
    """One row a session: `run`, `session_id`, `turns`, in seconds `first_answer` and `completion`, null
    where an answer is missing, and `slowdown`, null too where it is not known."""
    import polars as pl

    rows = {row["cell"]: row for row in results.summary.select("cell", *WINDOW).to_dicts()}
    start, done = pl.col("arrival_time"), pl.col("finish_time")
    alone = pl.col("session_alone") if "session_alone" in results.requests.columns else pl.lit(None)
    parts = []
    for cell in samples.cells.get((load, arm), ()):
        requests = requests_of_cell(results, cell).filter(pl.col("session_id").is_not_null())
        # a turn that never arrived has no time: it is last, and its session unfinished
        table = (
            requests.with_columns(start.fill_nan(None), done.fill_nan(None))
            .sort("arrival_time", nulls_last=True, maintain_order=True)
            .group_by("session_id", maintain_order=True)
            .agg(
                pl.len().alias("turns"),
                start.first().alias("start"),
                (done.first() - start.first()).alias("first_answer"),
                pl.when(done.null_count() == 0).then(done.max() - start.first()).alias("completion"),
                alone.first().cast(pl.Float64).alias("alone"),
            )
            .with_columns((pl.col("completion") / pl.col("alone")).alias("slowdown"))
        )
        first, last = (rows[cell][name] for name in WINDOW)
        if first is not None:
            table = table.filter(pl.col("start") >= first)
        if last is not None:
            table = table.filter(pl.col("start") <= last)
        parts.append(table.select(pl.lit(str(results.cells[cell].get("run"))).alias("run"), pl.all()))
    return pl.concat(parts) if parts else pl.DataFrame()


def start_share(results: Results) -> float | None:
    """The share of a run, from the first arrival to the last finish, in which sessions start: the least of
    all runs; None without sessions."""
    import polars as pl

    if "session_id" not in results.requests.columns:
        return None
    run = list(next(iter(results.cells.values())))
    arrival = pl.col("arrival_time").fill_nan(None)
    sessions = results.requests.group_by(*run, pl.col("session_id").fill_null("")).agg(
        arrival.min().alias("start"), pl.col("finish_time").fill_nan(None).max().alias("end")
    )
    runs = sessions.group_by(run).agg(
        ((pl.col("start").max() - pl.col("start").min()) / (pl.col("end").max() - pl.col("start").min()))
        .alias("share")
    )  # fmt: skip
    least = runs["share"].fill_nan(None).min()
    return float(least) if isinstance(least, int | float) else None


def _row(arm: str, table: pl.DataFrame, baseline: pl.DataFrame | None) -> SessionRow:
    import polars as pl

    names = ("first_answer", "completion", "slowdown")
    first, whole, slowdown = (table[name].drop_nulls().to_numpy() for name in names)
    ratio = interval = None
    if baseline is not None and baseline.height:
        both = table.join(baseline, on=["run", "session_id"], suffix="_baseline")
        logs = (pl.col("completion") / pl.col("completion_baseline")).log()
        runs = both.group_by("run", maintain_order=True).agg(logs.mean().exp().alias("ratio"))
        known = runs["ratio"].drop_nulls().to_list()
        if known:
            found = paired_ratio(known, [1.0] * len(known))
            ratio = found.ratio
            if found.low is not None and found.high is not None:
                interval = found.low, found.high
    return SessionRow(
        arm,
        table.height,
        float(table["turns"].to_numpy().mean()),
        table["completion"].null_count(),
        _finite(first.mean() if len(first) else math.nan),
        _finite(np.percentile(first, 99) if len(first) else math.nan),
        _finite(whole.mean() if len(whole) else math.nan),
        _finite(np.percentile(whole, 99) if len(whole) else math.nan),
        _finite(slowdown.mean() if len(slowdown) else math.nan),
        _finite(np.percentile(slowdown, 99) if len(slowdown) else math.nan),
        ratio,
        interval,
    )


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
