"""How well a fitted cost model predicts: predicted against measured step times, and residuals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simsched.cost_model.fit import FloatArray, Steps
from simsched.plotting.style import BLUE, GREY, ORANGE, WIDTH, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class CalibrationDisplay:
    """Steps that the fit has not seen, and what it predicts."""

    steps: Steps
    predicted: FloatArray
    """Seconds of each."""
    title: str

    def plot(self) -> Figure:
        """Two panels: predicted against measured time (ms), relative residual against tokens of the step."""
        with styled():
            from matplotlib.figure import Figure
            from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

            figure = Figure(figsize=(WIDTH, WIDTH * 0.45))
            times, residuals = figure.subplots(1, 2)
            measured = self.steps.time * 1e3
            predicted = self.predicted * 1e3
            kinds = (
                ("decodes only", self.steps.P == 0, BLUE),
                ("with prefill", self.steps.P > 0, ORANGE),
            )
            for name, rows, color in kinds:
                if not rows.any():
                    continue
                times.loglog(measured[rows], predicted[rows], ".", color=color, ms=3, alpha=0.5, label=name)
                residuals.semilogx(
                    (self.steps.P + self.steps.N)[rows],
                    100 * (predicted / measured - 1)[rows],
                    ".", color=color, ms=3, alpha=0.5,
                )  # fmt: skip
            ends = [measured.min(), measured.max()]
            times.loglog(ends, ends, color=GREY, lw=1)
            times.set(xlabel="measured step time (ms)", ylabel="predicted step time (ms)", title=self.title)
            for axis in (times.xaxis, times.yaxis):
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axis.set_minor_formatter(NullFormatter())
            times.legend(markerscale=3)
            residuals.axhline(0, color=GREY, lw=1)
            spread = float(np.percentile(np.abs(predicted / measured - 1), 99)) * 100
            limit = max(1.0, 1.2 * spread)  # an outlier must not flatten the rest
            residuals.set(
                xlabel="tokens in the step", ylabel="predicted / measured - 1 (%)", ylim=(-limit, limit)
            )
            return figure
