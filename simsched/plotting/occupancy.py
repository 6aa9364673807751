"""How full the engine is over time, from step logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from simsched.compare import samples_of
from simsched.errors import InputError
from simsched.plotting.style import WIDTH, NoDataError, legend_on_top, policy_color, styled
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


@dataclass
class OccupancyDisplay:
    """KV memory, batch and queue over time: three panels, a line per policy."""

    series: dict[str, Series]

    @classmethod
    def from_results(cls, results: Results, *, where: Mapping[str, Any] | None = None) -> Self:
        """From the step logs of the first run with the options in `where`.

        Raises:
            InputError: no step logs (`--log-steps`).
        """
        samples = samples_of(results, where=where)
        series: dict[str, Series] = {}
        for (_, arm), cells in samples.cells.items():
            logged = [cell for cell in cells if (results.path / "steps" / f"{cell}.jsonl").is_file()]
            if logged and arm not in series:
                series[arm] = series_of(results.steps(logged[0]))
        if not series:
            raise NoDataError(f"{results.path}: no step logs to draw (--log-steps)")
        return cls(series)

    def plot(self, axes: Sequence[Axes] | None = None) -> Self:
        """Draw on three axes, one above the other. Sets `axes_` and `figure_`."""
        from matplotlib.figure import Figure
        from matplotlib.ticker import StrMethodFormatter

        with styled():
            if axes is None:
                panels = Figure(figsize=(WIDTH, 6.0)).subplots(len(QUANTITIES), 1, sharex=True)
                axes = list(panels)
            self.axes_ = axes
            figure = axes[0].get_figure()
            assert isinstance(figure, Figure)
            self.figure_ = figure
            for ax, (name, label) in zip(axes, QUANTITIES.items(), strict=True):
                for policy, series in self.series.items():
                    ax.plot(
                        series.time,
                        series.values[name],
                        label=policy,
                        color=policy_color(policy, self.series),
                        linewidth=1.4,
                    )
                ax.set_ylim(bottom=0)
                ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
                ax.set_ylabel(label)
            axes[-1].set_xlabel("Time (s)")
            legend_on_top(figure, axes[0])
        return self
