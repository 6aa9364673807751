"""A metric of each tenant, class or other group of requests, a dot per arm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from simsched.compare.groups import by_group
from simsched.compare.samples import samples_of
from simsched.errors import InputError
from simsched.metrics import METRICS
from simsched.plotting.looks import Looks, looks_of
from simsched.plotting.style import (
    NoDataError,
    legend_on_top,
    log_label,
    log_ticks,
    new_axes,
    styled,
    wrapped,
)
from simsched.text.labels import in_seconds, metric_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from simsched.results import Results

_WIDE = 10.0  # a range of values that needs a logarithmic axis


@dataclass
class GroupDisplay:
    """Groups one below the other, as in `simsched compare --by`; the requests of all runs together."""

    values: dict[str, dict[str, float]]
    """Arm -> group -> the metric."""
    by: str
    """The column that the groups are of."""
    metric: str
    looks: Looks = field(default_factory=Looks)

    @classmethod
    def from_results(
        cls,
        results: Results,
        *,
        by: str,
        metric: str = "mean_ttft_ms",
        where: Mapping[str, Any] | None = None,
    ) -> Self:
        """From a finished directory; the highest load with the options in `where`.

        Raises:
            InputError: no such column or metric, or too many groups; (`NoDataError`) no values.
        """
        if metric not in METRICS:
            raise InputError(f"metric {metric}: expected some of {', '.join(METRICS)}")
        samples = samples_of(results, where=where)
        goodput = (results.manifest.get("study") or {}).get("goodput")
        values: dict[str, dict[str, float]] = {}
        for row in by_group(results, samples, samples.highest(), by, goodput).rows:
            if math.isfinite(row.metrics[metric]):
                values.setdefault(row.arm, {})[row.group] = row.metrics[metric]
        if not values:
            raise NoDataError(f"{results.path}: no {metric} by {by}")
        return cls(values, by, metric, looks_of(results, samples.arms, where))

    @property
    def groups(self) -> list[str]:
        """The groups that any arm has a value of."""
        return list(dict.fromkeys(group for values in self.values.values() for group in values))

    def plot(self, ax: Axes | None = None, *, label_lines: bool = True) -> Self:
        """Draw, the first group on top; `label_lines`: with a legend. Sets `ax_` and `figure_`."""
        groups = self.groups
        with styled():
            self.ax_ = ax = new_axes(ax, height=groups_height(groups, self.values))
            figure = ax.get_figure(root=True)
            assert figure is not None
            self.figure_ = figure
            seen = [value for values in self.values.values() for value in values.values()]
            seconds = in_seconds(self.metric, seen)
            scale = 1e-3 if seconds else 1.0
            places = {group: len(groups) - 1 - row for row, group in enumerate(groups)}
            step = 0.7 / max(1, len(self.values))  # the arms of a group beneath one another
            for number, arm in enumerate(self.looks.ordered(self.values)):
                values = self.values[arm]
                shift = (len(self.values) / 2 - 0.5 - number) * step
                ax.plot(
                    [scale * value for value in values.values()],
                    [places[group] + shift for group in values],
                    label=arm,
                    **{**self.looks.line(arm, self.values), "linestyle": "none"},
                )
            ax.set_yticks(range(len(groups)), [wrapped(group) for group in groups[::-1]])
            ax.set_ylim(-0.6, len(groups) - 0.4)
            for between in range(len(groups) - 1):
                ax.axhline(between + 0.5, color="#DDDDDD", linewidth=0.8, zorder=0)
            ax.grid(axis="y", visible=False)
            if min(seen) > 0 and max(seen) > _WIDE * min(seen):
                log_ticks(ax, "x")
                ax.set_xlabel(log_label(metric_label(self.metric, seconds=seconds)))
            else:
                ax.set_xlim(0, 1.1 * scale * max(seen) or 1.0)
                ax.set_xlabel(metric_label(self.metric, seconds=seconds))
            ax.set_ylabel(self.by)
            if label_lines:
                legend_on_top(figure, ax)
        return self


def groups_height(groups: list[str], arms: Mapping[str, Any]) -> float:
    """Inches that a `GroupDisplay` needs."""
    return 1.2 + max(1.2, len(groups) * (0.15 + 0.13 * len(arms)))
