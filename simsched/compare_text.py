"""A comparison in words and plain-text tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from simsched.deciles import COLUMNS, by_decile, requests_at
from simsched.labels import higher_is_better, metric_label
from simsched.statistics import LEVEL, Ratio
from simsched.text_table import number, text_table

if TYPE_CHECKING:
    import polars as pl

    from simsched.compare import Comparison, Load, Row
    from simsched.results import Results

HIDDEN = (
    "mean_latency_per_token_ms",
    "p99_latency_per_token_ms",
    "mean_ttft_ms",
    "p99_ttft_ms",
    "mean_tpot_ms",
    "p99_tpot_ms",
    "p99_max_waiting_time_ms",
    "mean_slowdown",
    "num_preemptions",
    "unfinished",
)
JUDGED = ("mean_latency_per_token_ms", "p99_latency_per_token_ms", "mean_ttft_ms", "mean_tpot_ms")
"""What a verdict is about when nothing else is asked for."""

_SHORT = {
    "mean_latency_per_token_ms": "lat/token ms",
    "p99_latency_per_token_ms": "P99",
    "mean_ttft_ms": "TTFT ms",
    "p99_ttft_ms": "P99",
    "mean_tpot_ms": "TPOT ms",
    "p99_tpot_ms": "P99",
    "p99_max_waiting_time_ms": "P99 wait ms",
    "mean_slowdown": "slowdown",
    "num_preemptions": "preempted",
    "unfinished": "unfinished",
}


def load_text(load: Load) -> str:
    """A load in words: `"8 req/s, workload lmsys"`; empty where nothing varies."""
    return ", ".join(
        rate_text(value) if name == "request_rate" else f"{name.replace('_', ' ')} {option_text(value)}"
        for name, value in load.items()
    )


def rate_text(rate: float | None) -> str:
    """A request rate in words."""
    if rate is None:
        return "arrivals as given"
    return "all at once" if math.isinf(rate) else f"{rate:g} req/s"


def option_text(value: Any) -> str:
    """A swept option's value: a dash where it was not given, no trailing zeros."""
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def ratio_text(value: float | None) -> str:
    """A ratio: three decimals near 1, else three digits."""
    return f"{value:.3f}" if value is not None and 0.1 <= value < 10 else number(value)


def interval_text(ratio: Ratio) -> str:
    """`"0.910 to 0.940"`; empty with one run."""
    return "" if ratio.low is None else f"{ratio_text(ratio.low)} to {ratio_text(ratio.high)}"


def comparison_text(comparison: Comparison, hidden: Sequence[str] = ()) -> str:
    """All tables of a comparison, then `hidden` (further tables), then what to make of them."""
    parts = []
    for metric, rows in groupby(comparison.rows, key=lambda row: row.metric):
        parts.append(f"{metric_label(metric)}\n{_metric_table(comparison, list(rows))}")
    if len(comparison.policies) > 2:
        parts.append(_order_text(comparison))
    parts += hidden
    parts.append("\n".join([*tests_text(comparison), *comparison.notes]))
    parts.append("\n".join(verdict_lines(comparison)))
    return "\n\n".join(part for part in parts if part) + "\n"


def directory_text(results: Results, comparison: Comparison) -> str:
    """`comparison_text` with what means hide at the highest load, for which it reads all requests."""
    load = highest_load(comparison.loads)
    hidden = [hidden_text(comparison, load)]
    deciles = by_decile(requests_at(results, comparison.loads[load]))
    if deciles["mean"].count():
        hidden.append(decile_text(deciles, COLUMNS["slowdown"]))
    return comparison_text(comparison, hidden)


