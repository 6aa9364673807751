"""Figures made of single requests: distributions, and who pays by length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from simsched.compare import samples_of
from simsched.compare.deciles import COLUMNS, by_decile, requests_at
from simsched.compare.sessions import session_table
from simsched.errors import InputError
from simsched.plotting.looks import Looks, looks_of
from simsched.plotting.style import (
    NoDataError,
    legend_on_top,
    log_label,
    log_ticks,
    name_lines,
    new_axes,
    styled,
)
from simsched.text.labels import LONG_MS
from simsched.workload.trace import FloatArray

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

    from simsched.results import Results

_MOST_POINTS = 400  # of a drawn distribution
_CDF_LABELS = {
    "ttft": "Time to first token (s)",
    "tpot": "Time per output token (ms)",
    "e2el": "End-to-end latency (s)",
    "latency_per_token": "Latency per token (ms)",
    "first_answer": "Time to a session's first answer (s)",
    "session_completion": "Session completion time (s)",
    "session_slowdown": "Session slowdown (x alone)",
}
OF_SESSIONS = ("first_answer", "session_completion", "session_slowdown")


def _unit(label: str, values: Iterable[float]) -> tuple[str, float]:
    """An axis' label, and by what to scale its values: seconds where milliseconds grow long."""
    long = label.endswith("(ms)") and max(values, default=0.0) >= LONG_MS
    return (label.replace("(ms)", "(s)"), 1e-3) if long else (label, 1.0)


def measured_requests(results: Results, where: Mapping[str, Any] | None) -> pl.DataFrame:
    """The requests of the highest load with these options.

    Raises:
        InputError: no load has them.
    """
    samples = samples_of(results, where=where)
    return requests_at(results, samples, samples.highest())


