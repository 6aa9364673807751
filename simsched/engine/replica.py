"""One engine replica: a scheduler, its clock and its inbox, as a SimPy process.

A lone replica pulls its arrivals from the source itself, and knows when the next one comes. One of several
gets them delivered, at any time: then a leap is a promise ("decodes until t"), which a delivery interrupts.
What was promised is cut to the step under way, whose end is known, and there the request is taken in. Nothing
is recorded before a promise is kept.

The loop itself is in `serial.py`, and for asynchronous scheduling in `pipelined.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Sequence
from math import inf, nan
from typing import Any

import simpy
from simpy.events import Timeout

from simsched.engine.admission_control import AdmissionControl
from simsched.engine.arrival import Arrival
from simsched.engine.base import Batch, Scheduler
from simsched.engine.event_loop import SCHEDULE, EventLoop
from simsched.engine.recorder import Recorder
from simsched.engine.source import Source, TraceSource

StepCallback = Callable[[dict[str, Any]], None]
"""Gets each step in which something ran, as a line of the step log."""


class Inbox(Source):
    """What has been delivered to a replica, and not been taken in."""

    waits_for_answers = True

    def __init__(self, on_finish: Callable[[int, float], None]) -> None:
        super().__init__()
        self._delivered: deque[tuple[float, Arrival]] = deque()
        self._on_finish = on_finish

    def push(self, arrival: Arrival, now: float) -> None:
        """A request is delivered."""
        if not self._delivered:
            self.next_time = now
        self._delivered.append((now, arrival))

    def pop(self) -> Arrival:
        _, arrival = self._delivered.popleft()
        self.next_time = self._delivered[0][0] if self._delivered else inf
        return arrival

    def finished(self, row: int, now: float) -> None:
        self._on_finish(row, now)


class Replica(ABC):
    """A scheduler, its clock and its inbox."""

    def __init__(
        self,
        event_loop: EventLoop,
        source: Source,
        scheduler: Scheduler,
        recorder: Recorder,
        gate: AdmissionControl | None = None,
        step_log: StepCallback | None = None,
    ) -> None:
        """
        Args:
            source: where it gets its requests: all there are, or its own `Inbox`.
            gate: whom it refuses the scheduler never sees; None: nobody.
            step_log: called with each step in which something ran.
        """
        self.now = 0.0
        """Seconds, when it last was between two steps."""
        self.event_loop = event_loop
        self.source = source
        self.scheduler = scheduler
        self.recorder = recorder
        self.num_delivered = 0
        self.num_finished = 0
        self.num_running = 0
        """Requests in the running list; of one of several it is kept up to date."""
        self._inbox = source if isinstance(source, Inbox) else None
        self.is_alone = self._inbox is None
        """Does it know when its next request arrives?"""
        self.rows: Sequence[int] = []
        """By number: the row of the record."""
        if isinstance(source, TraceSource) and gate is None:
            self.rows = range(len(source))
        self.gate = gate
        self._step_log = step_log
        self._request_ids: list[str] = []  # by number, for the log
        self._num_steps = 0
        self._process: simpy.Process | None = None
        self._idle: simpy.Event | None = None  # it waits for a delivery
        self._has_promised = False

    def start(self) -> simpy.Process:
        """Let it run from now on."""
        self._process = process = simpy.Process(self.event_loop, self.run())
        return process

    # -- for routers -----------------------------------------------------------------------------------------
    def deliver(self, arrival: Arrival, now: float) -> None:
        """A request has been sent here, and is here at once."""
        assert self._inbox is not None
        assert self._process is not None
        self._inbox.push(arrival, now)
        self.num_delivered += 1
        if self._has_promised:
            self._has_promised = False
            self._process.interrupt()
        elif self._idle is not None:
            self._idle.succeed()
            self._idle = None

    @property
    def logs(self) -> bool:
        """Is each step logged?"""
        return self._step_log is not None

    @property
    def num_in_flight(self) -> int:
        """Requests delivered and not finished."""
        return self.num_delivered - self.num_finished

    @property
    def num_waiting(self) -> int:
        """Requests delivered that neither run nor are finished."""
        return self.num_in_flight - self.num_running

    # -- for the loop ----------------------------------------------------------------------------------------
    @property
    def host_bound_share(self) -> float:
        """Share of the time in steps whose end the host decided; NaN where that is not known."""
        return nan

    @abstractmethod
    def run(self) -> Generator[simpy.Event, None, None]:
        """Serve what arrives; ends when there is nothing more to come."""

    def take_in(self, arrival: Arrival, now: float) -> None:
        """A request has arrived: the scheduler gets it, between two steps."""
        if self.gate is not None:
            if not self.gate.admits(arrival):
                return
            self.gate.sent(arrival, self.recorder, len(self.rows))
        self.note_rows((arrival,))
        if self._step_log is not None:
            self._request_ids.append(arrival.request_id)
        self.scheduler.add_request(arrival, now)

    def note_rows(self, arrivals: Sequence[Arrival]) -> None:
        """The next numbers are of these requests."""
        rows = self.rows
        if isinstance(rows, list):
            rows += [arrival.row for arrival in arrivals]
            self.recorder.make_room(len(rows))

    def report(self, finished: Sequence[int], now: float) -> None:
        """Tell the source who has its answer."""
        self.num_finished += len(finished)
        for number in finished:
            self.source.finished(self.rows[number], now)

    def await_arrival(self, now: float) -> Generator[simpy.Event, None, float]:
        """Nothing can run: wait until someone arrives; returns when, or inf if nobody will."""
        self.now = now
        if not self.is_alone:
            self._idle = simpy.Event(self.event_loop)
            yield self._idle
            return self.event_loop.now
        time = self.source.next_time
        if time < inf:
            yield Timeout(self.event_loop, max(0.0, time - self.event_loop.now))
        return time

    def is_interrupted(self, end: float) -> Generator[simpy.Event, None, bool]:
        """Wait until `end`; sooner if a request is delivered."""
        self._has_promised = True
        try:
            yield self.event_loop.at(end)
        except simpy.Interrupt:
            return True
        self._has_promised = False
        return False

    def settle(self, now: float) -> Generator[simpy.Event, None, None]:
        """A step has ended; whoever arrives in this very moment is seen by the next one."""
        self.now, self.num_running = now, self.scheduler.num_running
        if self.event_loop.peek() <= now:
            yield self.event_loop.at(now, SCHEDULE)

    def log(self, batch: Batch, now: float, duration: float) -> None:
        assert self._step_log is not None
        ids = self._request_ids
        self._num_steps += 1
        line: dict[str, Any] = {
            "step": self._num_steps,
            "time": now,
            "step_time": duration,
            "scheduled": {ids[number]: tokens for number, tokens in batch.scheduled.items()},
            "preempted": [ids[number] for number in batch.preempted],
        }
        if self.scheduler.swaps:
            line["swapped_out"] = [ids[number] for number in batch.swapped_out]
            line["swapped_in"] = [ids[number] for number in batch.swapped_in]
        line["num_running"] = batch.num_running
        line["num_waiting"] = batch.num_waiting
        line["kv_blocks_used"] = batch.kv_blocks_used
        self._step_log(line)
