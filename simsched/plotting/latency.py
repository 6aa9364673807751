"""A metric against the request rate, a line per arm."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from simsched.compare import PRIMARY, Samples, find_arm, samples_of
from simsched.compare.arms import Arm, is_chosen
from simsched.compare.statistics import Ratio, paired_ratio
from simsched.plotting.looks import Looks, looks_of
from simsched.plotting.style import (
    NoDataError,
    log_label,
    log_ticks,
    name_lines,
    new_axes,
    styled,
    wrapped,
)
from simsched.text.arm_names import arm_name
from simsched.text.labels import in_seconds, metric_label
from simsched.text.options import differing
from simsched.text.table import number, short_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from simsched.results import Results

_HIGH = 48  # letters beside a panel
_LETTER = 0.09  # inches that a digit of a tick's label takes


@dataclass(frozen=True)
class Point:
    """A geometric mean over runs with its 95 % interval (None with one run)."""

    x: float
    mean: float
    low: float | None
    high: float | None

    def scaled(self, by: float) -> Point:
        """In another unit."""
        low, high = (each and each * by for each in (self.low, self.high))
        return Point(self.x, self.mean * by, low, high)


def points_along(
    results: Results, option: str, metric: str, where: Mapping[str, Any], relative_to: str | None = None
) -> dict[str, list[Point]]:
    """Line -> a point for each value of a swept option, ascending; lines without values are left out.

    Along a load's option (the request rate) there is a line for each arm; along an arm's (`max_num_seqs`),
    one for each arm but for that option, and those that it means nothing to (`tau` to FCFS) are level.

    Args:
        results: a finished directory.
        option: a numeric option that varies, such as `request_rate`.
        metric: a column of the summary.
        where: other options to hold fixed.
        relative_to: an arm; points are then ratios to it, with paired intervals.
    """
    samples = samples_of(results, where=where)
    base = find_arm(samples.arms, relative_to, "--relative-to") if relative_to else None
    places = sorted(
        {
            float(x)
            for part in (samples.loads, samples.arms.values())
            for each in part
            if (x := each.get(option)) is not None and math.isfinite(x)
        }
    )
    names = lines_along(samples, option)
    lines: dict[str, list[Point]] = {}
    for arm, chosen in samples.arms.items():
        for i, load in enumerate(samples.loads):
            x = load.get(option, chosen.get(option))
            if x is not None and not math.isfinite(x):
                continue
            if base is not None:
                mean = samples.ratio(i, arm, base, metric)
            else:
                mean = _over_runs(samples.values.get((i, arm, metric), {}))
            if mean is not None and (x is not None or is_chosen(option)):
                level = places if x is None else [float(x)]
                points = [Point(each, mean.ratio, mean.low, mean.high) for each in level]
                lines.setdefault(names[arm], []).extend(points)
    return {name: sorted(points, key=lambda point: point.x) for name, points in lines.items()}


def lines_along(samples: Samples, option: str) -> dict[str, str]:
    """Arm -> the line it is a point of, where `option` is on the horizontal axis: its name without that."""
    shown = [name for arm in samples.arms.values() for name in arm if name != option]
    varying = differing(dict.fromkeys(shown), samples.arms.values())
    return {name: arm_name(arm, varying, samples.labels) for name, arm in samples.arms.items()}


def arms_along(samples: Samples, option: str) -> dict[str, Arm]:
    """Line -> the options that its points share, where `option` is on the horizontal axis."""
    lines: dict[str, Arm] = {}
    for name, line in lines_along(samples, option).items():
        lines.setdefault(line, {key: value for key, value in samples.arms[name].items() if key != option})
    return lines


def _over_runs(runs: Mapping[Any, float]) -> Ratio | None:
    """The geometric mean of values with its interval; where one is 0, their mean."""
    values = list(runs.values())
    if values and min(values) > 0:
        return paired_ratio(values, [1.0] * len(values))
    return Ratio(sum(values) / len(values), None, None, None, len(values)) if values else None


@dataclass
class LatencyDisplay:
    """Latency (or any metric) against the request rate; bands are 95 % intervals over runs."""

    lines: dict[str, list[Point]]
    metric: str = PRIMARY
    along: str = "request_rate"
    """The option on the horizontal axis."""
    relative_to: str | None = None
    capacity: float | None = None
    """Requests/s, if all rates have the same: latencies right of it depend on how long requests arrive."""
    seconds: str = ""
    """How long they do, where that is the same at all rates."""
    looks: Looks = field(default_factory=Looks)

    @classmethod
    def from_results(
        cls,
        results: Results,
        *,
        metric: str = PRIMARY,
        along: str = "request_rate",
        where: Mapping[str, Any] | None = None,
        relative_to: str | None = None,
    ) -> Self:
        """From a finished directory.

        Args:
            results: the directory.
            metric: a column of the summary.
            along: the swept option on the horizontal axis.
            where: other swept options, held fixed.
            relative_to: draw ratios to this arm, with intervals of paired runs.

        Raises:
            InputError: the metric has values at fewer than two values of the option.
        """
        lines = points_along(results, along, metric, where or {}, relative_to)
        if len({point.x for points in lines.values() for point in points}) < 2:
            raise NoDataError(f"{results.path}: no {metric} at two or more values of {along}")
        display = cls(lines, metric, along, relative_to)
        samples = samples_of(results, where=where)
        display.looks = looks_of(results, arms_along(samples, along), where)
        if along == "request_rate":
            capacities = set(samples.capacity)
            seconds = map(samples.seconds_of_arrivals, range(len(samples.loads)))
            lasts = {short_number(last) for last in seconds if last}
            display.capacity = capacities.pop() if len(capacities) == 1 else None
            display.seconds = lasts.pop() if len(lasts) == 1 else ""
        return display

    def plot(self, ax: Axes | None = None, *, label_lines: bool = True) -> Self:
        """Draw; `label_lines` names each line at its right end. Sets `ax_` and `figure_`."""
        with styled():
            self.ax_ = ax = new_axes(ax)
            self.figure_ = ax.figure
            # the first are the largest, so that they show behind those drawn over them
            sizes = np.linspace(8.0, 4.8, len(self.lines)).tolist()
            seconds = not self.relative_to and in_seconds(
                self.metric, (point.mean for points in self.lines.values() for point in points)
            )
            scale = 1e-3 if seconds else 1.0
            ends = []
            for size, policy in zip(sizes, self.looks.ordered(self.lines), strict=True):
                points = [point.scaled(scale) for point in self.lines[policy]]
                x = [point.x for point in points]
                line = self.looks.line(policy, self.lines, markersize=size)
                ax.plot(x, [point.mean for point in points], label=policy, **line)
                ends.append((x[-1], points[-1].mean, policy, line["color"]))
                banded = [point for point in points if point.low is not None and point.high is not None]
                ax.fill_between(
                    [point.x for point in banded],
                    [point.low or 0.0 for point in banded],
                    [point.high or 0.0 for point in banded],
                    color=line["color"], alpha=0.15, linewidth=0,
                )  # fmt: skip
            self._scale(ax)
            ax.set_xlabel(
                metric_label(self.along) + (f", {self.seconds} s of arrivals" if self.seconds else "")
            )
            self._mark_capacity(ax)
            label = metric_label(self.metric, seconds=seconds)
            if self.relative_to:
                label = f"{metric_label(self.metric, unit=False)}, over {self.relative_to}"
            label = log_label(label) if ax.get_yscale() == "log" else label
            if len(label) > _HIGH:
                label = textwrap.fill(label, _HIGH - 8, break_on_hyphens=False)
            ax.set_ylabel(label)
            if label_lines:
                name_lines(ax, ends)
        return self

    def _mark_capacity(self, ax: Axes) -> None:
        """A line where the queue starts to grow, if that is among the rates."""
        rates = [point.x for points in self.lines.values() for point in points]
        if self.capacity is None or not min(rates) < self.capacity < max(rates):
            return
        ax.axvline(self.capacity, color="#8A8A8A", linewidth=1, linestyle=(0, (2, 2)), zorder=0)
        place, side = (0.01, "bottom") if self.relative_to else (0.99, "top")  # where lines seldom are
        ax.annotate(
            "capacity", (self.capacity, place), xycoords=("data", "axes fraction"), rotation=90,
            xytext=(-2, 0), textcoords="offset points", va=side, ha="right", fontsize=8.5, color="#606060",
        )  # fmt: skip

    def _scale(self, ax: Axes) -> None:
        """Logarithmic axes; linear in tau, and in options that span less than a factor of three."""
        values = sorted({point.x for points in self.lines.values() for point in points})
        if all(point.mean > 0 for points in self.lines.values() for point in points):
            log_ticks(ax, "y")
        else:
            ax.set_ylim(bottom=0)  # a zero has no place on a logarithmic axis
        if self.along != "tau" and values[0] > 0 and values[-1] >= 3 * values[0]:
            ax.set_xscale("log")
            shown = _apart(ax, values)
            ax.set_xticks(shown, [f"{value:g}" for value in shown])
            ax.set_xticks([], minor=True)


def _apart(ax: Axes, values: Sequence[float]) -> list[float]:
    """Those of ascending values whose labels fit beside one another on a logarithmic axis."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    inches = ax.get_position().width * figure.get_figwidth() / math.log(values[-1] / values[0])
    shown: list[float] = []
    for value in values:
        widths = [_LETTER * (1 + len(f"{each:g}")) for each in (value, *shown[-1:])]
        if not shown or inches * math.log(value / shown[-1]) > sum(widths) / 2:
            shown.append(value)
    return shown


