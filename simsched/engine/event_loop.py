"""SimPy's event loop on exact times."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

import simpy

STEP_END: Final = 0
DELIVERY: Final = 1
SCHEDULE: Final = 2
"""What comes first at the same time: steps end, requests are delivered, the next steps are scheduled."""


class Due(simpy.Event):
    """An event that is due at a time, and has no value. The event loop makes it, without `__init__`."""

    _ok = True
    _value = None


_new_due: Callable[[type[Due]], Due] = Due.__new__


class Steady(simpy.Process):
    """A process that waits for events which have no value and do not fail, and that nobody interrupts: so
    there is less to do when one happens."""

    def _resume(self, event: simpy.Event) -> None:
        try:
            awaited = self._generator.send(None)
        except StopIteration:
            self._ok, self._value = True, None
            self.env.schedule(self)
            return
        awaited.callbacks.append(self._resume)


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
        event = _new_due(Due)
        event.env = self
        event.callbacks = []
        heappush(self._queue, (time, priority, next(self._eid), event))  # type: ignore[misc]
        return event

    def call_at(self, time: float, callback: Callable[[simpy.Event], None]) -> simpy.Event:
        """This is called at this time, with an event that may be cancelled until then; deliveries."""
        event = self.at(time, DELIVERY)
        event.callbacks.append(callback)
        return event

    def cancel(self, event: simpy.Event) -> None:
        """What was to come of it doesn't."""
        event.callbacks = []

    def move(self, event: simpy.Event, time: float) -> simpy.Event:
        """Who waits for this event (a process that nobody interrupts) waits for another one instead, at this
        time: sooner than an interruption would come about, which costs as much as several events."""
        other = self.at(time)
        other.callbacks, event.callbacks = event.callbacks, []
        return other

    def run_until(self, end: simpy.Event) -> None:
        """`run`, without a call for each event.

        Raises:
            RuntimeError: nothing is to come any more, and it has not happened.
        """
        queue = self._queue
        while end.callbacks is not None:
            if not queue:
                raise RuntimeError("no event is to come that could end the run")
            self._now, _, _, event = heappop(queue)
            callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]
            for callback in callbacks:
                callback(event)
            if not event._ok and not event.defused:
                raise event._value
