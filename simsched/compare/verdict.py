"""Who wins, on which metric, by how much, in lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from simsched.compare.best import CLOSE, IDENTICAL
from simsched.compare.compared import Compared
from simsched.compare.phrases import listed, load_text, times_text, value_text
from simsched.text.labels import metric_label

if TYPE_CHECKING:
    from simsched.compare.samples import Samples

JUDGED = (
    "mean_latency_per_token_ms",
    "p99_latency_per_token_ms",
    "mean_ttft_ms",
    "mean_tpot_ms",
    "request_goodput",
)
"""What a verdict is about when nothing else is asked for."""


def verdict(comparison: Compared, metrics: Sequence[str] = ()) -> list[str]:
    """Lines that say who wins on which metric at the highest load, and over all loads, and by how much.

    Args:
        comparison: what `compare` found.
        metrics: which of its metrics to judge; none: `JUDGED`.
    """
    wanted = metrics or JUDGED
    known = [metric for metric in comparison.metrics if metric in wanted] or comparison.metrics[:1]
    if len(comparison.arms) < 2 or not known:
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


def _winner(comparison: Compared, metric: str, load: int | None) -> str:
    """Who is best on a metric at a load (None: over all), and by how much."""
    label = metric_label(metric, unit=False)
    found = comparison.best(metric, load)
    if found is None:
        return f"{label}: nothing to compare"
    baseline, best, tied, others = comparison.baseline, found.arm, found.tied, found.order[1:]
    if baseline in tied or (best == baseline and tied):
        return f"{label}: {_no_winner(best, tied, others)}"
    text = f"{label}: {best} is best"
    if best != baseline:
        if found.to_baseline is not None:
            text += f", {times_text(found.to_baseline)} {baseline}"
        elif load is not None:
            text += f" ({value_text(metric, found.value)})"
            text += f"; {baseline}: {value_text(metric, comparison.samples.mean(load, baseline, metric))}"
    if tied:
        return f"{text}; {_apart(tied)}"
    if others[0] == baseline or found.next_ratio is None:
        return text
    return f"{text}; {times_text(found.next_ratio)} {others[0]}, the next"


def _no_winner(best: str, tied: Mapping[str, str], others: Sequence[str]) -> str:
    """Where the best is not told apart from the baseline, or is the baseline and not apart from others."""
    behind = [policy for policy in others if policy not in tied]
    if list(others[: len(tied)]) != list(tied):
        return f"{best} comes first, significantly ahead of {listed(behind)} but not of {listed(list(tied))}"
    kind, *more = dict.fromkeys(tied.values())
    if more:
        return f"{best} comes first; {_apart(tied)}"
    names = listed([best, *tied])
    tested = kind not in (IDENTICAL, CLOSE)
    if behind:
        return f"{names} are best; {kind}{' between them' if tested else ''}"
    return f"{kind} between {names}" if tested else f"{names} are {kind}"


def _apart(tied: Mapping[str, str]) -> str:
    """`"no significant difference (3 runs): fcfs and po; identical: mlfq"`."""
    kinds = dict.fromkeys(tied.values())
    return "; ".join(f"{kind}: {listed([name for name in tied if tied[name] == kind])}" for kind in kinds)
