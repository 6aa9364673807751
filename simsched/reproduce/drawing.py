"""Figures of published beside simulated values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simsched.plotting.style import log_ticks, policy_color, policy_line, policy_marker
from simsched.reproduce.outcome import PublishedCell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def lines_over_rate(figure: Figure, cells: Sequence[PublishedCell], ylabel: str) -> None:
    """A panel a workload: simulated as lines, published as hollow marks."""
    workloads = list(dict.fromkeys(c.workload for c in cells))
    axes = figure.subplots(1, len(workloads), squeeze=False)[0]
    for ax, workload in zip(axes, workloads, strict=True):
        here = [c for c in cells if c.workload == workload]
        policies = list(dict.fromkeys(c.policy for c in here))
        for policy in policies:
            points = [c for c in here if c.policy == policy]
            rates = [c.request_rate for c in points if c.request_rate is not None]
            line = policy_line(policy, policies) | {"marker": ""}
            ax.plot(rates, [c.simulated for c in points], **line, label=policy)
            marks = {"marker": policy_marker(policy, policies), "ls": "", "mfc": "none", "ms": 8}
            ax.plot(rates, [c.published for c in points], color=line["color"], **marks)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xlabel("request rate (requests/s)")
        ax.set_title(workload)
        log_ticks(ax, "y")
        ticks = sorted({c.request_rate for c in here if c.request_rate is not None})
        ax.set_xticks(ticks, [f"{rate:g}" for rate in ticks])
    axes[0].set_ylabel(ylabel)
    axes[0].legend(fontsize=8, title="lines simulated, marks published", title_fontsize=8)


def bars(figure: Figure, cells: Sequence[PublishedCell], ylabel: str) -> None:
    """A panel a workload: published and simulated side by side, a pair a policy."""
    workloads = list(dict.fromkeys(c.workload for c in cells))
    axes = figure.subplots(1, len(workloads), squeeze=False, sharey=True)[0]
    for ax, workload in zip(axes, workloads, strict=True):
        here = [c for c in cells if c.workload == workload]
        for place, cell in enumerate(here):
            color = policy_color(cell.policy, [c.policy for c in here])
            ax.bar(place - 0.2, cell.published, 0.38, color="white", edgecolor=color, hatch="//")
            ax.bar(place + 0.2, cell.simulated, 0.38, color=color)
        names = [c.policy.replace("classification", "class.").replace("num_buckets=", "") for c in here]
        ax.set_xticks(range(len(here)), names, rotation=35, ha="right", fontsize=8)
        ax.set_title(workload)
    figure.suptitle("hatched published, filled simulated", fontsize=9)
    axes[0].set_ylabel(ylabel)


def curves(
    ax: Axes, series: Sequence[tuple[str, Sequence[float], Sequence[float]]], xlabel: str, ylabel: str
) -> None:
    """Named curves: (name, x, y)."""
    names = [name for name, _, _ in series]
    for name, x, y in series:
        ax.plot(x, y, color=policy_color(name, names), marker=policy_marker(name, names), label=name)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.legend(fontsize=8)
