"""Requests that wait, by priority."""

from __future__ import annotations

from heapq import heappop, heappush

from simsched.policies.base import Priority


class WaitingQueue:
    """A heap of priorities, and for each a heap of the requests that have it, by index in the trace (that is
    by arrival). A request that is pushed again moves; its old place is skipped when it comes up."""

    def __init__(self, n: int) -> None:
        self._place: list[Priority | None] = [None] * n  # the priority of those in the queue
        self._at: dict[Priority, list[int]] = {}
        self._priorities: list[Priority] = []

    def push(self, priority: Priority, index: int) -> None:
        self._place[index] = priority
        indices = self._at.get(priority)
        if indices is None:
            self._at[priority] = [index]
            heappush(self._priorities, priority)
        else:
            heappush(indices, index)

    def head(self) -> tuple[Priority, int] | None:
        """The best, if there is one."""
        priorities, place = self._priorities, self._place
        while priorities:
            priority = priorities[0]
            indices = self._at[priority]
            while indices:
                index = indices[0]
                if place[index] == priority:
                    return priority, index
                heappop(indices)
            del self._at[heappop(priorities)]
        return None

    def pop(self) -> int:
        """Take the head out, which has been asked for."""
        index = heappop(self._at[self._priorities[0]])
        self._place[index] = None
        return index
