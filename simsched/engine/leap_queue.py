"""Requests that wait, by priority."""

from __future__ import annotations

from heapq import heappop, heappush

from simsched.engine.leap_request import LeapRequest
from simsched.policies.base import Priority


class WaitingQueue:
    """A heap of priorities, and for each a heap of the requests that have it, by index in the trace (that is
    by arrival). A request that is pushed again moves; its old place is skipped when it comes up."""

    def __init__(self) -> None:
        self._waiting: dict[int, LeapRequest] = {}
        self._at: dict[Priority, list[int]] = {}
        self._priorities: list[Priority] = []

    def push(self, request: LeapRequest, priority: Priority) -> None:
        request.key = priority
        index = request.index
        self._waiting[index] = request
        indices = self._at.get(priority)
        if indices is None:
            self._at[priority] = [index]
            heappush(self._priorities, priority)
        else:
            heappush(indices, index)

    def head(self) -> LeapRequest | None:
        """The best, if there is one."""
        priorities, waiting = self._priorities, self._waiting
        while priorities:
            priority = priorities[0]
            indices = self._at[priority]
            while indices:
                request = waiting.get(indices[0])
                if request is not None and request.key == priority:
                    return request
                heappop(indices)
            del self._at[heappop(priorities)]
        return None

    def pop(self) -> LeapRequest:
        """Take the head out, which has been asked for."""
        return self._waiting.pop(heappop(self._at[self._priorities[0]]))
