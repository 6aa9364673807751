"""Who comes first in the leaping engine: vLLM's own two orders. `policy_order.py` has ours."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from simsched.engine.vllm_v1.leaping_request import DONE, LeapRequest

if TYPE_CHECKING:
    from simsched.engine.vllm_v1.leaping import VllmV1Leap


class CannotLeap(Exception):  # noqa: N818  # not an error: the simulator starts again, stepping
    """Only the reference engine is exact here."""


class Order(ABC):
    """The waiting queue, and who goes when KV blocks run short."""

    by_admission: bool
    """Do requests run in the order in which they were admitted?"""

    @abstractmethod
    def arrived(self, index: int, now: float) -> None: ...
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
    def victim(self, running: list[LeapRequest]) -> LeapRequest:
        """Of these, the one to be preempted for want of KV blocks."""

    def as_admitted(self, arrivals: Sequence[int]) -> Sequence[int]:
        """Requests (by index) that arrive and are admitted together, in vLLM's order, where that matters
        later."""
        return arrivals

    @abstractmethod
    def in_order(self, some: list[LeapRequest], now: float) -> list[LeapRequest]:
        """Some of the running requests, in vLLM's order."""


class FcfsOrder(Order):
    """vLLM's `fcfs`: queue by arrival, preempted requests in front; victims from the end of the batch."""

    def __init__(self, engine: VllmV1Leap) -> None:
        self.by_admission = True
        self._engine = engine
        self._queue: deque[LeapRequest] = deque()

    def arrived(self, index: int, now: float) -> None:
        self._queue.append(LeapRequest(index, self._engine.prompt[index]))

    def head(self) -> LeapRequest:
        return self._queue[0]

    def pop(self) -> LeapRequest:
        return self._queue.popleft()

    def requeue(self, request: LeapRequest, now: float) -> None:
        self._queue.appendleft(request)

    def remove(self, request: LeapRequest) -> None:
        self._queue.remove(request)

    def running(self, now: float) -> list[LeapRequest]:
        return list(self._engine.running.values())

    def victim(self, running: list[LeapRequest]) -> LeapRequest:
        return running[-1]

    def in_order(self, some: list[LeapRequest], now: float) -> list[LeapRequest]:
        return [request for request in self._engine.running.values() if request in some]


class PriorityOrder(FcfsOrder):
    """vLLM's `priority`: by (priority, arrival, id); the victim is the largest (priority, arrival)."""

    def __init__(self, engine: VllmV1Leap, priority: Sequence[int]) -> None:
        super().__init__(engine)
        self._heap: list[tuple[int, float, str, int, LeapRequest]] = []  # no two of the same index
        self._priority = priority

    def arrived(self, index: int, now: float) -> None:
        self.requeue(LeapRequest(index, self._engine.prompt[index]), now)

    def requeue(self, request: LeapRequest, now: float) -> None:
        heapq.heappush(self._heap, (*self._place(request.index), request))

    def as_admitted(self, arrivals: Sequence[int]) -> Sequence[int]:
        return sorted(arrivals, key=self._place)

    def _place(self, index: int) -> tuple[int, float, str, int]:
        engine = self._engine
        return self._priority[index], engine.recorder.arrival_time[index], engine.ids[index], index

    def remove(self, request: LeapRequest) -> None:
        pass  # its place is skipped when it comes up

    def head(self) -> LeapRequest:
        while self._heap[0][4].where == DONE:
            heapq.heappop(self._heap)
        return self._heap[0][4]

    def pop(self) -> LeapRequest:
        return heapq.heappop(self._heap)[4]

    def victim(self, running: list[LeapRequest]) -> LeapRequest:
        arrivals, priority = self._engine.recorder.arrival_time, self._priority
        return max(running, key=lambda request: (priority[request.index], arrivals[request.index]))
