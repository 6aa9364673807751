"""The steps that an engine has done, and when: the clock behind what policies see of requests."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

HISTORY: Final = 1 << 16
"""Ends of steps that are kept at least."""


class StepClock:
    """Counts steps. What a request has had (steps, seconds) is this, less an offset of its own."""

    __slots__ = ("_trimmed", "done", "ends", "formed", "history_limit", "time")

    def __init__(self) -> None:
        self.formed = 0
        """Steps that are formed."""
        self.done = 0
        """Steps that are over: as many, unless the next one is formed before (asynchronous scheduling)."""
        self.time = 0.0
        """End of the step done last, in seconds."""
        self.ends: list[float] | None = None
        """Where history is kept: the end of each step, less those at the front that are trimmed."""
        self.history_limit = HISTORY
        """How many ends there may be before they are to be trimmed."""
        self._trimmed = 0

    def end_of(self, step: int) -> float:
        """When so many steps were over, in seconds."""
        assert self.ends is not None
        return self.ends[step - self._trimmed - 1]

    def step_at(self, time: float) -> int:
        """How many steps were over when first it was this time or later; one too many if it never was."""
        assert self.ends is not None
        return self._trimmed + 1 + bisect_left(self.ends, time)

    def reading(self) -> tuple[int, int, float]:
        """What it says now, for `set`: steps formed, steps done, seconds."""
        return self.formed, self.done, self.time

    def turn_to(self, step: int) -> None:
        """Turn it back to the end of this step."""
        self.formed += step - self.done
        self.done = step
        self.time = self.end_of(step)

    def set(self, now: tuple[int, int, float]) -> None:
        """Turn it to what `reading` said."""
        self.formed, self.done, self.time = now

    def trim_history(self, first: int) -> None:
        """Nobody will ask for what was before this step."""
        assert self.ends is not None
        count = max(0, first - self._trimmed - 1)
        del self.ends[:count]
        self._trimmed += count
        self.history_limit = 2 * len(self.ends) + HISTORY
