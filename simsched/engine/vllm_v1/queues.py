"""Requests that wait, the best first, and requests that run, the worst first."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from simsched.engine.request_status import ENDING
from simsched.engine.vllm_v1.leaping_request import LeapRequest
from simsched.policies.base import Priority


class WaitingQueue:
    """A heap of priorities, and for each a heap of the requests that have it, by arrival number. A
    request that is pushed again moves; its old place is skipped when it comes up."""

    def __init__(self) -> None:
        self._waiting: dict[int, LeapRequest] = {}
        self._at: dict[Priority, list[int]] = {}
        self._priorities: list[Priority] = []

    def push(self, request: LeapRequest, priority: Priority) -> None:
        request.key = priority
        number = request.number
        self._waiting[number] = request
        numbers = self._at.get(priority)
        if numbers is None:
            self._at[priority] = [number]
            heappush(self._priorities, priority)
        else:
            heappush(numbers, number)

    def renew(self) -> None:
        """Many have another priority now (`key`)."""
        at: dict[Priority, list[int]] = {}
        for number, request in self._waiting.items():
            numbers = at.get(request.key)
            if numbers is None:
                at[request.key] = [number]
            else:
                numbers.append(number)
        for numbers in at.values():
            heapify(numbers)
        self._at = at
        self._priorities = list(at)
        heapify(self._priorities)

    def __iter__(self) -> Iterator[LeapRequest]:
        """All that wait, in no order."""
        return iter(self._waiting.values())

    def __len__(self) -> int:
        return len(self._waiting)

    def has(self, request: LeapRequest) -> bool:
        """Does it wait here?"""
        return request.number in self._waiting

    def in_order(self) -> list[LeapRequest]:
        """All of them, the best first."""
        return sorted(self._waiting.values(), key=_place)

    def remove(self, request: LeapRequest) -> None:
        """It waits here no more."""
        del self._waiting[request.number]

    def head(self) -> LeapRequest | None:
        """The best, if there is one."""
        priorities, waiting = self._priorities, self._waiting
        while priorities:
            priority = priorities[0]
            numbers = self._at[priority]
            while numbers:
                request = waiting.get(numbers[0])
                if request is not None and request.key == priority:
                    return request
                heappop(numbers)
            del self._at[heappop(priorities)]
        return None

    def pop(self) -> LeapRequest:
        """Take the head out, which has been asked for."""
        return self._waiting.pop(heappop(self._at[self._priorities[0]]))


class RunningByPriority:
    """The other way round: the priorities in order, and for each a heap of the running requests that have it,
    the latest first. A request whose priority has changed is pushed again; its old place, and that of one
    that runs no more, is skipped when it comes up."""

    def __init__(self, running: dict[int, LeapRequest]) -> None:
        self._running = running
        self.num_pushed = 0
        self._at: dict[Priority, list[int]] = {}
        self._priorities: list[Priority] = []
        for request in running.values():
            self.push(request)
        self.num_pushed = 0  # since; no more places are old

    def push(self, request: LeapRequest) -> None:
        self.num_pushed += 1
        priority = request.key
        numbers = self._at.get(priority)
        if numbers is None:
            self._at[priority] = [-request.number]
            insort(self._priorities, priority)
        else:
            heappush(numbers, -request.number)

    def worst(self) -> LeapRequest | None:
        """The worst, if there is one; none whose last token is on its way."""
        priorities, running = self._priorities, self._running
        while priorities:
            priority = priorities[-1]
            numbers = self._at[priority]
            while numbers:
                request = running.get(-numbers[0])
                if request is not None and request.key == priority and request.where != ENDING:
                    return request
                heappop(numbers)
            del self._at[priorities.pop()]
        return None

    def take_out(self) -> None:
        """The worst, which has been asked for, is to be preempted."""
        numbers = self._at[self._priorities[-1]]
        number = heappop(numbers)
        while numbers and numbers[0] == number:  # it had the same place before
            heappop(numbers)


def _place(request: LeapRequest) -> tuple[Priority, int]:
    return request.key, request.number