@dataclass
class CDFDisplay:
    """The share of finished requests, or sessions, that took at most so long, a line per arm."""

    values: dict[str, FloatArray]
    """Arm -> sorted values, in the label's unit."""
    metric: str
    looks: Looks = field(default_factory=Looks)

    @classmethod
    def from_results(
        cls, results: Results, *, metric: str = "ttft", where: Mapping[str, Any] | None = None
    ) -> Self:
        """From the requests of all runs with the options in `where`.

        Args:
            results: a finished directory.
            metric: `ttft`, `tpot`, `e2el` or `latency_per_token`; of sessions `first_answer`,
                `session_completion` or `session_slowdown`.
            where: options that pick one load.

        Raises:
            InputError: an unknown metric, or no finished request there.
        """
        import polars as pl

        if metric not in _CDF_LABELS:
            raise InputError(f"metric {metric}: expected one of {', '.join(_CDF_LABELS)}")
        looks = looks_of(results, samples_of(results, where=where).arms, where)
        if metric in OF_SESSIONS:
            return cls(_of_sessions(results, metric, where), metric, looks)
        tokens = pl.col("num_output_tokens")
        latency = pl.col("finish_time") - pl.col("arrival_time")
        column = {
            "ttft": pl.col("first_token_time") - pl.col("arrival_time"),
            "tpot": pl.when(tokens > 1).then(
                (pl.col("finish_time") - pl.col("first_token_time")) / (tokens - 1) * 1e3
            ),
            "e2el": latency,
            "latency_per_token": latency / tokens * 1e3,
        }[metric]
        requests = measured_requests(results, where).select("arm", value=column).drop_nulls()
        if not requests.height:
            what = "finished request of two or more output tokens" if metric == "tpot" else "finished request"
            raise NoDataError(f"{results.path}: no {what} to draw")
        groups = requests.partition_by("arm", as_dict=True, maintain_order=True)
        values = {str(key[0]): np.sort(group["value"].to_numpy()) for key, group in groups.items()}
        return cls(values, metric, looks)

    def plot(self, ax: Axes | None = None, *, label_lines: bool = True) -> Self:
        """Draw on a logarithmic axis, with a legend if `label_lines`. Sets `ax_` and `figure_`."""
        with styled():
            self.ax_ = ax = new_axes(ax)
            self.figure_ = ax.figure
            label, scale = _unit(_CDF_LABELS[self.metric], (values[-1] for values in self.values.values()))
            for policy in self.looks.ordered(self.values):
                values = self.values[policy]
                share = np.linspace(0, 1, min(_MOST_POINTS, len(values) + 1))
                line = self.looks.line(policy, self.values)
                every = self.looks.markevery(policy, max(1, len(share) // 6))
                x = np.quantile(values, share) * scale
                ax.plot(x, share * 100, label=policy, markevery=every, **line)
            log_ticks(ax, "x")
            ax.set_ylim(0, 101)
            ax.set_xlabel(log_label(label))
            ax.set_ylabel("Sessions (%)" if self.metric in OF_SESSIONS else "Requests (%)")
            if label_lines:
                legend_on_top(ax.get_figure(root=True), ax)
        return self


def _of_sessions(results: Results, metric: str, where: Mapping[str, Any] | None) -> dict[str, FloatArray]:
    """Arm -> sorted values of its sessions."""
    samples = samples_of(results, where=where)
    if "session_id" not in results.requests.columns:
        raise NoDataError(f"{results.path}: no sessions to draw")
    values: dict[str, FloatArray] = {}
    for arm in samples.arms:
        table = session_table(results, samples, samples.highest(), arm)
        if table.height:
            found = table[metric.removeprefix("session_")].drop_nulls().to_numpy()
            if len(found):
                values[arm] = np.sort(found)
    if not values:
        raise NoDataError(f"{results.path}: no finished session to draw")
    return values


@dataclass
class DecileDisplay:
    """What requests of each tenth of output lengths get, a line per arm."""

    deciles: pl.DataFrame
    """As from `simsched.compare.deciles.by_decile`."""
    column: str
    looks: Looks = field(default_factory=Looks)

    @classmethod
    def from_results(
        cls, results: Results, *, column: str = "slowdown", where: Mapping[str, Any] | None = None
    ) -> Self:
        """From the requests of all runs with the options in `where`; `column` is one of `deciles.COLUMNS`.

        Raises:
            InputError: an unknown column, or nothing to average.
        """
        if column not in COLUMNS:
            raise InputError(f"column {column}: expected one of {', '.join(COLUMNS)}")
        deciles = by_decile(measured_requests(results, where), column)
        if not deciles["mean"].count():
            raise NoDataError(f"{results.path}: no {column} to draw by length")
        return cls(deciles, column, looks_of(results, samples_of(results, where=where).arms, where))

    def plot(self, ax: Axes | None = None, *, label_lines: bool = True) -> Self:
        """Draw; `label_lines` names each line at its right end. Sets `ax_` and `figure_`."""
        with styled():
            self.ax_ = ax = new_axes(ax)
            self.figure_ = ax.figure
            longest: dict[int, int] = {}
            ends = []
            label, scale = _unit(COLUMNS[self.column], self.deciles["mean"].drop_nulls())
            policies = self.deciles["arm"].unique(maintain_order=True).to_list()
            for policy in self.looks.ordered(policies):
                rows = self.deciles.filter(arm=policy).drop_nulls("mean")
                if not len(rows):
                    continue  # it has finished nothing
                x, y = rows["decile"].to_list(), (rows["mean"] * scale).to_list()
                line = self.looks.line(policy, policies)
                ax.plot(x, y, label=policy, **line)
                ends.append((x[-1], y[-1], policy, line["color"]))
                for decile, tokens in rows.select("decile", "longest").iter_rows():
                    longest[decile] = max(tokens, longest.get(decile, 0))
            log_ticks(ax, "y")
            ax.set_xticks(sorted(longest), [f"{longest[decile]:,}" for decile in sorted(longest)])
            ax.set_xlabel("Output length up to (tokens); a tenth of the requests each")
            ax.set_ylabel(log_label(label))
            if label_lines:
                name_lines(ax, ends)
        return self
