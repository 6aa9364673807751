"""Figures of results, one Display class per kind, after scikit-learn's: `from_results(...)`, then `plot(ax)`.

    LatencyDisplay.from_results(results).plot(ax)

`simsched.plotting.figures.draw` makes whole figures of them, as `simsched plot` does.
"""

from simsched.plotting.latency import LatencyDisplay, PolicyDisplay, TauDisplay
from simsched.plotting.occupancy import OccupancyDisplay
from simsched.plotting.requests import CDFDisplay, DecileDisplay

__all__ = [
    "CDFDisplay",
    "DecileDisplay",
    "LatencyDisplay",
    "OccupancyDisplay",
    "PolicyDisplay",
    "TauDisplay",
]
