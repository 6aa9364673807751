"""Who comes first in the leaping engine: vLLM's own two orders. `leap_policy.py` has ours."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from simsched.engine.vllm_v1_leap import VllmV1Leap

NO_LIMIT = 1 << 62


class CannotLeap(Exception):  # noqa: N818  # not an error: the simulator starts again, stepping
    """Only the reference engine is exact here."""


class Order(Protocol):
    """The waiting queue, and the order of the running requests."""

    by_admission: bool
    """Do requests run in the order in which they were admitted?"""
    held: Sequence[int]
    """Victims of this step that are kept out of the queue until it is formed."""

    def __len__(self) -> int:
        """How many wait (without those held)."""

    def arrived(self, index: int, now: float) -> None: ...
    def head(self) -> int:
        """Who is tried next; only if someone waits."""

    def pop(self) -> int:
        """Take the head out."""

    def requeue(self, index: int, now: float) -> None:
        """It was preempted for want of KV blocks."""

    def prepare(self, now: float) -> bool:
        """Before vLLM's own schedule(): put things in order and make room. False: if the step turns out to
        be nothing but decodes, the next one may differ all the same."""

    def release(self, now: float) -> None:
        """After vLLM's own schedule(): held victims rejoin the queue, untried requests stay in it."""

    def running(self, now: float) -> list[int]:
        """The running requests in vLLM's order."""

    def victim(self, running: list[int]) -> int:
        """Of these, the one to be preempted for want of KV blocks."""

    def preempted(self, index: int, now: float) -> None: ...
    def finished(self, index: int, now: float) -> None: ...
    def step_done(self, before: int, start: float, now: float) -> None:
        """The step that began at step counter `before` and time `start` is over."""

    def limit(self) -> tuple[int, float]:
        """The step counter, and the time, at which the order may change by itself."""

    def oldest_change(self) -> int:
        """The step counter since which the order may want to look back."""


class FcfsOrder:
    """vLLM's `fcfs`: queue by arrival, preempted requests in front; victims from the end of the batch."""

    by_admission = True
    held: Sequence[int] = ()

    def __init__(self, engine: VllmV1Leap) -> None:
        self._engine = engine
        self._queue: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def arrived(self, index: int, now: float) -> None:
        self._queue.append(index)

    def head(self) -> int:
        return self._queue[0]

    def pop(self) -> int:
        return self._queue.popleft()

    def requeue(self, index: int, now: float) -> None:
        self._queue.appendleft(index)

    def prepare(self, now: float) -> bool:
        return True

    def release(self, now: float) -> None:
        pass

    def running(self, now: float) -> list[int]:
        return list(self._engine.running)

    def victim(self, running: list[int]) -> int:
        return running[-1]

    def preempted(self, index: int, now: float) -> None:
        pass

    def finished(self, index: int, now: float) -> None:
        pass

    def step_done(self, before: int, start: float, now: float) -> None:
        pass

    def limit(self) -> tuple[int, float]:
        return NO_LIMIT, inf

    def oldest_change(self) -> int:
        return self._engine.steps


class PriorityOrder(FcfsOrder):
    """vLLM's `priority`: by (priority, arrival, id); the victim is the largest (priority, arrival)."""

    def __init__(self, engine: VllmV1Leap, priority: Sequence[int]) -> None:
        super().__init__(engine)
        self._heap: list[tuple[int, float, str, int]] = []
        self._priority = priority

    def __len__(self) -> int:
        return len(self._heap)

    def arrived(self, index: int, now: float) -> None:
        engine = self._engine
        arrival = engine.recorder.arrival_time[index]
        heapq.heappush(self._heap, (self._priority[index], arrival, engine.ids[index], index))

    requeue = arrived

    def head(self) -> int:
        return self._heap[0][3]

    def pop(self) -> int:
        return heapq.heappop(self._heap)[3]

    def victim(self, running: list[int]) -> int:
        arrivals, priority = self._engine.recorder.arrival_time, self._priority
        return max(running, key=lambda index: (priority[index], arrivals[index]))
