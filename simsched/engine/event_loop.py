"""SimPy's event loop on exact times."""

from __future__ import annotations

from heapq import heappush
from typing import Any, Final

import simpy

STEP_END: Final = 0
DELIVERY: Final = 1
SCHEDULE: Final = 2
"""What comes first at the same time: steps end, requests are delivered, the next steps are scheduled."""


class EventLoop(simpy.Environment):
    """An environment whose events may be due at a time, not only after a delay.

    For now + (time - now) may miss the time by its last bit, and what is due together comes in a wrong order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.due: list[Any] = self._queue
        """A heap of all events that are to come, but for that of the process at work: (time, ...)."""

    def is_due(self, time: float) -> bool:
        """Does anything happen until then? A process that nobody meets waits for nothing else: an event costs
        as much as a whole request. (The replicas' loops, where a call is dear, ask `due` themselves.)"""
        return bool(self.due) and self.due[0][0] <= time

    def at(self, time: float, priority: int = STEP_END) -> simpy.Event:
        """An event at this time (seconds, not before now); of those at the same time the lowest priority
        comes first, then the one that was asked for first."""
        event = simpy.Event(self)
        event._ok = True
        event._value = None
        heappush(self._queue, (time, priority, next(self._eid), event))  # type: ignore[misc]
        return event
