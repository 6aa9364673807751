"""A metric against the request rate, a line per policy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from simsched.compare import PRIMARY, samples_of
from simsched.errors import InputError
from simsched.labels import metric_label
from simsched.plotting.style import direct_labels, log_ticks, new_axes, policy_color, policy_line, styled
from simsched.statistics import paired_ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from simsched.results import Results


@dataclass(frozen=True)
class Point:
    """A geometric mean over runs with its 95 % interval (None with one run)."""

    x: float
    mean: float
    low: float | None
    high: float | None


def points_along(
    results: Results, option: str, metric: str, where: Mapping[str, Any]
) -> dict[str, list[Point]]:
    """Policy -> a point for each value of a swept option, ascending; policies without values are left out.

    Args:
        results: a finished directory.
        option: a numeric option that varies, such as `request_rate`.
        metric: a column of the summary.
        where: other options to hold fixed.
    """
    samples = samples_of(results)
    lines: dict[str, list[Point]] = {}
    for policy in samples.policies:
        points = []
        for i, load in enumerate(samples.loads):
            if any(load.get(name) != value for name, value in where.items() if name in load):
                continue
            x = load.get(option)
            values = [each for each in samples.values.get((i, policy, metric), {}).values() if each > 0]
            if x is not None and math.isfinite(x) and values:
                mean = paired_ratio(values, [1.0] * len(values))
                points.append(Point(float(x), mean.ratio, mean.low, mean.high))
        if points:
            lines[policy] = sorted(points, key=lambda point: point.x)
    return lines


@dataclass
class LatencyDisplay:
    """Latency (or any metric) against the request rate; bands are 95 % intervals over runs."""

    lines: dict[str, list[Point]]
    metric: str = PRIMARY
    x_label: str = "Request rate (req/s)"

    @classmethod
    def from_results(
        cls, results: Results, *, metric: str = PRIMARY, where: Mapping[str, Any] | None = None
    ) -> Self:
        """From a finished directory; `where` fixes other swept options.

        Raises:
            InputError: no metric of this name has values at two rates or more.
        """
        lines = points_along(results, "request_rate", metric, where or {})
        if len({point.x for points in lines.values() for point in points}) < 2:
            raise InputError(f"{results.path}: no {metric} at two or more request rates")
        return cls(lines, metric)

    def plot(self, ax: Axes | None = None, *, label_lines: bool = True) -> Self:
        """Draw; `label_lines` names each line at its right end. Sets `ax_` and `figure_`."""
        with styled():
            self.ax_ = ax = new_axes(ax)
            self.figure_ = ax.figure
            for policy, points in self.lines.items():
                x = [point.x for point in points]
                ax.plot(x, [point.mean for point in points], label=policy, **policy_line(policy))
                banded = [point for point in points if point.low is not None and point.high is not None]
                ax.fill_between(
                    [point.x for point in banded],
                    [point.low or 0.0 for point in banded],
                    [point.high or 0.0 for point in banded],
                    color=policy_color(policy), alpha=0.18, linewidth=0,
                )  # fmt: skip
            rates = sorted({point.x for points in self.lines.values() for point in points})
            ax.set_xscale("log")
            shown = rates if len(rates) <= 8 else rates[:: math.ceil(len(rates) / 8)]
            ax.set_xticks(shown, [f"{rate:g}" for rate in shown])
            ax.set_xticks([], minor=True)
            log_ticks(ax, "y")
            ax.set_xlabel(self.x_label)
            ax.set_ylabel(metric_label(self.metric))
            if label_lines:
                ends = [
                    (p[-1].x, p[-1].mean, policy, policy_color(policy)) for policy, p in self.lines.items()
                ]
                direct_labels(ax, ends)
        return self


@dataclass
class TauDisplay(LatencyDisplay):
    """Latency against Kendall's tau of the predictor; policies that read no prediction are level lines."""

    x_label: str = "Kendall's tau of the predictor"

    @classmethod
    def from_results(
        cls, results: Results, *, metric: str = PRIMARY, where: Mapping[str, Any] | None = None
    ) -> Self:
        """From a directory whose grid has several `tau`.

        Raises:
            InputError: tau does not vary.
        """
        lines = points_along(results, "tau", metric, where or {})
        if len({point.x for points in lines.values() for point in points}) < 2:
            raise InputError(f"{results.path}: no {metric} at two or more values of tau (--tau 0.3,0.5,0.7)")
        return cls(lines, metric)

    def plot(self, ax: Axes | None = None, *, label_lines: bool = True) -> Self:
        """As `LatencyDisplay.plot`, on a linear axis of tau."""
        from matplotlib.ticker import AutoLocator, ScalarFormatter

        super().plot(ax, label_lines=False)
        with styled():
            self.ax_.set_xscale("linear")
            self.ax_.xaxis.set_major_locator(AutoLocator())
            self.ax_.xaxis.set_major_formatter(ScalarFormatter())
            if label_lines:
                ends = [
                    (p[-1].x, p[-1].mean, policy, policy_color(policy)) for policy, p in self.lines.items()
                ]
                direct_labels(self.ax_, ends)
        return self


@dataclass
class PolicyDisplay:
    """A metric at one load: a dot per policy with its 95 % interval over runs."""

    points: dict[str, Point]
    metric: str = PRIMARY

    @classmethod
    def from_results(
        cls, results: Results, *, metric: str = PRIMARY, where: Mapping[str, Any] | None = None
    ) -> Self:
        """From a finished directory; `where` picks one load where there are several.

        Raises:
            InputError: the metric has no values there.
        """
        samples = samples_of(results)
        found: dict[str, Point] = {}
        for (i, policy, name), runs in samples.values.items():
            load = samples.loads[i]
            fits = all(load.get(key) == value for key, value in (where or {}).items() if key in load)
            values = [each for each in runs.values() if each > 0]
            if name == metric and fits and values:
                mean = paired_ratio(values, [1.0] * len(values))
                found[policy] = Point(0.0, mean.ratio, mean.low, mean.high)
        if not found:
            raise InputError(f"{results.path}: no {metric}")
        return cls(found, metric)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw, best policy on top. Sets `ax_` and `figure_`."""
        with styled():
            self.ax_ = ax = new_axes(ax, height=1.2 + 0.42 * len(self.points))
            self.figure_ = ax.figure
            ranked = sorted(self.points.items(), key=lambda each: -each[1].mean)
            for row, (policy, point) in enumerate(ranked):
                line = {**policy_line(policy), "linestyle": "none"}
                if point.low is not None and point.high is not None:
                    ax.plot(
                        [point.low, point.high], [row, row], color=line["color"], linewidth=2.5, alpha=0.5
                    )
                ax.plot([point.mean], [row], **line)
                ax.annotate(
                    f"{point.mean:.3g}", (point.mean, row), xytext=(0, 7), textcoords="offset points",
                    ha="center", fontsize=9, color="#444444",
                )  # fmt: skip
            ax.set_yticks(range(len(ranked)), [policy for policy, _ in ranked])
            ax.set_ylim(-0.6, len(ranked) - 0.2)
            ax.grid(axis="y", visible=False)
            ax.set_xlim(left=0, right=1.08 * max(point.high or point.mean for point in self.points.values()))
            ax.set_xlabel(metric_label(self.metric))
        return self
