"""Requests over time, a bar each, and the batch of each step beneath."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from simsched.plotting.style import BLUE, GREEN, GREY, ORANGE, SKY, VERMILION, WIDTH, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from simsched.timeline import Timeline

_COLORS = {
    "queued": "#C9C9C9",
    "prefill": ORANGE,
    "decode": BLUE,
    "preempted": VERMILION,
    "recompute": "#E9C46A",
    "waiting": SKY,
}


@dataclass
class TimelineDisplay:
    """What each request is at each time; beneath, requests and tokens of the steps."""

    timeline: Timeline
    title: str = ""

    def plot(self) -> Self:
        """Draw. Sets `figure_`."""
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch

        with styled():
            lives = self.timeline.requests
            rows = len(lives)
            figure: Figure = Figure(figsize=(WIDTH, 2.6 + max(1.5, 0.16 * rows)))
            top, below = figure.subplots(
                2, 1, sharex=True, gridspec_kw={"height_ratios": [max(1.5, 0.16 * rows), 1.3]}
            )
            kinds = {}
            for row, life in enumerate(lives):
                for part in life.intervals:
                    kinds[part.kind] = _COLORS[part.kind]
                    top.barh(
                        row, part.end - part.start, left=part.start, height=0.78,
                        color=_COLORS[part.kind], edgecolor="white",
                        linewidth=0.3 if part.kind in ("prefill", "recompute") else 0,
                    )  # fmt: skip
            names = [life.request_id for life in lives]
            shown = range(0, rows, max(1, rows // 25))
            top.set_yticks(list(shown), [names[i] for i in shown], fontsize=8)
            top.set_ylim(rows - 0.4, -0.6)
            top.grid(axis="y", visible=False)
            top.set_ylabel("Request")
            figure.legend(
                [Patch(color=color) for color in kinds.values()], list(kinds),
                loc="outside upper center", ncols=len(kinds),
            )  # fmt: skip
            if self.title:
                top.set_title(self.title)
            steps = [
                step
                for step in self.timeline.steps
                if lives and step.end >= lives[0].arrival and step.start <= _last(self.timeline)
            ]
            times = np.array([step.start for step in steps])
            below.step(
                times, [step.num_running for step in steps], where="post", color=GREEN, label="running"
            )
            below.step(times, [step.num_waiting for step in steps], where="post", color=GREY, label="waiting")
            below.set_ylim(bottom=0)
            below.set_ylabel("Requests")
            below.set_xlabel("Time (s)")
            below.legend(loc="upper right")
            self.figure_ = figure
        return self


def _last(timeline: Timeline) -> float:
    return max((part.end for life in timeline.requests for part in life.intervals), default=0.0)
