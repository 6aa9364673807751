"""A part of a trace by time, and how evenly its load is spread."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from simsched.errors import InputError
from simsched.workload.sessions import stranded
from simsched.workload.trace import Trace

PARTS = 10
"""Equal parts of a trace's duration in which its rate is looked at."""
DRIFT = 2.0
"""A busiest part with this many times the mean rate is worth a warning."""


class Window(NamedTuple):
    """Seconds of a trace's own time, from the first (included) to the last (not)."""

    start: float
    end: float

    @staticmethod
    def parse(text: str) -> Window:
        """From `FROM..TO` in seconds; either may be left out.

        Raises:
            InputError: not of this form, or empty.
        """
        first, dots, last = text.partition("..")
        try:
            start = float(first) if first.strip() else 0.0
            end = float(last) if last.strip() else math.inf
        except ValueError:
            start = end = math.nan
        if not dots or not 0 <= start < end:
            raise InputError(f"--trace-window {text}: expected FROM..TO in seconds, such as 600..1200")
        return Window(start, end)


def cut(trace: Trace, window: Window) -> Trace:
    """The requests that arrive in the window, which begins at 0 then; of turns that wait for answers those
    whose sessions are in it from the start.

    Raises:
        InputError: there are none.
    """
    times = trace.arrival_time
    inside = (times >= window.start) & (times < window.end)
    rows = np.flatnonzero(inside & ~stranded(trace, inside))
    if not len(rows):
        shown = f"{window.start:g}..{window.end:g}".replace("inf", "")
        raise InputError(
            f"--trace-window {shown}: no request of {trace.name} arrives then; its arrivals go from "
            f"{times[0]:g} to {times[-1]:g} s"
        )
    part = trace.take(rows)
    return part.with_columns(arrival_time=part.arrival_time - window.start)


class Load(NamedTuple):
    """Requests/s of a trace over its tenths."""

    mean: float
    median: float
    peak: float
    peak_start: float
    """Where the busiest tenth begins, in seconds of the trace's own time,"""
    peak_end: float
    """and where it ends."""


def load_of(trace: Trace) -> Load | None:
    """The rate of a trace and of its tenths; None where all arrive at once, are fewer than 20, or wait
    for answers."""
    times = trace.arrival_time
    duration = float(times[-1] - times[0])
    if duration <= 0 or len(trace) < 2 * PARTS or trace.think_times is not None:
        return None
    edges = times[0] + np.linspace(0, duration, PARTS + 1)
    rates = np.histogram(times, edges)[0] / (duration / PARTS)
    busiest = int(np.argmax(rates))
    return Load(
        (len(trace) - 1) / duration,
        float(np.median(rates)),
        float(rates[busiest]),
        float(edges[busiest]),
        float(edges[busiest + 1]),
    )


def drift_note(trace: Trace) -> str | None:
    """A warning where the load is far from even, so that its mean says little."""
    load = load_of(trace)
    if load is None or len(trace) < 100 or load.peak < DRIFT * load.mean:
        return None
    return (
        f"{trace.name}: its rate drifts: {load.mean:.3g} requests/s in the mean, {load.median:.3g} in the "
        f"median tenth, {load.peak:.3g} in the busiest ({load.peak_start:.0f} to {load.peak_end:.0f} s); "
        f"--trace-window {load.peak_start:.0f}..{load.peak_end:.0f} takes that part alone"
    )
