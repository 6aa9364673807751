"""What the engines report of themselves, and when a router gets to see it."""

from __future__ import annotations

from collections import deque
from math import floor, inf
from typing import Final, NamedTuple

from simsched.routers.base import Replicas, Reporting


class Counts(NamedTuple):
    """What an engine reports when its numbers of requests have changed."""

    time: float
    """Seconds on the run's clock."""
    waiting: int
    running: int
    kv_usage: float
    step: tuple[int, int] = (0, 0)
    """Of ranks that step together: the wave, and how many passes of it are done."""


make_counts = tuple.__new__
"""`Counts` from a tuple of all its fields, in half the time."""

STEP_WAIT: Final = 0.05
"""Seconds after an engine's last message until those of a step are taken to be complete."""


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
        self._wait = min(reporting.interval, reporting.keep_alive)  # between two messages, at least
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
        reporting = self._reporting
        if reporting.mode == "scraped":
            interval = reporting.interval
            at = floor(now / interval) * interval if interval else now
            if at != self._last or not self._is_complete:
                self._publish(at)
                self._is_complete = now > at
            return
        # Each message, in order: the next is due when something has changed, or when the last is old.
        while self._last + self._wait <= now:
            changed = min([pending[0].time for pending in self._pending if pending], default=inf)
            due = max(self._last + reporting.interval, changed)
            if self._last > -inf:
                due = min(due, self._last + reporting.keep_alive)
            if due > now:
                return
            self._publish(due)

    def _publish(self, at: float) -> None:
        self._last = at
        replicas = self._replicas
        replicas.num_reports += 1
        for replica, pending in enumerate(self._pending):
            counts = None
            while pending and pending[0].time <= at:
                counts = pending.popleft()
            if counts is not None:
                replicas.waiting[replica] = counts.waiting
                replicas.running[replica] = counts.running
                replicas.kv_usage[replica] = counts.kv_usage


class RankReports(Reports):
    """The same of ranks that step together: `coordinator.py` where `enable_wave_coordination` is set.

    A message waits until the engines have said nothing for `STEP_WAIT`, so that it holds one step of all of
    them. With the first message of a later step, the counts as they stood before it are kept, and published
    as soon as a message may be; what has changed since then comes with the next.
    """

    def __init__(self, reporting: Reporting, replicas: Replicas) -> None:
        super().__init__(reporting._replace(engines_report=True), replicas)
        self._last = 0.0
        self._events: deque[tuple[int, Counts]] = deque()
        self._counts = [Counts(0.0, 0, 0, 0.0)] * len(replicas)
        self._kept: list[Counts] | None = None  # as they stood at the end of a step
        self._has_changed = False
        self._last_event = 0.0
        self._step = (0, -1)

    def note(self, replica: int, counts: Counts) -> None:
        if self._reporting.mode == "scraped":
            super().note(replica, counts)
        else:
            self._events.append((replica, counts))

    def refresh(self, now: float) -> None:
        if self._reporting.mode == "scraped":
            super().refresh(now)
            return
        while True:
            # The coordinator waits for a message from an engine, or until one of its own is due.
            wait = self._reporting.interval if self._has_changed else self._reporting.keep_alive
            settled = self._last_event + (STEP_WAIT if self._kept is None else 0.0)
            due = max(self._last + wait, settled)
            if self._events and self._events[0][1].time <= min(due, now):
                self._take(*self._events.popleft())
            elif due <= now:
                self._send(due)
            else:
                return

    def _take(self, replica: int, counts: Counts) -> None:
        self._last_event = counts.time
        if counts.step > self._step:
            if self._has_changed:
                self._kept = list(self._counts)
            self._step = counts.step
        self._counts[replica] = counts
        self._has_changed = True

    def _send(self, at: float) -> None:
        """Publish what was kept, else the counts as they are."""
        shown, self._kept = self._kept, None
        if shown is None:
            shown = self._counts
            self._has_changed = False
        self._last = self._last_event = at
        replicas = self._replicas
        replicas.num_reports += 1
        for replica, counts in enumerate(shown):
            replicas.waiting[replica] = counts.waiting
            replicas.running[replica] = counts.running
            replicas.kv_usage[replica] = counts.kv_usage


def reports_of(reporting: Reporting, replicas: Replicas, in_step: bool) -> Reports:
    """The engines' reports; `in_step`: they are ranks that step together."""
    return RankReports(reporting, replicas) if in_step else Reports(reporting, replicas)
