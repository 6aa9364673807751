"""A comparison as a table for people, and as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from simsched.results import Results
from validate.comparison import SPEEDUP_METRIC, cell_requests
from validate.components import COMPONENTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = (SPEEDUP_METRIC, "p99_latency_per_token_ms", "mean_ttft_ms", "mean_tpot_ms", "mean_e2el_ms")


def to_table(result: Mapping[str, Any], spread: Mapping[str, Any] | None = None) -> str:
    """A block per load; `spread` is the same comparison between two real runs: the machine's own error."""
    lines = []
    for load in result["loads"]:
        rate = "its own rate" if load["request_rate"] is None else f"{load['request_rate']:g} req/s"
        lines.append(f"{load['workload']} at {rate}: simulated against real")
        head = [name.removesuffix("_ms").replace("latency_per_token", "lat/token") for name in SHOWN]
        lines.append(f"  {'policy':24}" + "".join(f"{name:>22}" for name in (*head, "speed-up")))
        for policy, row in load["policies"].items():
            cells = [_cell(row["metrics"][name]) for name in SHOWN]
            if row["speedup"] is not None:
                cells.append(f"{row['speedup']['real']:.2f}x {row['speedup_error']:+.1%}")
            lines.append(f"  {policy:24}" + "".join(f"{cell:>22}" for cell in cells))
            again = _same(spread, load, policy)
            if again is not None:
                cells = [f"(real runs {again['metrics'][name]['relative_error']:+.1%})" for name in SHOWN]
                lines.append(f"  {'':24}" + "".join(f"{cell:>22}" for cell in cells))
        for name in COMPONENTS:
            parts = [
                f"{policy} {row['components'][name]['relative_error']:+.1%}"
                for policy, row in load["policies"].items()
            ]
            lines.append(f"  {name:24}{', '.join(parts)}")
        if load["order_tau"] is not None:
            lines.append(f"  order {' < '.join(load['order_real'])}, tau {load['order_tau']:.2f}")
    outcome = result["verdict"]
    lines.append("within tolerance" if outcome["within_tolerance"] else "outside tolerance:")
    lines += [f"  {failure}" for failure in outcome["failures"]]
    return "\n".join(lines)


def draw_cdfs(real: Results, simulated: Results) -> Figure:
    """Latency per token: real (solid) and simulated (dashed) distributions, a panel per policy."""
    from matplotlib.figure import Figure

    from simsched.plotting.style import WIDTH, policy_color, styled

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
                axis.plot(values * 1e3, share, dashes, color=policy_color(policy), label=label)
            axis.set_title(policy)
            axis.set_xscale("log")
        for place in range(len(policies), rows * columns):
            axes[place // columns][place % columns].set_axis_off()
        axes[0][0].legend()
        figure.supxlabel("Latency per token (ms), all loads")
        figure.supylabel("Share of requests")
    return figure


def _cell(pair: Mapping[str, float]) -> str:
    return f"{pair['real']:.3g} {pair['relative_error']:+.1%}"


def _same(spread: Mapping[str, Any] | None, load: Mapping[str, Any], policy: str) -> Any:
    """The row of the same load and policy in another comparison."""
    for other in (spread or {}).get("loads", ()):
        same = all(other[key] == load[key] for key in ("workload", "request_rate"))
        if same and policy in other["policies"]:
            return other["policies"][policy]
    return None
