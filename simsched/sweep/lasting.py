"""How long requests arrive where nobody says: long enough for a steady state, where there is one."""

from __future__ import annotations

from collections.abc import Sequence

TRANSIENT = 60.0
"""Seconds of arrivals in overload, where every length gives other numbers; as in the paper's runs."""
LEAST, MOST = 600.0, 7200.0
"""Seconds of arrivals below the capacity: several times what the longest answer takes; two hours."""
ENOUGH = 8000
"""Requests below the capacity: eighty beyond a P99, and throughputs within about 1 % by chance."""
MEMORY = 45.0
"""A queue forgets in about 1 / (rate * (1 - load)^2) seconds; a run lasts so many times that."""
OVER = 6.0
"""A backlog that grows by 1 % of the arrivals shows after so many hundreds of seconds."""


def seconds_of_arrivals(rate: float, capacities: Sequence[float]) -> float:
    """How long requests arrive at this rate (requests/s) for engines of these estimated capacities.

    All arms of a load meet the same requests, so the one that takes longest to settle decides; where none
    can keep up, there is nothing to wait for.
    """
    loads = [rate / most for most in capacities]
    below = [load for load in loads if load < 1]
    if below:
        forgets = 1 / (rate * (1 - max(below)) ** 2)
        seconds = max(LEAST, ENOUGH / rate, MEMORY * forgets)
    else:
        over = min(loads) - 1
        seconds = max(TRANSIENT, OVER / over) if over > 0 else MOST
    return float(f"{min(MOST, seconds):.2g}")


def behind_run_in(seconds: float, run_in: float) -> float:
    """So many seconds of arrivals after `run_in`, in which a load becomes what it is to be; and so many that
    this is over well before half of the run is."""
    return float(f"{max(seconds + run_in, 2.5 * run_in):.2g}") if run_in else seconds
