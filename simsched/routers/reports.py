"""What the engines report of themselves, and when a router gets to see it."""

from __future__ import annotations

from collections import deque
from math import floor, inf
from typing import NamedTuple

from simsched.routers.base import Replicas, Reporting


class Counts(NamedTuple):
    """What an engine reports when its numbers of requests have changed."""

    time: float
    """Seconds on the run's clock."""
    waiting: int
    running: int
    kv_usage: float


class Reports:
    """Takes down changes as they happen, and lets a router see them as late as `Reporting` says.

    vLLM's coordinator (vllm/v1/engine/coordinator.py, dense engines): a change is published at once if the
    last message is at least `interval` old, else when it is, with the counts of that moment. With nothing
    new, the same counts are sent again after `keep_alive`.
    """

    def __init__(self, reporting: Reporting, replicas: Replicas) -> None:
        self._reporting = reporting
        self._replicas = replicas
        self._pending: list[deque[Counts]] = [deque() for _ in range(len(replicas))]
        self._last = -inf if reporting.engines_report else 0.0  # when the last message came
        self._is_complete = False  # can nothing more change at the time of the last look?

    @property
    def wanted(self) -> bool:
        """Does the router look at reports at all?"""
        return self._reporting.mode != "never"

    def note(self, replica: int, counts: Counts) -> None:
        """This replica's counts have changed; times never go back."""
        if self._reporting.engines_report:
            self._pending[replica].append(counts)

    def refresh(self, now: float) -> None:
        """Bring what the router sees to the state of `now`, once every engine has got there."""
        if self._reporting.mode == "scraped":
            interval = self._reporting.interval
            at = floor(now / interval) * interval if interval else now
            if at != self._last or not self._is_complete:
                self._publish(at)
                self._is_complete = now > at
            return
        # Each message, in order: the next is due when something has changed, or when the last is old.
        soonest = min(self._reporting.interval, self._reporting.keep_alive)
        while self._last + soonest <= now:
            changed = min((pending[0].time for pending in self._pending if pending), default=inf)
            due = max(self._last + self._reporting.interval, changed)
            if self._last > -inf:
                due = min(due, self._last + self._reporting.keep_alive)
            if due > now:
                return
            self._publish(due)

    def _publish(self, at: float) -> None:
        self._last = at
        replicas = self._replicas
        replicas.num_reports += 1
        for replica, pending in enumerate(self._pending):
            while pending and pending[0].time <= at:
                _, replicas.waiting[replica], replicas.running[replica], replicas.kv_usage[replica] = (
                    pending.popleft()
                )
