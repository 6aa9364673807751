"""What is due at which step: a heap of the steps that have anything, and a list for each."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
NO_STEP = 1 << 62


class StepCalendar(Generic[T]):
    """Entries are not taken back: whoever asks says which still hold."""

    def __init__(self) -> None:
        self._entries: dict[int, list[T]] = {}
        self._steps: list[int] = []

    def add(self, step: int, entry: T) -> None:
        """This is due at that step."""
        entries = self._entries.get(step)
        if entries is None:
            self._entries[step] = [entry]
            heapq.heappush(self._steps, step)
        else:
            entries.append(entry)

    def pop(self, step: int, holds: Callable[[int, T], bool]) -> list[T]:
        """What is due by now and holds."""
        due: list[T] = []
        steps = self._steps
        while steps and steps[0] <= step:
            at = heapq.heappop(steps)
            due += [entry for entry in self._entries.pop(at) if holds(at, entry)]
        return due

    def first(self, holds: Callable[[int, T], bool]) -> int:
        """The earliest step with anything that holds."""
        steps = self._steps
        while steps:
            entries = self._entries[steps[0]]
            while entries and not holds(steps[0], entries[-1]):
                entries.pop()
            if entries:
                return steps[0]
            del self._entries[heapq.heappop(steps)]
        return NO_STEP
