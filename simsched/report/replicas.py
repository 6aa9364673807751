"""The report's section on replicas: how evenly a router spreads requests, and what each replica makes of its
own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simsched.compare.groups import MOST_GROUPS, GroupRow, by_group
from simsched.compare.verdict import highest_load_text
from simsched.report.page import Figure, Section, Table
from simsched.text.columns import brief_columns
from simsched.text.labels import metric_label

if TYPE_CHECKING:
    from simsched.compare import Comparison
    from simsched.results import Results

_ALL = ("replica_load_cv", "replica_tokens_cv", "prefix_cache_hit_rate", "num_preemptions")
"""Of an arm, over all replicas."""
_OF_EACH = (
    "mean_latency_per_token_ms",
    "p99_latency_per_token_ms",
    "mean_ttft_ms",
    "p99_ttft_ms",
    "prefix_cache_hit_rate",
)
"""Of a replica; requests, tokens and preemptions come before them."""
_DRAWN = 16
"""Replicas in a figure: of more, the table says it better."""


def replicas_section(
    results: Results, comparison: Comparison, where: Mapping[str, Any] | None
) -> list[Section]:
    """Balance and metrics by replica at the highest load; nothing where requests were served by one."""
    samples, load = comparison.samples, comparison.samples.highest()
    if all(samples.mean(load, arm, _ALL[0]) is None for arm in comparison.arms):
        return []
    spread = [[arm, *(samples.mean(load, arm, name) for name in _ALL)] for arm in comparison.arms]
    headers = ["arm", "load varies by", "tokens vary by", "cache hits", "preempted"]
    tables = [Table(headers, spread, "All replicas")]
    prose = [
        f"{highest_load_text(samples)}. Load is the mean number of requests in flight, tokens are those of "
        "prompts and answers; they vary by their standard deviation over replicas, in shares of the mean."
    ]
    figures = []
    number = results.requests["replica"].n_unique()
    if number > MOST_GROUPS:
        prose.append(f"{number} replicas are too many for a table of each.")
    else:
        rows = by_group(results, samples, load, "replica").rows
        tables.append(_each(rows, comparison.arms))
        if number <= _DRAWN:
            figures.append(_figure(results, where))
    return [Section("Replicas", prose, tables, figures)]


def _each(rows: Sequence[GroupRow], arms: Sequence[str]) -> Table:
    """A row for each replica under each arm."""
    shown = [row for row in rows if row.arm in arms]
    columns = brief_columns({name: [_known(row.metrics[name]) for row in shown] for name in _OF_EACH})
    body = []
    for place, row in enumerate(shown):
        tokens = int(row.metrics["total_input_tokens"] + row.metrics["total_output_tokens"])
        counts = [row.requests, tokens, int(row.metrics["num_preemptions"])]
        body.append([row.arm, int(row.group), *counts, *(values[place] for _, values in columns)])
    headers = ["arm", "replica", "requests", "tokens", "preempted", *(label for label, _ in columns)]
    return Table(headers, body, "Each replica, its requests of all runs together")


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _figure(results: Results, where: Mapping[str, Any] | None) -> Figure:
    from simsched.plotting.groups import GroupDisplay

    metric = _OF_EACH[0]
    display = GroupDisplay.from_results(results, by="replica", metric=metric, where=where).plot()
    caption = f"{metric_label(metric, unit=False)} of the requests that each replica served."
    return Figure.from_matplotlib(display.figure_, alt=f"replicas: {caption}", caption=caption)
