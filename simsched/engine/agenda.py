"""What may happen when: a heap of the steps or times that have anything, and a list for each."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final, Generic, TypeVar

When = TypeVar("When", int, float)
What = TypeVar("What")

NO_LIMIT: Final = 1 << 60
"""No step in particular: none has this number."""


class Agenda(Generic[When, What]):
    """Step counter or time -> what may happen then; `agenda.push(when, what)`. Entries are not taken back:
    whoever asks says which still hold."""

    def __init__(self) -> None:
        self._at: dict[When, list[What]] = {}
        self._heap: list[When] = []
        """The keys."""

    def push(self, when: When, what: What) -> None:
        noted = self._at.get(when)
        if noted is None:
            self._at[when] = [what]
            heappush(self._heap, when)
        else:
            noted.append(what)

    def due(self, now: When) -> list[What]:
        """Take out what was noted until now."""
        due: list[What] = []
        heap = self._heap
        while heap and heap[0] <= now:
            due += self._at.pop(heappop(heap))
        return due

    def first(self, is_valid: Callable[[When, What], bool], otherwise: When) -> When:
        """The earliest step or time with anything that holds; `otherwise` where there is none."""
        heap = self._heap
        while heap:
            noted = self._at[heap[0]]
            while noted and not is_valid(heap[0], noted[-1]):
                noted.pop()
            if noted:
                return heap[0]
            del self._at[heappop(heap)]
        return otherwise
