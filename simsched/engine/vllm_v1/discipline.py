"""Who comes first in the leaping engine: vLLM's own two orders. `policy_order.py` has ours."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections import deque

from simsched.engine.arrival import Arrival
from simsched.engine.request_status import FINISHED
from simsched.engine.vllm_v1.leaping_request import LeapRequest


class QueueDiscipline(ABC):
    """The waiting queue, and who goes when KV blocks run short."""

    by_admission: bool
    """Do requests run in the order in which they were admitted?"""
    serves_by_arrival = False
    """Are they admitted in the order in which they arrive?"""

    @abstractmethod
    def request(self, number: int, arrival: Arrival, now: float) -> LeapRequest:
        """What the engine is to keep of a request that has arrived."""

    @abstractmethod
    def arrived(self, number: int, arrival: Arrival, now: float) -> None:
        """It waits from now on."""

    @abstractmethod
    def head(self) -> LeapRequest:
        """Who is tried next; only if someone waits."""

    @abstractmethod
    def pop(self) -> LeapRequest:
        """Take the head out."""

    @abstractmethod
    def requeue(self, request: LeapRequest, now: float) -> None:
        """It was preempted for want of KV blocks."""

    @abstractmethod
    def remove(self, request: LeapRequest) -> None:
        """It is done while it waits (asynchronous scheduling)."""

    @abstractmethod
    def running(self, now: float) -> list[LeapRequest]:
        """The running requests in vLLM's order."""

    @abstractmethod
    def victim(self, running: list[LeapRequest], place: int) -> LeapRequest:
        """Of these, the one to be preempted for want of KV blocks for the one at this place."""

    admits_in_order = False
    """Does it matter later in which order those are admitted that arrive together? Then it is that of
    `as_admitted`."""

    def as_admitted(self, arrivals: list[tuple[int, Arrival]]) -> list[tuple[int, Arrival]]:
        """Requests, with their numbers, that arrive and are admitted together, in vLLM's order."""
        return arrivals

    @abstractmethod
    def in_order(self, some: list[LeapRequest], now: float) -> list[LeapRequest]:
        """Some of the running requests, in vLLM's order."""


class FcfsOrder(QueueDiscipline):
    """vLLM's `fcfs`: queue by arrival, preempted requests in front; victims from the end of the batch."""

    serves_by_arrival = True

    def __init__(self, running: dict[int, LeapRequest]) -> None:
        """`running`: the running requests, in order of admission; the engine's own."""
        self.by_admission = True
        self._running = running
        self._queue: deque[LeapRequest] = deque()

    def request(self, number: int, arrival: Arrival, now: float) -> LeapRequest:
        return LeapRequest(number, arrival)

    def arrived(self, number: int, arrival: Arrival, now: float) -> None:
        self._queue.append(LeapRequest(number, arrival))

    def head(self) -> LeapRequest:
        return self._queue[0]

    def pop(self) -> LeapRequest:
        return self._queue.popleft()

    def requeue(self, request: LeapRequest, now: float) -> None:
        self._queue.appendleft(request)

    def remove(self, request: LeapRequest) -> None:
        self._queue.remove(request)

    def running(self, now: float) -> list[LeapRequest]:
        return list(self._running.values())

    def victim(self, running: list[LeapRequest], place: int) -> LeapRequest:
        return running[-1]

    def in_order(self, some: list[LeapRequest], now: float) -> list[LeapRequest]:
        return [request for request in self._running.values() if request in some]


class PriorityOrder(FcfsOrder):
    """vLLM's `priority`: by (priority, arrival, id); the victim is the largest (priority, arrival)."""

    serves_by_arrival = False
    admits_in_order = True

    def __init__(self, running: dict[int, LeapRequest]) -> None:
        super().__init__(running)
        self._heap: list[tuple[tuple[int, float, str, int], LeapRequest]] = []  # no two of the same place

    def request(self, number: int, arrival: Arrival, now: float) -> LeapRequest:
        request = LeapRequest(number, arrival)
        request.place = _place(number, arrival)
        return request

    def as_admitted(self, arrivals: list[tuple[int, Arrival]]) -> list[tuple[int, Arrival]]:
        return sorted(arrivals, key=lambda pair: _place(*pair))

    def arrived(self, number: int, arrival: Arrival, now: float) -> None:
        self.requeue(self.request(number, arrival, now), now)

    def requeue(self, request: LeapRequest, now: float) -> None:
        heapq.heappush(self._heap, (request.place, request))

    def remove(self, request: LeapRequest) -> None:
        pass  # its place is skipped when it comes up

    def head(self) -> LeapRequest:
        while self._heap[0][1].where == FINISHED:
            heapq.heappop(self._heap)
        return self._heap[0][1]

    def pop(self) -> LeapRequest:
        return heapq.heappop(self._heap)[1]

    def victim(self, running: list[LeapRequest], place: int) -> LeapRequest:
        return max(running, key=lambda request: request.place[:2])


def _place(number: int, arrival: Arrival) -> tuple[int, float, str, int]:
    return arrival.priority, arrival.arrival_time, arrival.request_id, number