@dataclass
class TauDisplay(LatencyDisplay):
    """Latency against Kendall's tau of the predictor; policies that read no prediction are level lines."""

    @classmethod
    def from_results(
        cls,
        results: Results,
        *,
        metric: str = PRIMARY,
        along: str = "tau",
        where: Mapping[str, Any] | None = None,
        relative_to: str | None = None,
    ) -> Self:
        """As `LatencyDisplay.from_results`, from a directory whose grid has several `tau`."""
        return super().from_results(results, metric=metric, along=along, where=where, relative_to=relative_to)


def dots_height(policies: Iterable[str]) -> float:
    """Inches that the rows of a `PolicyDisplay` need."""
    return max(1.0, sum(0.25 + 0.17 * len(wrapped(policy).splitlines()) for policy in policies))


@dataclass
class PolicyDisplay:
    """A metric at one load: a dot per arm with its 95 % interval over runs."""

    points: dict[str, Point]
    metric: str = PRIMARY
    looks: Looks = field(default_factory=Looks)

    @classmethod
    def from_results(
        cls, results: Results, *, metric: str = PRIMARY, where: Mapping[str, Any] | None = None
    ) -> Self:
        """From a finished directory; the highest load with the options in `where`.

        Raises:
            InputError: the metric has no values there.
        """
        samples = samples_of(results, where=where)
        load = samples.highest()
        found: dict[str, Point] = {}
        for arm in samples.arms:
            runs = samples.values.get((load, arm, metric), {})
            if mean := _over_runs(runs):
                found[arm] = Point(0.0, mean.ratio, mean.low, mean.high)
        if not found:
            raise NoDataError(f"{results.path}: no {metric}")
        return cls(found, metric, looks_of(results, samples.arms, where))

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw, the least on top. Sets `ax_` and `figure_`."""
        from matplotlib.ticker import MaxNLocator, StrMethodFormatter

        with styled():
            self.ax_ = ax = new_axes(ax, height=1.2 + dots_height(self.points))
            self.figure_ = ax.figure
            seconds = in_seconds(self.metric, (point.mean for point in self.points.values()))
            scale = 1e-3 if seconds else 1.0
            shown = {policy: point.scaled(scale) for policy, point in self.points.items()}
            ranked = sorted(shown.items(), key=lambda each: -each[1].mean)
            for row, (policy, point) in enumerate(ranked):
                line = {**self.looks.line(policy, self.points), "linestyle": "none"}
                if point.low is not None and point.high is not None:
                    ax.plot(
                        [point.low, point.high], [row, row], color=line["color"], linewidth=2.5, alpha=0.5
                    )
                ax.plot([point.mean], [row], clip_on=False, **line)
                ax.annotate(
                    number(point.mean), (point.high or point.mean, row), xytext=(8, 0),
                    textcoords="offset points", va="center", fontsize=9, color="#444444",
                )  # fmt: skip
            ax.set_yticks(range(len(ranked)), [wrapped(policy) for policy, _ in ranked])
            ax.set_ylim(-0.6, len(ranked) - 0.4)
            ax.grid(axis="y", visible=False)
            ax.set_xlim(0, 1.25 * max(point.high or point.mean for point in shown.values()))
            ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
            ax.set_xlabel(metric_label(self.metric, seconds=seconds))
        return self
