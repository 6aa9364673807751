"""Requests in the system over time: whether a queue is steady, grows, or heals from a burst."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from simsched.compare import samples_of
from simsched.compare.deciles import requests_of_cell
from simsched.metrics import Requests
from simsched.plotting.looks import Looks, looks_of
from simsched.plotting.style import NoDataError, name_lines, new_axes, styled
from simsched.steady import mean_backlog
from simsched.workload.trace import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from simsched.results import Results

_SPANS = 300
_FAR = 8  # beyond so many times of the least, a linear axis shows the greatest alone


@dataclass
class BacklogDisplay:
    """Requests that have arrived and are not finished, a line per arm, while requests arrive."""

    lines: dict[str, tuple[FloatArray, FloatArray]]
    """Arm -> (times in seconds, mean number of requests)."""
    looks: Looks = field(default_factory=Looks)

    @classmethod
    def from_results(cls, results: Results, *, where: Mapping[str, Any] | None = None) -> Self:
        """From the first run of each arm, at the highest load with the options in `where`.

        Raises:
            InputError: requests arrive all at once.
        """
        samples = samples_of(results, where=where)
        load = samples.highest()
        lines = {}
        for arm in samples.arms:
            cells = samples.cells.get((load, arm))
            if not cells:
                continue
            requests = Requests.of_table(requests_of_cell(results, cells[0]))
            end = float(requests.arrival.max())
            if end > requests.arrival.min():
                edges = np.linspace(float(requests.arrival.min()), end, _SPANS + 1)
                backlog = mean_backlog(requests.arrival, requests.finish, edges)
                lines[arm] = (edges[:-1] + np.diff(edges) / 2, backlog)
        if not lines:
            raise NoDataError(f"{results.path}: requests arrive all at once; expected arrivals over time")
        return cls(lines, looks_of(results, samples.arms, where))

    def plot(self, ax: Axes | None = None, *, label_lines: bool = True) -> Self:
        """Draw; `label_lines` names each line at its right end. Sets `ax_` and `figure_`."""
        from matplotlib.ticker import StrMethodFormatter

        with styled():
            self.ax_ = ax = new_axes(ax)
            self.figure_ = ax.figure
            ends = []
            for arm in self.looks.ordered(self.lines):
                times, backlog = self.lines[arm]
                line = self.looks.line(arm, self.lines)
                every = self.looks.markevery(arm, len(times) // 5)
                ax.plot(times, backlog, label=arm, markevery=every, **line)
                ends.append((float(times[-1]), float(backlog[-1]), arm, line["color"]))
            lasts = [backlog[-1] for _, backlog in self.lines.values()]
            if max(lasts) > _FAR * max(1.0, min(lasts)):
                ax.set_yscale("log")
                ax.set_ylim(bottom=max(1.0, 0.5 * min(lasts)))
            else:
                ax.set_ylim(bottom=0)
            ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
            ax.set_xlabel("Time (s)")
            ax.set_ylabel("Requests in the system")
            if label_lines:
                name_lines(ax, ends)
        return self
