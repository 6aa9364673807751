"""One engine replica: a scheduler, its clock and its inbox, as a SimPy process.

A lone replica pulls its arrivals from the source itself, and knows when the next one comes. One of several
gets them delivered, at any time: then a leap is a promise ("decodes until t"), which a delivery cuts to the
step under way, whose end is known, and there the request is taken in. Nothing is recorded before a promise is
kept.

The loop itself is in `serial.py`, and for asynchronous scheduling in `pipelined.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Sequence
from math import inf
from typing import Any, Protocol, cast

import simpy

from simsched.engine.admission_control import AdmissionControl
from simsched.engine.arrival import Arrival
from simsched.engine.base import Batch, Scheduler
from simsched.engine.block_index import BlockEvent
from simsched.engine.event_loop import SCHEDULE, EventLoop, Steady
from simsched.engine.recorder import Recorder
from simsched.engine.routing import Routing
from simsched.engine.source import Source, TraceSource
from simsched.errors import InputError
from simsched.routers.reports import Counts, make_counts


class PublishesBlocks(Protocol):
    """A scheduler that says what its prefix cache holds."""

    def publish_blocks(self) -> None:
        """From now on, keep events."""

    def take_block_events(self) -> list[BlockEvent]:
        """Those since they were taken last, in order."""


StepCallback = Callable[[dict[str, Any]], None]
"""Gets each step in which something ran, as a line of the step log."""


class Inbox(Source):
    """What has been delivered to a replica, and not been taken in."""

    waits_for_answers = True

    def __init__(self, routing: Routing, number: int) -> None:
        """`number`: of the replica, for those who route."""
        super().__init__()
        self._delivered: deque[tuple[float, Arrival]] = deque()
        self.routing = routing
        self.number = number

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
        self.routing.finished(row, self.number, now)


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
        self._num_finished = 0
        self._inbox = source if isinstance(source, Inbox) else None
        self.is_alone = self._inbox is None
        """Does it know when its next request arrives?"""
        self.rows: Sequence[int] = []
        """By number: the row of the record."""
        if isinstance(source, TraceSource) and gate is None:
            self.rows = range(len(source))
        self.rejected: list[int] = []
        """Numbers of the requests that the policy has rejected."""
        self.gate = gate
        self._step_log = step_log
        self._request_ids: list[str] = []  # by number, for the log
        self._num_steps = 0
        self._idle: simpy.Event | None = None  # it waits for a delivery
        self._promised: simpy.Event | None = None  # the end of its leap, which a delivery cuts
        routing = None if self._inbox is None else self._inbox.routing
        self.tells_counts = routing is not None and routing.wants_counts
        """Must the router be told when the numbers of requests change?"""
        self._told_waiting = self._told_running = 0  # as told last
        self.stamp: tuple[int, int] = (0, 0)
        """Of one that steps together with others: `Counts.step`."""
        if routing is not None and routing.wants_first_tokens:
            recorder.first_tokens = []
        self._publisher: PublishesBlocks | None = None
        """The scheduler, where the router is told what its cache holds."""
        if routing is not None and routing.blocks is not None:
            self._publisher = cast("PublishesBlocks", scheduler)
            self._publisher.publish_blocks()

    def start(self) -> simpy.Process:
        """Let it run from now on."""
        return Steady(self.event_loop, self.run())

    # -- for routers -----------------------------------------------------------------------------------------
    def deliver(self, arrival: Arrival, now: float) -> None:
        """A request has been sent here, and is here at once."""
        assert self._inbox is not None
        self._inbox.push(arrival, now)
        self.num_delivered += 1
        promised = self._promised
        if promised is not None:
            self._promised = None
            self.event_loop.move(promised, self._cut(now))
        elif self._idle is not None:
            self._idle.succeed()
            self._idle = None

    @property
    def logs(self) -> bool:
        """Is each step logged?"""
        return self._step_log is not None

    def num_steps_by(self, now: float) -> int:
        """How many steps it has done by this time, in a promise too."""
        return self.recorder.num_steps + self._promised_steps(now)

    # -- for the loop ----------------------------------------------------------------------------------------
    @property
    def host_seconds(self) -> tuple[float, float]:
        """Seconds of its steps that the host decided, and of all of them; 0 and 0 where host and device are
        not told apart."""
        return 0.0, 0.0

    @abstractmethod
    def run(self) -> Generator[simpy.Event, None, None]:
        """Serve what arrives; ends when there is nothing more to come."""

    @property
    def takes_note(self) -> bool:
        """Is there more to `take_in` than that the scheduler gets the request?"""
        return self.gate is not None or isinstance(self.rows, list) or self.logs

    def take_in(self, arrival: Arrival, now: float) -> None:
        """A request has arrived: the scheduler gets it, between two steps."""
        if self.gate is not None:
            if not self.gate.admits(arrival):
                return
            self.gate.sent(arrival, self.recorder, len(self.rows))
        if isinstance(self.rows, list):
            self.note_rows((arrival.row,))
        if self._step_log is not None:
            self._request_ids.append(arrival.request_id)
        self.scheduler.add_request(arrival, now)

    def note_rows(self, new: Sequence[int]) -> None:
        """The next numbers are of the requests in these rows."""
        rows = self.rows
        if isinstance(rows, list):
            rows += new
            if len(rows) > self.recorder.capacity:
                self.recorder.make_room(len(rows))

    def report(self, finished: Sequence[int], now: float) -> None:
        """Tell the source who has its answer."""
        if self.recorder.first_tokens:
            self._tell_first_tokens(self.recorder.first_tokens, now)
        self._num_finished += len(finished)
        source, rows, inbox = self.source, self.rows, self._inbox
        if inbox is None:
            for number in finished:
                source.finished(rows[number], now)
        else:
            for number in finished:
                inbox.routing.finished(rows[number], inbox.number, now)

    def turn_away(self, rejected: list[int], now: float) -> None:
        """The policy has rejected these requests; the list is emptied.

        Raises:
            InputError: somebody waits for the answer of one, or the server counts it.
        """
        routing = None if self._inbox is None else self._inbox.routing
        if self.gate is not None or (routing is not None and routing.has_gate):
            raise InputError(
                "the policy rejects requests, and --max-num-queued-reqs and --max-num-queued-tokens go by "
                "the answers that are out; expected one of the two"
            )
        if routing.waits_for_answers if routing is not None else self.source.waits_for_answers:
            raise InputError(
                "the policy rejects requests: a user of a closed loop or session waits for an answer, and a "
                "rejected request gets none; expected arrivals of their own"
            )
        self.rejected += rejected
        if routing is not None:
            self.report(rejected, now)
        rejected.clear()

    def await_arrival(self, now: float) -> Generator[simpy.Event, None, float]:
        """Nothing can run: wait until someone arrives; returns when, or inf if nobody will."""
        self.now = now
        if not self.is_alone:
            self._idle = simpy.Event(self.event_loop)
            yield self._idle
            return self.event_loop.now
        time = self.source.next_time
        if time < inf and self.event_loop.is_due(time):
            yield self.event_loop.at(time)
        return time

    @abstractmethod
    def _promised_steps(self, now: float) -> int:
        """How many steps of what it has promised, and not yet kept, are done by this time."""

    @abstractmethod
    def _cut(self, now: float) -> float:
        """A request is delivered: of its promise it keeps the step under way. Returns when that ends."""

    def promised_until(self, end: float) -> simpy.Event:
        """What to wait for while a promise is kept: `end`, or if a request is delivered the end of what is
        left of it."""
        self._promised = promised = self.event_loop.at(end)
        return promised

    def settle(self, now: float, num_running: int) -> simpy.Event | None:
        """A step of one of several replicas has ended, and so many requests run. Whoever arrives in this very
        moment is seen by the next step: what it must wait for if anybody may."""
        self.now = now
        if self.tells_counts:
            self.tell_counts(now, num_running)
        if self.recorder.first_tokens:
            self._tell_first_tokens(self.recorder.first_tokens, now)
        if self._publisher is not None:
            self._publish_blocks(self._publisher, now)
        event_loop = self.event_loop
        due = event_loop.due
        return event_loop.at(now, SCHEDULE) if due and due[0][0] <= now else None

    def _publish_blocks(self, publisher: PublishesBlocks, now: float) -> None:
        """After each step: vLLM publishes the KV events that there have been."""
        assert self._inbox is not None
        events = publisher.take_block_events()
        index = self._inbox.routing.blocks
        if events and index is not None:
            index.note(self._inbox.number, now, events)

    def _tell_first_tokens(self, numbers: list[int], now: float) -> None:
        assert self._inbox is not None
        for number in numbers:
            self._inbox.routing.first_token(self.rows[number], self._inbox.number, now)
        numbers.clear()

    def tell_counts(self, now: float, num_running: int) -> None:
        """Before and after each step, with whoever has arrived taken in: vLLM's engines report their numbers
        of waiting and running requests where they have changed."""
        waiting = len(self.rows) - self._num_finished - num_running
        if self._told_running != num_running or self._told_waiting != waiting:
            inbox, scheduler = self._inbox, self.scheduler
            assert inbox is not None
            self._told_waiting, self._told_running = waiting, num_running
            usage = 1 - scheduler.num_free_blocks / scheduler.num_blocks
            counts = make_counts(Counts, (now, waiting, num_running, usage, self.stamp))
            inbox.routing.counts_changed(inbox.number, counts)

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
        if self._inbox is not None:
            line["replica"] = self._inbox.number
        line["num_running"] = batch.num_running
        line["num_waiting"] = batch.num_waiting
        line["kv_blocks_used"] = batch.kv_blocks_used
        self._step_log(line)
