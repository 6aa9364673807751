"""How many requests keep an objective, against the request rate, a line per arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from simsched.plotting.looks import Looks
from simsched.plotting.style import legend_on_top, new_axes, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Attainment:
    """Of one arm: the share of the requests that keep the objective, at each rate that was tried."""

    name: str
    rates: Sequence[float]
    """Requests/s, ascending."""
    shares: Sequence[float]
    """0 to 1."""
    steady: Sequence[bool]
    """Where the backlog grows, the share is that of this length of run."""


@dataclass
class AttainmentDisplay:
    """SLO attainment against the request rate; hollow markers where an arm is not steady."""

    arms: Sequence[Attainment]
    target: float
    """The share that is asked for, drawn as a line."""
    label: str
    """What is attained."""
    caption: str = ""
    """Workload and hardware."""
    looks: Looks = field(default_factory=Looks)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw. Sets `ax_` and `figure_`."""
        with styled():
            self.ax_ = ax = new_axes(ax)
            figure = ax.get_figure(root=True)
            assert figure is not None
            self.figure_ = figure
            arms = {arm.name: arm for arm in self.arms}
            for name in self.looks.ordered(arms):
                arm = arms[name]
                line = self.looks.line(name, arms)
                shares = [100 * share for share in arm.shares]
                ax.plot(arm.rates, shares, label=arm.name, **line)
                hollow = [i for i, steady in enumerate(arm.steady) if not steady]
                ax.plot(
                    [arm.rates[i] for i in hollow], [shares[i] for i in hollow], linestyle="none",
                    marker=line["marker"], markersize=line["markersize"], color=line["color"],
                    markerfacecolor="white", zorder=5,
                )  # fmt: skip
            ax.axhline(100 * self.target, color="#606060", linewidth=1.2, linestyle=(0, (4, 2)), zorder=0)
            ax.annotate(
                f"objective: {100 * self.target:g} %", (0.01, 100 * self.target),
                xycoords=("axes fraction", "data"), xytext=(0, -3), textcoords="offset points",
                va="top", fontsize=9, color="#606060",
            )  # fmt: skip
            if not all(all(arm.steady) for arm in self.arms):
                ax.annotate(
                    "hollow: not steady, the backlog grows", (0.01, 0.02), xycoords="axes fraction",
                    fontsize=9, color="#606060",
                )  # fmt: skip
            ax.set_ylim(-2, 102)
            ax.set_xlabel(f"Request rate (req/s){', ' + self.caption if self.caption else ''}")
            ax.set_ylabel(f"Requests within {self.label} (%)")
            legend_on_top(figure, ax)
        return self
