"""What a policy has announced: when the priorities of which requests may next differ."""

from __future__ import annotations

import heapq
from typing import Any

from simsched.policies.base import Change

INFINITY = float("inf")
NO_STEP = 1 << 62


class Changes:
    """Announcements by step, by time, and by service; each request's latest one holds, earlier ones are void."""

    def __init__(self, n: int) -> None:
        self._version = [0] * n
        # (version, request) by step counter, and the heap of these counters
        self._by_step: dict[int, list[tuple[int, int]]] = {}
        self._steps: list[int] = []
        # (when, version, request)
        self._times: list[tuple[float, int, int]] = []
        self._service: list[tuple[float, int, int]] = []

    def void(self, i: int) -> None:
        """What was announced of this request no longer holds."""
        self._version[i] += 1

    def announce(self, i: int, change: Change, runs: bool, step: int, now: float) -> None:
        """This now holds of the request, which runs or does not."""
        version = self._version[i] = self._version[i] + 1
        steps = change.after_steps_run if runs else change.after_steps_idle
        if steps is not None:
            at = step + steps
            bucket = self._by_step.get(at)
            if bucket is None:
                self._by_step[at] = [(version, i)]
                heapq.heappush(self._steps, at)
            else:
                bucket.append((version, i))
        if runs and change.after_service is not None:
            heapq.heappush(self._service, (now + change.after_service, version, i))
        if change.after_time is not None:
            heapq.heappush(self._times, (now + change.after_time, version, i))

    def due(self, step: int, now: float) -> list[int]:
        """Requests whose change has come; service must be *greater* than announced."""
        entries: list[tuple[int, int]] = []
        while self._steps and self._steps[0] <= step:
            entries += self._by_step.pop(heapq.heappop(self._steps))
        while self._times and self._times[0][0] <= now:
            entries.append(heapq.heappop(self._times)[1:])
        while self._service and self._service[0][0] < now:
            entries.append(heapq.heappop(self._service)[1:])
        held = self._version
        return [i for version, i in dict.fromkeys(entries) if held[i] == version]

    def next(self) -> tuple[int, float]:
        """Step counter, and time, of the earliest that holds."""
        while self._steps:
            bucket = self._by_step[self._steps[0]]
            while bucket and self._version[bucket[-1][1]] != bucket[-1][0]:
                bucket.pop()
            if bucket:
                break
            del self._by_step[heapq.heappop(self._steps)]
        self._purge(self._times)
        self._purge(self._service)
        times = [heap[0][0] for heap in (self._times, self._service) if heap]
        return self._steps[0] if self._steps else NO_STEP, min(times, default=INFINITY)

    def _purge(self, heap: list[tuple[Any, int, int]]) -> None:
        while heap and self._version[heap[0][2]] != heap[0][1]:
            heapq.heappop(heap)
