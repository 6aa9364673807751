"""How full the engine is over time, from step logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from simsched.compare import samples_of
from simsched.errors import InputError
from simsched.plotting.looks import Looks, looks_of
from simsched.plotting.style import WIDTH, NoDataError, legend_on_top, styled
from simsched.workload.trace import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from simsched.results import Results

QUANTITIES = {
    "kv_blocks_used": "KV blocks in use",
    "num_running": "Running requests",
    "num_waiting": "Waiting requests",
}
_BINS = 240
_MOST_REPLICAS = 8  # columns of panels; the others are left out, and their number is said


@dataclass(frozen=True)
class Series:
    """Time-weighted means over equal spans of time."""

    time: FloatArray
    """(bins,) middle of each span, in seconds."""
    values: dict[str, FloatArray]
    """Quantity -> (bins,); NaN where no step ran."""


def series_of(steps: Iterable[Mapping[str, Any]], bins: int = _BINS) -> Series:
    """The occupancy of one step log. A step counts in the spans that it covers, by its length there."""
    try:
        rows = [(step["time"], step["step_time"], *(step[name] for name in QUANTITIES)) for step in steps]
        table = np.array(rows, dtype=float)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"a damaged step log: expected time, step_time, {', '.join(QUANTITIES)}") from None
    if not rows:
        raise InputError("a step log without steps")
    start, length = table[:, 0], table[:, 1]
    ends = start + length
    edges = np.linspace(start[0], ends[-1], bins + 1)
    # cumulative integrals at the edges of the spans; between steps nothing is added
    knots = np.ravel(np.column_stack([start, ends]))
    busy = np.diff(np.interp(edges, knots, np.ravel(np.column_stack([_before(length), np.cumsum(length)]))))
    values = {}
    for i, name in enumerate(QUANTITIES, start=2):
        area = table[:, i] * length
        total = np.interp(edges, knots, np.ravel(np.column_stack([_before(area), np.cumsum(area)])))
        values[name] = np.divide(np.diff(total), busy, out=np.full(bins, np.nan), where=busy > 0)
    return Series((edges[1:] + edges[:-1]) / 2, values)


def _before(values: FloatArray) -> FloatArray:
    """Sum of all earlier values, at each."""
    total: FloatArray = np.cumsum(values) - values
    return total


def by_replica(steps: Iterable[Mapping[str, Any]]) -> list[Series]:
    """The occupancy of each replica of a step log, by its number; of one engine, one."""
    logs: dict[int, list[Mapping[str, Any]]] = {}
    for step in steps:
        logs.setdefault(step.get("replica", 0), []).append(step)
    return [series_of(logs[number]) for number in sorted(logs)] or [series_of(())]


@dataclass
class OccupancyDisplay:
    """KV memory, batch and queue over time: three panels, a line per policy; of several replicas, a column of
    panels for each, on one scale."""

    series: dict[str, list[Series]]
    """Arm -> the series of each replica."""
    looks: Looks = field(default_factory=Looks)

    @classmethod
    def from_results(cls, results: Results, *, where: Mapping[str, Any] | None = None) -> Self:
        """From the step logs of the first run with the options in `where`.

        Raises:
            InputError: no step logs (`--log-steps`).
        """
        samples = samples_of(results, where=where)
        series: dict[str, list[Series]] = {}
        for (_, arm), cells in samples.cells.items():
            logged = [cell for cell in cells if (results.path / "steps" / f"{cell}.jsonl").is_file()]
            if logged and arm not in series:
                series[arm] = by_replica(results.steps(logged[0]))
        if not series:
            raise NoDataError(f"{results.path}: no step logs to draw (--log-steps)")
        return cls(series, looks_of(results, samples.arms, where))

    def plot(self, axes: Sequence[Axes] | None = None) -> Self:
        """Draw, one quantity below the other; `axes`: three a replica, row by row. Sets `axes_` and
        `figure_`."""
        from matplotlib.figure import Figure
        from matplotlib.ticker import StrMethodFormatter

        most = max(map(len, self.series.values()))
        columns = min(most, _MOST_REPLICAS)
        with styled():
            if axes is None:
                size = (WIDTH if columns < 3 else 2.6 * columns + 0.6, 6.0)
                panels = Figure(figsize=size).subplots(
                    len(QUANTITIES), columns, sharex=True, sharey="row", squeeze=False
                )
                axes = list(panels.flat)
            self.axes_ = axes
            figure = axes[0].get_figure()
            assert isinstance(figure, Figure)
            self.figure_ = figure
            for place, ax in enumerate(axes):
                row, column = divmod(place, columns)
                name, label = list(QUANTITIES.items())[row]
                for arm in self.looks.ordered(self.series):
                    if column < len(self.series[arm]):
                        each = self.series[arm][column]
                        line = self.looks.curve(arm, self.series)
                        ax.plot(each.time, each.values[name], label=arm, linewidth=1.4, **line)
                ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
                if column == 0:
                    ax.set_ylabel(label)
                if row == len(QUANTITIES) - 1:
                    ax.set_xlabel("Time (s)")
                if row == 0 and most > 1:
                    of_all = f" of {most}" if most > columns else ""
                    ax.set_title(f"replica {column}{of_all}")
            for ax in axes:  # once all that shares its scale is drawn
                ax.set_ylim(bottom=0)
            legend_on_top(figure, axes[0])
        return self
