"""Tables (Markdown) and figure of the study of learned rankers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simsched.compare.statistics import Ratio, paired_ratio
from simsched.plotting.latency import LatencyDisplay, Point
from simsched.plotting.style import legend_on_top, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HOME = "Vicuna/Alpaca"
METRICS = ("mean_latency_per_token_ms", "mean_ttft_ms")

Simulated = Mapping[str, Mapping[float, Mapping[str, Sequence[float]]]]
"""Entry -> request rate -> metric -> a value per run."""


def ranker_table(judged: Mapping[str, Mapping[str, Any]], cards: Mapping[str, Mapping[str, Any]]) -> str:
    """Each ranker in and out of distribution, with baselines and ceiling.

    `judged`: ranker -> data set (`HOME` first) -> measures.
    """
    first = next(iter(judged.values()))
    elsewhere = [name for name in first if name != HOME]
    lines = [
        "| ranker | tau (95 % CI) | Spearman | class: tau, accuracy | regret: latency, per token | "
        + " | ".join(f"tau {name}" for name in elsewhere)
        + " | ms a prompt (batch 1, 32) | training: elapsed, processor |",
        "|---" * (7 + len(elsewhere)) + "|",
    ]
    for name, sets in judged.items():
        home, card = sets[HOME], cards[name]
        low, high = home["kendall_tau_ci"]
        alone, batched = (home["ms_per_prompt_by_batch"][size] for size in ("1", "32"))
        lines.append(
            f"| {name} | {home['kendall_tau']:.3f} ({low:.3f} to {high:.3f}) | {home['spearman']:.3f} | "
            f"{home['class_tau']:.3f}, {home['class_accuracy']:.2f} | "
            f"{home['regret_latency']:.3f}, {home['regret_latency_per_token']:.3f} | "
            + " | ".join(f"{sets[other]['kendall_tau']:.3f}" for other in elsewhere)
            + f" | {alone:.2f}, {batched:.2f} "
            f"| {card['train_seconds']:.0f} s, {card['train_cpu_seconds']:.0f} s |"
        )
    baseline = first[HOME]["baselines"]["prompt_length"]
    lines.append(
        f"| prompt length | {baseline['kendall_tau']:.3f} | | | {baseline['regret_latency']:.3f}, "
        f"{baseline['regret_latency_per_token']:.3f} | "
        + " | ".join(
            f"{first[other]['baselines']['prompt_length']['kendall_tau']:.3f}" for other in elsewhere
        )
        + " | | |"
    )
    blank = "| " * (5 + len(elsewhere)) + "|"
    lines += [f"| another sample: {name} | {tau:.3f} {blank}" for name, tau in first[HOME]["ceiling"].items()]
    return "\n".join(lines)


def simulation_table(
    results: Simulated, policies: Mapping[str, str], tau: Mapping[str, float], baseline: Mapping[str, str]
) -> str:
    """Geometric means over runs, and the ratio to each entry's baseline with its 95 % interval."""
    per_token, ttft = METRICS
    rates = list(next(iter(results.values())))
    lines = [
        "| predictions | policy | tau | "
        + " | ".join(f"{rate:g} req/s: ms a token, ratio (95 % CI), TTFT ms" for rate in rates)
        + " |",
        "|---" * (3 + len(rates)) + "|",
    ]
    for name, base in baseline.items():
        cells = []
        for rate in rates:
            own = results[name][rate]
            ratio = paired_ratio(own[per_token], results[base][rate][per_token])
            shown = "" if name == base else f", {_interval(ratio)}"
            cells.append(f"{_mean(own[per_token]):.1f}{shown}, {_mean(own[ttft]):.0f}")
        known = f"{tau[name]:.3f}" if name in tau else ""
        lines.append(f"| {name} | {policies[name]} | {known} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(results: Simulated, names: Mapping[str, str]) -> Figure:
    """A panel a metric, over the request rate; `names`: entry -> what its line is called, policy first."""
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=(10, 4.8), layout="constrained")
        axes = figure.subplots(1, len(METRICS))
        for ax, metric in zip(axes, METRICS, strict=True):
            lines = {
                label: [_point(rate, values[metric]) for rate, values in results[name].items()]
                for name, label in names.items()
            }
            LatencyDisplay(lines, metric).plot(ax, label_lines=False)
        legend_on_top(figure, axes[0])
    return figure


def _point(rate: float, values: Sequence[float]) -> Point:
    mean = paired_ratio(values, [1.0] * len(values))
    return Point(rate, mean.ratio, mean.low, mean.high)


def _interval(ratio: Ratio) -> str:
    return f"{ratio.ratio:.3f} ({ratio.low:.3f} to {ratio.high:.3f})" if ratio.low else f"{ratio.ratio:.3f}"


def _mean(values: Sequence[float]) -> float:
    return math.exp(float(np.mean(np.log(values))))
