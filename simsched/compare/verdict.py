"""Who wins, on which metric, by how much, in lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from simsched.compare.statistics import LEVEL, Ratio, adjusted
from simsched.compare.words import listed, load_text
from simsched.text.labels import higher_is_better, metric_label
from simsched.text.table import number

if TYPE_CHECKING:
    from simsched.compare.comparison import Comparison
    from simsched.compare.samples import Samples

JUDGED = (
    "mean_latency_per_token_ms",
    "p99_latency_per_token_ms",
    "mean_ttft_ms",
    "mean_tpot_ms",
    "request_goodput",
)
"""What a verdict is about when nothing else is asked for."""

# How two policies are told apart, or not; {runs} is how many were tested.
_IDENTICAL, _UNSURE, _CLOSE = "identical", "no significant difference ({runs} runs)", "within 0.5 %"


def verdict(comparison: Comparison, metrics: Sequence[str] = ()) -> list[str]:
    """Lines that say who wins on which metric at the highest load, and over all loads, and by how much.

    Args:
        comparison: what `compare` found.
        metrics: which of its metrics to judge; none: `JUDGED`.
    """
    wanted = metrics or JUDGED
    known = [metric for metric in comparison.metrics if metric in wanted] or comparison.metrics[:1]
    if len(comparison.policies) < 2 or not known:
        return []
    samples = comparison.samples
    last = samples.highest()
    rated = any(load.get("request_rate") is not None for load in comparison.loads)
    lines = [f"{highest_load_text(samples)}:"]
    lines += [f"  {_winner(comparison, metric, last)}" for metric in known]
    if len(comparison.loads) > 1:
        what = "loads" if rated else "settings"
        lines.append(f"Over all {len(comparison.loads)} {what} (geometric mean):")
        lines += [f"  {_winner(comparison, metric, None)}" for metric in known]
    return lines


def highest_load_text(samples: Samples) -> str:
    """`"At the highest load (64 req/s, 5 times the capacity)"`, or what there is to say of it."""
    last = samples.highest()
    where, share = load_text(samples.loads[last]), samples.share(last)
    times = "" if share is None else f"{share:.2g} times the capacity"
    if not where:
        return f"In these runs (at {times})" if times else "In these runs"
    differ = len(set(samples.rates)) > 1 or len({samples.share(i) for i in range(len(samples.loads))}) > 1
    which = "highest load" if differ else "last setting"
    return f"At the {which} ({', '.join(filter(None, (where, times)))})"


def _winner(comparison: Comparison, metric: str, load: int | None) -> str:
    """Who is best on a metric at a load (None: over all), and by how much. The unfinished cannot win."""
    samples, baseline = comparison.samples, comparison.baseline
    loads = range(len(comparison.loads)) if load is None else (load,)

    def ratio_to(policy: str, other: str) -> Ratio | None:
        if load is None:
            return samples.overall(policy, other, metric)
        return samples.ratio(load, policy, other, metric)

    to_baseline = {policy: ratio_to(policy, baseline) for policy in comparison.policies}
    ranked = [
        (ratio.ratio, policy)
        for policy, ratio in to_baseline.items()
        if ratio is not None and not any(samples.unfinished(i, policy) for i in loads)
    ]
    label = metric_label(metric, unit=False)
    if len(ranked) < 2:
        return f"{label}: {_without_ratios(samples, metric, load)}"
    ranked.sort(reverse=higher_is_better(metric), key=lambda each: each[0])
    best, *others = (policy for _, policy in ranked)
    against = {policy: ratio for policy in others if (ratio := ratio_to(best, policy)) is not None}
    # a pair with the baseline is tested as in its table: together with the others' pairs with it
    of_table = adjusted({policy: ratio for policy, ratio in to_baseline.items() if policy != baseline})
    p_values = adjusted(against)
    if best == baseline:
        p_values = of_table
    elif baseline in against and best in of_table:
        p_values[baseline] = of_table[best]
    tied = {policy: how for policy, ratio in against.items() if (how := tie(ratio, p_values.get(policy)))}
    if baseline in tied or (best == baseline and tied):
        return f"{label}: {_no_winner(best, tied, list(against))}"
    text = f"{label}: {best} is best"
    if best != baseline:
        text += f", {_times(against[baseline])} {baseline}"
    if tied:
        return f"{text}; {_apart(tied)}"
    rival = others[0]
    if rival == baseline:
        return text
    return f"{text}; {_times(against[rival])} {rival}, the next"


def _without_ratios(samples: Samples, metric: str, load: int | None) -> str:
    """Who is best where there is no ratio to the baseline, as where that keeps no goodput at all."""
    if load is not None:
        order = [policy for policy in samples.order(load, metric) if not samples.unfinished(load, policy)]
        means = [samples.mean(load, policy, metric) for policy in order[:2]]
        if len(means) == 2 and means[0] != means[1]:
            return f"{order[0]} is best ({number(means[0])}); there are no ratios to a value of 0"
    return "nothing to compare"


def tie(ratio: Ratio, p: float | None) -> str:
    """Why two policies are not told apart; empty where they are. `p`: Holm's; None: nothing is tested."""
    if ratio.identical:
        return _IDENTICAL
    if p is not None and p >= LEVEL:
        return _UNSURE.format(runs=ratio.n)
    return _CLOSE if ratio.close else ""


def _no_winner(best: str, tied: Mapping[str, str], others: Sequence[str]) -> str:
    """Where the best is not told apart from the baseline, or is the baseline and not apart from others."""
    behind = [policy for policy in others if policy not in tied]
    if list(others[: len(tied)]) != list(tied):
        return f"{best} comes first, significantly ahead of {listed(behind)} but not of {listed(list(tied))}"
    kind, *more = dict.fromkeys(tied.values())
    if more:
        return f"{best} comes first; {_apart(tied)}"
    names = listed([best, *tied])
    tested = kind not in (_IDENTICAL, _CLOSE)
    if behind:
        return f"{names} are best; {kind}{' between them' if tested else ''}"
    return f"{kind} between {names}" if tested else f"{names} are {kind}"


def _apart(tied: Mapping[str, str]) -> str:
    """`"no significant difference (3 runs): fcfs and po; identical: mlfq"`."""
    kinds = dict.fromkeys(tied.values())
    return "; ".join(f"{kind}: {listed([name for name in tied if tied[name] == kind])}" for kind in kinds)


def _times(ratio: Ratio) -> str:
    """`"2.5 times lower [2.4, 2.6] than"`: a ratio or its inverse, whichever is above 1."""
    values = [ratio.ratio, ratio.low, ratio.high]
    higher = ratio.ratio >= 1
    if not higher:
        values = [value and 1 / value for value in (ratio.ratio, ratio.high, ratio.low)]
    interval = "" if ratio.low is None else f" [{number(values[1])}, {number(values[2])}]"
    return f"{number(values[0])} times {'higher' if higher else 'lower'}{interval} than"
