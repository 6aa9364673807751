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

    def __init__(self) -> None:
        # one offset for all requests: equal wall-clock times stay equal
        self._offset = time.monotonic() - time.time()

    def now(self) -> float:
        """Seconds now."""
        return time.monotonic()

    def from_wall(self, wall_time: float) -> float:
        """A wall-clock time (`time.time`) on this clock."""
        return wall_time + self._offset