def _metric_table(comparison: Comparison, rows: Sequence[Row]) -> str:
    options = list(comparison.loads[0])
    bounded = any(row.bound for row in rows)
    over = comparison.baseline if len(comparison.baseline) <= 16 else "baseline"
    headers = [*options, "policy", "value", f"/ {over}", "95 % interval"]
    headers += ["/ bound"] if bounded else []
    body: list[list[Any]] = []
    previous: Load | None = None
    for row in rows:
        shown = (
            [option_text(value) for value in row.load.values()]
            if row.load != previous
            else [""] * len(options)
        )
        previous = row.load
        ratio = row.ratio
        cells: list[Any] = [*shown, row.policy, row.value]
        cells += [ratio_text(ratio.ratio), interval_text(ratio)] if ratio else ["", ""]
        if bounded:
            cells.append(row.value / row.bound if row.value and row.bound else None)
        body.append([*cells, remark(row)])
    return text_table([*headers, ""], body, left=(*range(len(options) + 1), len(headers)))


def remark(row: Row) -> str:
    """What must be said of a row beside its numbers."""
    said = []
    if row.unfinished:
        said.append(f"{row.unfinished:,} unfinished")
    if row.ratio and row.ratio.low == row.ratio.high == 1:
        said.append("identical")
    elif row.significant is False:
        said.append("no significant difference")
    return ", ".join(said)


def tests_text(comparison: Comparison) -> list[str]:
    """How the intervals and tests are to be read."""
    if comparison.runs < 2:
        return []
    return [
        f"Ratios are geometric means over {comparison.runs} runs, each of the same requests under every "
        "policy; each interval covers 95 % by itself (paired t on log ratios).",
        f'"No significant difference": paired t-test at {LEVEL:.0%}, Holm-corrected over the policies at one '
        "metric and load; not over metrics and loads, so of 20 such sets about one would err by chance.",
    ]


def _order_text(comparison: Comparison) -> str:
    """Best first, per load and metric, and how far the metrics agree with the first."""
    taus = comparison.taus()
    body = []
    for load in range(len(comparison.loads)):
        for i, metric in enumerate(comparison.metrics):
            order = comparison.samples.order(load, metric)
            first = comparison.samples.order(load, comparison.metrics[0])
            shown = load_text(comparison.loads[load]) if i == 0 else ""
            said = "the same" if i and order == first else ", ".join(order)
            body.append([shown, metric_label(metric, unit=False), f"{taus[load, metric]:.2f}", said])
    title = "Order of the policies, best first; tau: Kendall's, with the order on the first metric"
    return f"{title}\n{text_table(['', 'metric', 'tau', 'order'], body, left=(0, 1, 3))}"


def hidden_text(comparison: Comparison, load: int) -> str:
    """What a mean hides, at one load: tails, first token against the others, starvation, the unfinished."""
    samples = comparison.samples
    metrics = [
        name
        for name in HIDDEN
        if any(samples.mean(load, policy, name) is not None for policy in comparison.policies)
    ]
    counts = ("num_preemptions", "unfinished")
    body: list[list[Any]] = []
    for policy in comparison.policies:
        means = {name: samples.mean(load, policy, name) for name in metrics}
        shown = [f"{mean:,.0f}" if mean and name in counts else mean for name, mean in means.items()]
        body.append([policy, *shown])
    where = load_text(comparison.loads[load])
    title = f"What a mean hides{', at ' + where if where else ''}"
    return f"{title}\n{text_table(['policy', *(_SHORT[name] for name in metrics)], body)}"


def decile_rows(deciles: pl.DataFrame) -> tuple[list[str], list[list[Any]]]:
    """Headers and rows of `simsched.deciles.by_decile`: a row per policy, a column per decile."""
    low: dict[int, int] = {}
    high: dict[int, int] = {}
    means: dict[str, dict[int, float]] = {}
    for row in deciles.iter_rows(named=True):
        decile = row["decile"]
        low[decile] = min(row["shortest"], low.get(decile, row["shortest"]))
        high[decile] = max(row["longest"], high.get(decile, row["longest"]))
        means.setdefault(row["policy"], {})[decile] = row["mean"]
    order = sorted(low)
    headers = ["policy", *(f"{low[decile]}–{high[decile]}" for decile in order)]
    return headers, [[policy, *(of.get(decile) for decile in order)] for policy, of in means.items()]


