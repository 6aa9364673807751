"""Columns of metrics for printed tables: short headers, and seconds where milliseconds grow long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simsched.text.labels import in_seconds, metric_label, split_metric

_BRIEF = {
    "mean_ttft_ms": "TTFT {unit}",
    "mean_tpot_ms": "TPOT {unit}",
    "mean_latency_per_token_ms": "{unit}/token",
    "p99_max_waiting_time_ms": "P99 wait {unit}",
    "request_throughput": "served/s",
    "request_goodput": "good/s",
    "mean_slowdown": "slowdown",
    "num_preemptions": "preempted",
    "prefix_cache_hit_rate": "cache hits",
    "unfinished": "unfinished",
    "rejected": "refused",
}
"""Headers; the P99 behind a mean says "P99" and has its unit."""


def brief_columns(columns: Mapping[str, Sequence[float | None]]) -> list[tuple[str, list[float | None]]]:
    """Metric -> values, as (header, values) in one unit: the P99 of a quantity in that of its mean."""
    shown = []
    for metric, values in columns.items():
        quantity = split_metric(metric)[1]
        alike = [name for name in columns if split_metric(name)[1] == quantity]
        long = any(in_seconds(name, columns[name]) for name in alike)
        header = _BRIEF[metric].format(unit="s" if long else "ms") if metric in _BRIEF else "P99"
        shown.append((header, _in_unit(values, long)))
    return shown


def full_column(
    metric: str, values: Sequence[float | None], unit_of: Sequence[float | None] | None = None
) -> tuple[str, list[float | None]]:
    """A metric's name in words and its values, in one unit: that of `unit_of`, where more than these values
    are shown; None: their own."""
    long = in_seconds(metric, values if unit_of is None else unit_of)
    return metric_label(metric, seconds=long), _in_unit(values, long)


def _in_unit(values: Sequence[float | None], seconds: bool) -> list[float | None]:
    return [value / 1e3 if seconds and value is not None else value for value in values]
