"""What a policy has announced: when the priorities of which requests may next differ."""

from __future__ import annotations

import heapq

from simsched.engine.agenda import NO_LIMIT, Agenda
from simsched.policies.base import Change

Announced = tuple[int, int]
"""(which announcement of the request, request)."""


class Changes:
    """A request's latest announcement holds; earlier ones are void."""

    def __init__(self) -> None:
        self._version: list[int] = []
        self._by_step = Agenda[int, Announced]()
        # (when, announcement)
        self._by_time: list[tuple[float, Announced]] = []
        self._by_service: list[tuple[float, Announced]] = []

    def add(self) -> None:
        """The next request is here; nothing is announced of it."""
        self._version.append(0)

    def void(self, i: int) -> None:
        """What was announced of this request no longer holds."""
        self._version[i] += 1

    def announce(self, i: int, change: Change, runs: bool, step: int, now: float) -> None:
        """This now holds of a request, which runs or does not."""
        version = self._version[i] = self._version[i] + 1
        steps = change.after_steps_run if runs else change.after_steps_idle
        if steps is not None:
            self._by_step.push(step + steps, (version, i))
        if runs and change.after_service is not None:
            heapq.heappush(self._by_service, (now + change.after_service, (version, i)))
        if change.after_time is not None:
            heapq.heappush(self._by_time, (now + change.after_time, (version, i)))

    def due(self, step: int, now: float) -> list[int]:
        """Requests whose change has come."""
        due = self._by_step.due(step)
        while self._by_time and self._by_time[0][0] <= now:
            due.append(heapq.heappop(self._by_time)[1])
        while self._by_service and self._by_service[0][0] < now:  # it must be greater
            due.append(heapq.heappop(self._by_service)[1])
        return [i for version, i in dict.fromkeys(due) if self._version[i] == version]

    def next(self) -> tuple[int, float]:
        """The step, and the time, of the earliest that holds."""
        return self._by_step.first(self._holds, NO_LIMIT), min(
            self._first(self._by_time), self._first(self._by_service)
        )

    def _holds(self, step: int, announced: Announced) -> bool:
        return self._version[announced[1]] == announced[0]

    def _first(self, heap: list[tuple[float, Announced]]) -> float:
        while heap and not self._holds(0, heap[0][1]):
            heapq.heappop(heap)
        return heap[0][0] if heap else float("inf")
