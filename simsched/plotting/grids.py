"""Two options at once: a heat map per policy on one scale, and the trade-off between two metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from simsched.compare import PRIMARY, samples_of
from simsched.compare.arm_table import telling_options
from simsched.compare.phrases import load_text, option_text
from simsched.compare.samples import Samples, ascending, stated
from simsched.errors import InputError
from simsched.plotting.looks import Looks, looks_of
from simsched.plotting.style import (
    WIDTH,
    NoDataError,
    legend_on_top,
    log_label,
    log_ticks,
    new_axes,
    styled,
)
from simsched.text.arm_names import arm_name
from simsched.text.labels import higher_is_better, in_seconds, metric_label
from simsched.text.options import differing
from simsched.text.table import number
from simsched.workload.trace import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simsched.results import Results

_MOST_VALUES = 12  # of an option on an axis

_LONGEST_TICK = 24  # letters
_WIDEST_LABELS = 40  # characters beneath a panel, beyond which they are slanted


def grid_options(samples: Samples) -> list[str]:
    """The options that may be an axis of a heat map, by how many values they have: the request rate, and
    those of arms but the policy."""
    found: dict[str, int] = {}
    for parts in (list(samples.arms.values()), samples.loads):
        for name in dict.fromkeys(name for each in parts for name in each if name != "policy"):
            values = {str(each.get(name)) for each in parts}
            if len(values) > 1:
                found[name] = len(values)
    arms = [name for name in telling_options(samples) if name in found]
    loads = [name for name in found if name not in arms]
    return [*arms, *loads]


@dataclass
class HeatmapDisplay:
    """A metric over two options: a panel for each of the other arms, all on one colour scale."""

    panels: dict[str, FloatArray]
    """Name -> (rows, columns); NaN where there is no cell."""
    along: tuple[str, str]
    """The options of the columns and of the rows."""
    values: tuple[list[Any], list[Any]]
    metric: str
    load: str = ""

    @classmethod
    def from_results(
        cls,
        results: Results,
        *,
        metric: str = PRIMARY,
        along: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> Self:
        """From a finished directory.

        Args:
            results: the directory.
            metric: a column of the summary.
            along: the options of the two axes; None: the first two that vary.
            where: other options to hold fixed; of loads that are no axis the highest is drawn.

        Raises:
            InputError: fewer than two options vary, or `along` names none of them.
        """
        samples = samples_of(results, where=where)
        known = grid_options(samples)
        if len(known) < 2:
            raise NoDataError(f"{results.path}: no two options vary; expected a grid")
        chosen = list(along) if along is not None else known[:2]
        if len(chosen) != 2 or any(name not in known for name in chosen):
            raise InputError(f"figure option along {', '.join(chosen)}: expected two of {', '.join(known)}")
        x, y = chosen
        highest = samples.loads[samples.highest()]
        fixed = {name: value for name, value in highest.items() if name not in chosen}
        cells: dict[str, dict[tuple[Any, Any], float]] = {}
        rest = [name for name in next(iter(samples.arms.values())) if name not in chosen]
        shown = differing(rest, samples.arms.values())
        for i, load in enumerate(samples.loads):
            if any(load.get(name) != value for name, value in fixed.items()):
                continue
            for arm, options in samples.arms.items():
                mean = samples.mean(i, arm, metric)
                if mean is not None:
                    place = {**load, **options}
                    cells.setdefault(arm_name(options, shown, samples.labels), {})[place[x], place[y]] = mean
        if not cells:
            raise NoDataError(f"{results.path}: no {metric} to draw")
        columns, rows = (_values(cells, axis, name) for axis, name in enumerate(chosen))
        if max(len(columns), len(rows)) > _MOST_VALUES:
            raise InputError(f"{results.path}: over {_MOST_VALUES} values of an axis; fix some with `where`")
        panels = {
            name: np.array([[found.get((column, row), math.nan) for column in columns] for row in rows])
            for name, found in cells.items()
        }
        said = stated(results, fixed, where)
        for name in chosen:
            said.pop(name, None)
        return cls(panels, (x, y), (columns, rows), metric, load_text(said))

    def plot(self) -> Self:
        """Draw, the better the lighter. Sets `figure_`."""
        from matplotlib.colors import LogNorm, Normalize
        from matplotlib.figure import Figure

        with styled():
            x_names, y_names = ([_tick(each) for each in values] for values in self.values)
            folded = any("\n" in name for name in (*x_names, *y_names))
            columns = 1 if folded else min(2, len(self.panels))
            lines = -(-len(self.panels) // columns)
            rows = sum(0.42 + 0.17 * name.count("\n") for name in y_names)
            beneath = 0.17 * max(name.count("\n") for name in x_names)
            height = 1.2 + lines * (1.0 + beneath + rows)
            self.figure_ = figure = Figure(figsize=(WIDTH, height))
            axes = figure.subplots(lines, columns, squeeze=False).ravel()
            known = np.concatenate([panel[np.isfinite(panel)] for panel in self.panels.values()])
            seconds = in_seconds(self.metric, known.tolist())
            scale = 1e-3 if seconds else 1.0
            low, high = float(known.min()) * scale, float(known.max()) * scale
            norm: Normalize = LogNorm(low, high) if low > 0 and high > 3 * low else Normalize(low, high)
            colors = "viridis" if higher_is_better(self.metric) else "viridis_r"
            image = None
            for ax, (name, panel) in zip(axes, self.panels.items(), strict=False):
                image = ax.imshow(panel * scale, norm=norm, cmap=colors, aspect="auto")
                for (row, column), value in np.ndenumerate(panel):
                    if np.isfinite(value):
                        dark = (float(norm(value * scale)) < 0.5) == higher_is_better(self.metric)
                        ax.text(
                            column, row, number(value * scale), ha="center", va="center", fontsize=8.5,
                            color="white" if dark else "black",
                        )  # fmt: skip
                wide = [max(map(len, name.split("\n"))) for name in x_names]
                ax.set_xticks(range(len(x_names)), x_names, **({"fontsize": 8.5} if folded else {}))
                if sum(wide) > _WIDEST_LABELS * (2 if folded else 1):
                    ax.tick_params(axis="x", labelrotation=30)
                    for label in ax.get_xticklabels():
                        label.set_horizontalalignment("right")
                ax.set_yticks(range(len(y_names)), y_names)
                ax.set_xlabel(_axis_name(self.along[0]))
                ax.set_ylabel(_axis_name(self.along[1]))
                ax.set_title(", ".join(filter(None, (name, self.load))))
                ax.grid(visible=False)
            for ax in axes[len(self.panels) :]:
                ax.set_visible(False)
            assert image is not None
            bar = figure.colorbar(
                image, ax=axes[: len(self.panels)].tolist(), label=metric_label(self.metric, seconds=seconds)
            )
            ticks = np.geomspace(low, high, 4) if isinstance(norm, LogNorm) else np.linspace(low, high, 4)
            bar.set_ticks(ticks.tolist(), labels=[number(each) for each in ticks.tolist()])
            bar.minorticks_off()
        return self


def _values(cells: Mapping[str, Mapping[tuple[Any, Any], float]], axis: int, name: str) -> list[Any]:
    places = dict.fromkeys(place[axis] for found in cells.values() for place in found)
    return [row[name] for row in ascending([{name: value} for value in places], [name])]


def _tick(value: Any) -> str:
    """An option's value beside an axis; a fleet's in a line for each group of its replicas."""
    text = option_text(value)
    return text if len(text) <= _LONGEST_TICK else text.replace("+", "+\n").replace("(", "\n(")


def _axis_name(option: str) -> str:
    return metric_label(option) if option in ("request_rate", "tau") else option


@dataclass
class ParetoDisplay:
    """Two metrics against one another at one load: a point for each arm, the front as a line."""

    points: dict[str, tuple[float, float]]
    """Arm -> its value of each metric."""
    metrics: tuple[str, str]
    load: str = ""
    looks: Looks = field(default_factory=Looks)

    @classmethod
    def from_results(
        cls,
        results: Results,
        *,
        metrics: Sequence[str],
        where: Mapping[str, Any] | None = None,
    ) -> Self:
        """From a finished directory: the highest load with the options in `where`.

        Raises:
            InputError: not two metrics, or fewer than two arms have both.
        """
        if len(metrics) != 2:
            raise InputError(f"figure option metric {', '.join(metrics)}: expected two for a Pareto figure")
        samples = samples_of(results, where=where)
        load = samples.highest()
        points = {}
        for arm in samples.arms:
            x, y = (samples.mean(load, arm, metric) for metric in metrics)
            if x is not None and y is not None:
                points[arm] = (x, y)
        if len(points) < 2:
            raise NoDataError(f"{results.path}: fewer than two arms have {' and '.join(metrics)}")
        said = load_text(stated(results, samples.loads[load], where))
        return cls(points, (metrics[0], metrics[1]), said, looks_of(results, samples.arms, where))

    def front(self) -> list[str]:
        """The arms that no other is better than in both metrics, along the first."""
        signs = [-1 if higher_is_better(metric) else 1 for metric in self.metrics]
        costs = {
            arm: tuple(sign * value for sign, value in zip(signs, point, strict=True))
            for arm, point in self.points.items()
        }

        def beaten(arm: str) -> bool:
            mine = costs[arm]
            return any(
                each != mine and all(a <= b for a, b in zip(each, mine, strict=True))
                for each in costs.values()
            )

        return sorted((arm for arm in costs if not beaten(arm)), key=lambda arm: self.points[arm])

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw. Sets `ax_` and `figure_`."""
        with styled():
            self.ax_ = ax = new_axes(ax)
            figure = ax.get_figure(root=True)
            assert figure is not None
            self.figure_: Figure = figure
            seconds = [
                in_seconds(metric, [point[i] for point in self.points.values()])
                for i, metric in enumerate(self.metrics)
            ]
            scales = [1e-3 if long else 1.0 for long in seconds]
            shown = {arm: (point[0] * scales[0], point[1] * scales[1]) for arm, point in self.points.items()}
            front = self.front()
            ax.plot(*zip(*(shown[arm] for arm in front), strict=True), color="#9A9A9A", linewidth=1, zorder=0)
            for arm in self.looks.ordered(shown):
                line = {**self.looks.line(arm, shown), "linestyle": "none"}
                ax.plot(*([each] for each in shown[arm]), label=arm, **line)
            labels = []
            for i, (which, metric) in enumerate(zip("xy", self.metrics, strict=True)):
                values = [point[i] for point in shown.values()]
                label = metric_label(metric, seconds=seconds[i])
                if min(values) > 0 and max(values) > 5 * min(values):
                    log_ticks(ax, which)
                    label = log_label(label)
                labels.append(label)
            ax.set_xlabel(labels[0])
            ax.set_ylabel(labels[1])
            if self.load:
                ax.set_title(self.load)
            legend_on_top(figure, ax)
        return self
