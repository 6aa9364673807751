"""One clock for everything: the engine's monotonic one. vLLM stamps arrivals with the wall clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the scheduler asks; lock-step answers with a virtual clock."""

    def now(self) -> float: ...
    def from_wall(self, wall_time: float) -> float: ...


class EngineClock:
    """Seconds of `time.monotonic`."""

    def now(self) -> float:
        """Seconds now."""
        return time.monotonic()

    def from_wall(self, wall_time: float) -> float:
        """A wall-clock time (`time.time`) of the recent past on this clock; never later than now."""
        now = time.monotonic()
        return min(now, now - (time.time() - wall_time))
