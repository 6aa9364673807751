"""A comparison as a table for people, and as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from simsched.results import Results
from validate.comparison import SPEEDUP_METRIC
from validate.components import COMPONENTS, cell_requests
from validate.verdict import rate_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = (SPEEDUP_METRIC, "p99_latency_per_token_ms", "mean_ttft_ms", "mean_tpot_ms", "mean_e2el_ms")


def to_table(result: Mapping[str, Any]) -> str:
    """A block per load; with several replays, under each line of errors how far the real runs differ."""
    lines = []
    for load in result["loads"]:
        lines.append(f"{load['workload']} at {rate_text(load['request_rate'])}: simulated against real")
        head = [name.removesuffix("_ms").replace("latency_per_token", "lat/token") for name in SHOWN]
        lines.append(f"  {'policy':32}" + "".join(f"{name:>22}" for name in (*head, "speed-up")))
        for policy, row in load["policies"].items():
            pairs = [row["metrics"][name] for name in SHOWN]
            cells = [f"{pair['real']:.3g} {pair['relative_error']:+.1%}" for pair in pairs]
            if row["speedup"] is not None:
                pairs.append(row["speedup"])
                cells.append(f"{row['speedup']['real']:.2f}x {row['speedup_error']:+.1%}")
            lines.append(f"  {policy:32}" + "".join(f"{cell:>22}" for cell in cells))
            if result["replays"] > 1:
                cells = [f"(real runs {pair['spread']:.1%})" for pair in pairs]
                lines.append(f"  {'':32}" + "".join(f"{cell:>22}" for cell in cells))
        for name in COMPONENTS:
            parts = [
                f"{policy} {row['components'][name]['relative_error']:+.1%}"
                for policy, row in load["policies"].items()
            ]
            lines.append(f"  {name:24}{', '.join(parts)}")
        if load["order_tau"] is not None:
            lines.append(
                f"  order {' < '.join(load['order_real'])}, tau {load['order_tau']:.2f}{_ties(load)}"
            )
    return "\n".join([*lines, *_outcome(result["verdict"], result["replays"])])


def to_summary(result: Mapping[str, Any]) -> str:
    """The errors of all loads and policies in a few lines, and the verdict."""
    lines = []
    for metric, name in ((SPEEDUP_METRIC, "mean"), ("p99_latency_per_token_ms", "P99")):
        errors = [
            row["metrics"][metric]["relative_error"]
            for load in result["loads"]
            for row in load["policies"].values()
        ]
        size = sum(map(abs, errors)) / len(errors)
        lines.append(
            f"  {name} latency per token: {min(errors):+.1%} to {max(errors):+.1%}, {size:.1%} in the mean"
        )
    return "\n".join([*lines, *(f"  {line}" for line in _outcome(result["verdict"], result["replays"]))])


def _ties(load: Mapping[str, Any]) -> str:
    if not load["order_tied"]:
        return ""
    tied = ", ".join(" and ".join(pair) for pair in load["order_tied"])
    tau = load["order_tau_distinct"]
    left = "no other pair" if tau is None else f"tau of the other pairs {tau:.2f}"
    return f"; real runs overlap for {tied}; {left}"


def _outcome(outcome: Mapping[str, Any], replays: int) -> list[str]:
    failures, beyond = outcome["failures"], outcome["beyond_spread"]
    if not failures:
        return [f"within tolerance: all {outcome['checks']} checks"]
    text = f"outside tolerance: {len(failures)} of {outcome['checks']} checks"
    if replays > 1:
        text += f", {len(beyond)} of them by more than the {replays} real runs differ (marked !)"
    return [text, *(f"{'! ' if replays > 1 and each in beyond else '  '}{each}" for each in failures)]


def draw_cdfs(real: Results, simulated: Results) -> Figure:
    """Latency per token: real (solid) and simulated (dashed) distributions, a panel per policy."""
    from matplotlib.figure import Figure

    from simsched.plotting.style import WIDTH, log_ticks, policy_color, styled

    policies = list(dict.fromkeys(str(options["policy"]) for options in real.cells.values()))
    columns = min(3, len(policies))
    rows = -(-len(policies) // columns)
    with styled():
        figure = Figure(figsize=(WIDTH, 2.6 * rows + 0.4))
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for place, policy in enumerate(policies):
            axis = axes[place // columns][place % columns]
            for results, dashes, label in ((real, "-", "real"), (simulated, "--", "simulated")):
                cells = [cell for cell, options in results.cells.items() if options["policy"] == policy]
                values = np.sort(
                    np.concatenate([cell_requests(results, cell)["latency_per_token"] for cell in cells])
                )
                share = np.arange(1, len(values) + 1) / len(values)
                axis.plot(values * 1e3, share, dashes, color=policy_color(policy, policies), label=label)
            axis.set_title(policy)
            axis.set_xscale("log")
            log_ticks(axis, "x")
        for place in range(len(policies), rows * columns):
            axes[place // columns][place % columns].set_axis_off()
        axes[0][0].legend()
        figure.supxlabel("Latency per token (ms), all loads")
        figure.supylabel("Share of requests")
    return figure