def decile_text(deciles: pl.DataFrame, label: str) -> str:
    """A table of `simsched.deciles.by_decile`."""
    title = f"{label} by output length (tokens), a tenth of the requests in each column"
    return f"{title}\n{text_table(*decile_rows(deciles))}"


def verdict_lines(comparison: Comparison, metrics: Sequence[str] = ()) -> list[str]:
    """See `simsched.compare.verdict`."""
    wanted = metrics or JUDGED
    known = [metric for metric in comparison.metrics if metric in wanted] or comparison.metrics[:1]
    if len(comparison.policies) < 2 or not known:
        return []
    last = highest_load(comparison.loads)
    where = load_text(comparison.loads[last])
    rated = any(load.get("request_rate") is not None for load in comparison.loads)
    which = "highest load" if rated else "last setting"
    lines = [f"At the {which} ({where}):" if where else "In these runs:"]
    lines += [f"  {_winner(comparison, metric, last)}" for metric in known]
    if len(comparison.loads) > 1:
        what = "loads" if rated else "settings"
        lines.append(f"Over all {len(comparison.loads)} {what} (geometric mean):")
        lines += [f"  {_winner(comparison, metric, None)}" for metric in known]
    return lines


def highest_load(loads: Sequence[Load]) -> int:
    """The index of the load with the highest request rate; of several, the last."""

    def rate(i: int) -> float:
        given = loads[i].get("request_rate")
        return -1.0 if given is None else float(given)

    return max(range(len(loads)), key=lambda i: (rate(i), i))


def _winner(comparison: Comparison, metric: str, load: int | None) -> str:
    """Who is best on a metric at a load (None: over all), and by how much. The unfinished cannot win."""
    samples, baseline = comparison.samples, comparison.baseline
    loads = range(len(comparison.loads)) if load is None else (load,)

    def ratio_to(policy: str, other: str) -> Ratio | None:
        if load is None:
            return samples.overall(policy, other, metric)
        return samples.ratio(load, policy, other, metric)

    ranked = [
        (ratio, policy)
        for policy in comparison.policies
        if not any(samples.unfinished(i, policy) for i in loads)
        and (ratio := ratio_to(policy, baseline)) is not None
    ]
    label = metric_label(metric, unit=False)
    if len(ranked) < 2:
        return f"{label}: nothing to compare"
    ranked.sort(reverse=higher_is_better(metric), key=lambda each: each[0].ratio)
    (to_baseline, best), (_, rival) = ranked[:2]
    against = {policy: ratio_to(best, policy) for _, policy in ranked[1:]}
    tied = [policy for policy, ratio in against.items() if ratio and ratio.p is not None and ratio.p >= LEVEL]
    if baseline in tied or (best == baseline and tied):
        return f"{label}: no significant difference between {_listed([best, *tied])}"
    text = f"{label}: {best} is best"
    if best != baseline:
        text += f", {_times(to_baseline)} {baseline}"
    if tied:
        return f"{text}; no significant difference from {_listed(tied)}"
    to_rival = against[rival]
    return f"{text}; {_times(to_rival)} {rival}, the next" if to_rival and rival != baseline else text


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _times(ratio: Ratio) -> str:
    """`"2.5 times lower [2.4, 2.6] than"`: a ratio or its inverse, whichever is above 1."""
    values = [ratio.ratio, ratio.low, ratio.high]
    higher = ratio.ratio >= 1
    if not higher:
        values = [value and 1 / value for value in (ratio.ratio, ratio.high, ratio.low)]
    interval = "" if ratio.low is None else f" [{number(values[1])}, {number(values[2])}]"
    return f"{number(values[0])} times {'higher' if higher else 'lower'}{interval} than"
