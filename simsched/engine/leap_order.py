"""Who comes first in the leaping engine: vLLM's own two orders. `leap_policy.py` has ours."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from simsched.engine.vllm_v1_leap import VllmV1Leap

NO_LIMIT: Final = 1 << 62


class CannotLeap(Exception):  # noqa: N818  # not an error: the simulator starts again, stepping
    """Only the reference engine is exact here."""


class Order(ABC):
    """The waiting queue, and who goes when KV blocks run short."""

    by_admission: bool
    """Do requests run in the order in which they were admitted?"""

    @abstractmethod
    def arrived(self, index: int, now: float) -> None: ...
    @abstractmethod
    def head(self) -> int:
        """Who is tried next; only if someone waits."""

    @abstractmethod
    def pop(self) -> int:
        """Take the head out."""

    @abstractmethod
    def requeue(self, index: int, now: float) -> None:
        """It was preempted for want of KV blocks."""

    @abstractmethod
    def running(self, now: float) -> list[int]:
        """The running requests in vLLM's order."""

    @abstractmethod
    def victim(self, running: list[int]) -> int:
        """Of these, the one to be preempted for want of KV blocks."""

    @abstractmethod
    def in_order(self, some: list[int], now: float) -> list[int]:
        """Some of the running requests, in vLLM's order."""


class FcfsOrder(Order):
    """vLLM's `fcfs`: queue by arrival, preempted requests in front; victims from the end of the batch."""

    def __init__(self, engine: VllmV1Leap) -> None:
        self.by_admission = True
        self._engine = engine
        self._queue: deque[int] = deque()

    def arrived(self, index: int, now: float) -> None:
        self._queue.append(index)

    def head(self) -> int:
        return self._queue[0]

    def pop(self) -> int:
        return self._queue.popleft()

    def requeue(self, index: int, now: float) -> None:
        self._queue.appendleft(index)

    def running(self, now: float) -> list[int]:
        return list(self._engine.running)

    def victim(self, running: list[int]) -> int:
        return running[-1]

    def in_order(self, some: list[int], now: float) -> list[int]:
        return [index for index in self._engine.running if index in some]


class PriorityOrder(FcfsOrder):
    """vLLM's `priority`: by (priority, arrival, id); the victim is the largest (priority, arrival)."""

    def __init__(self, engine: VllmV1Leap, priority: Sequence[int]) -> None:
        super().__init__(engine)
        self._heap: list[tuple[int, float, str, int]] = []
        self._priority = priority

    def arrived(self, index: int, now: float) -> None:
        engine = self._engine
        arrival = engine.recorder.arrival_time[index]
        heapq.heappush(self._heap, (self._priority[index], arrival, engine.ids[index], index))

    def requeue(self, index: int, now: float) -> None:
        self.arrived(index, now)

    def head(self) -> int:
        return self._heap[0][3]

    def pop(self) -> int:
        return heapq.heappop(self._heap)[3]

    def victim(self, running: list[int]) -> int:
        arrivals, priority = self._engine.recorder.arrival_time, self._priority
        return max(running, key=lambda index: (priority[index], arrivals[index]))
