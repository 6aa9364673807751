"""Who wins, on which metric, by how much, in lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simsched.compare.samples import Load
from simsched.compare.statistics import LEVEL, Ratio
from simsched.compare.words import load_text
from simsched.text.labels import higher_is_better, metric_label
from simsched.text.table import number

if TYPE_CHECKING:
    from simsched.compare.comparison import Comparison

JUDGED = ("mean_latency_per_token_ms", "p99_latency_per_token_ms", "mean_ttft_ms", "mean_tpot_ms")
"""What a verdict is about when nothing else is asked for."""

SHOWN = 1.005
"""A ratio from here on is not rounded to 1."""


def verdict(comparison: Comparison, metrics: Sequence[str] = ()) -> list[str]:
    """Lines that say who wins on which metric at the highest load, and over all loads, and by how much.

    Args:
        comparison: what `compare` found.
        metrics: which of its metrics to judge; none: latency per token (mean, P99), mean TTFT and TPOT.
    """
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
    no_difference = "no significant difference" if comparison.runs > 1 else "no difference"
    if len(ranked) < 2:
        return f"{label}: nothing to compare"
    ranked.sort(reverse=higher_is_better(metric), key=lambda each: each[0].ratio)
    (to_baseline, best), (_, rival) = ranked[:2]
    against = {policy: ratio_to(best, policy) for _, policy in ranked[1:]}
    tied = [policy for policy, ratio in against.items() if ratio and _is_tie(ratio)]
    if baseline in tied or (best == baseline and tied):
        if len(tied) < len(against):
            behind = [policy for policy in against if policy not in tied]
            if list(against)[: len(tied)] != tied:
                return f"{label}: {best} comes first, but significantly ahead of {_listed(behind)} alone"
            return f"{label}: {_listed([best, *tied])} are best; {no_difference} between them"
        return f"{label}: {no_difference} between {_listed([best, *tied])}"
    text = f"{label}: {best} is best"
    if best != baseline:
        text += f", {_times(to_baseline)} {baseline}"
    if tied:
        return f"{text}; {no_difference} from {_listed(tied)}"
    to_rival = against[rival]
    return f"{text}; {_times(to_rival)} {rival}, the next" if to_rival and rival != baseline else text


def _is_tie(ratio: Ratio) -> bool:
    """No significant difference; with one run, which knows no significance, none that shows."""
    return ratio.p >= LEVEL if ratio.p is not None else 1 / SHOWN < ratio.ratio < SHOWN


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
