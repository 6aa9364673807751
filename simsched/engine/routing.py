"""Several replicas behind a router: who gets which request, and what the router knows when it decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol

import simpy

from simsched.engine.admission_control import AdmissionControl
from simsched.engine.arrival import Arrival
from simsched.engine.block_index import BlockIndex
from simsched.engine.event_loop import EventLoop
from simsched.engine.recorder import Recorder
from simsched.engine.source import Source
from simsched.engine.true_work import TrueWork
from simsched.routers.base import Replicas, Router
from simsched.routers.reports import Counts, reports_of


class Destination(Protocol):
    """What is sent requests: a replica."""

    recorder: Recorder
    num_delivered: int

    def start(self) -> simpy.Process: ...
    def num_steps_by(self, now: float) -> int: ...
    def deliver(self, arrival: Arrival, now: float) -> None: ...


class Routing:
    """Takes requests from the source, asks the router, and sends each to its replica at the time it arrives.
    What ends at that time has ended by then."""

    def __init__(
        self,
        event_loop: EventLoop,
        source: Source,
        router: Router,
        num_replicas: int,
        gate: AdmissionControl | None,
        seed: int,
        block_sizes: Sequence[int] = (),
        in_step: bool = False,
    ) -> None:
        """
        Args:
            router: started here.
            gate: whom it refuses no router sees; None: nobody.
            seed: of the router's chance.
            block_sizes: tokens of a KV block of each replica, for a router that is told what is cached.
            in_step: do the replicas step together, and report so?
        """
        self._event_loop = event_loop
        self._source = source
        self._router = router
        self._choose = router.choose
        self._gate = gate
        self._destinations: list[Destination] = []
        self._view = Replicas.idle(num_replicas)
        router.start(num_replicas, seed)
        self._reports = reports_of(router.reporting(), self._view, in_step)
        delay = router.reporting().block_events
        self.blocks = None if delay is None else BlockIndex(block_sizes, delay)
        """What the router knows of the replicas' caches; None: it is not told."""
        self._view.blocks = self.blocks
        self.counts_changed: Callable[[int, Counts], None] = self._reports.note
        """A replica's numbers of requests are others than before."""
        self.wants_counts = self._reports.wanted
        """Must replicas tell when their counts change (`counts_changed`)?"""
        self._true_work = TrueWork() if router.reads_future else None
        told_first = type(router).on_first_token is not Router.on_first_token
        self.wants_first_tokens = told_first or router.reads_future
        """Must they tell of first tokens (`first_token`)?"""
        self._brings_others = source.waits_for_answers
        self._remembers = self.wants_first_tokens or type(router).on_finish is not Router.on_finish
        self._arrivals: dict[int, Arrival] = {}  # in flight, by row, if the router is told of them again
        self._num_in_flight = 0
        self._end = simpy.Event(event_loop)
        self._until = inf  # when it will look again, while it waits
        self._next: simpy.Event | None = None  # that it does

    @property
    def has_gate(self) -> bool:
        """Are some requests refused before any replica sees them?"""
        return self._gate is not None

    @property
    def waits_for_answers(self) -> bool:
        """Do some arrive when others have their answers?"""
        return self._source.waits_for_answers

    def add(self, destination: Destination) -> None:
        """One more of those that get requests."""
        self._destinations.append(destination)
        if self._true_work is not None:
            self._true_work.add(destination.num_steps_by)

    def start(self) -> simpy.Event:
        """Start all replicas; what is returned happens with the last answer."""
        for destination in self._destinations:
            destination.start()
        self._look()
        return self._end

    def _look(self) -> None:
        """Wait for the next arrival; with none to come and nothing in flight, this is the end."""
        self._until = until = self._source.next_time
        if until < inf:
            self._next = self._event_loop.call_at(until, self._arrive)
        else:
            self._next = None
            if not self._num_in_flight:
                self._end.succeed()

    def _arrive(self, event: simpy.Event) -> None:
        """Who arrives now is sent on."""
        now, source = self._until, self._source
        self._until = -inf
        while source.next_time <= now:
            self._send(source.pop(), now)
        self._look()

    def _send(self, arrival: Arrival, now: float) -> None:
        gate, true_work, view = self._gate, self._true_work, self._view
        if gate is not None and not gate.admits(arrival):
            return
        # First, what the router knows by now; then, whom it chooses.
        if self.wants_counts:
            self._reports.refresh(now)
        if self.blocks is not None:
            self.blocks.refresh(now)
        if true_work is not None:
            view.remaining_work[:] = true_work.left(now)
        number = self._choose(arrival, view, now)
        destination = self._destinations[number]
        if gate is not None:
            gate.sent(arrival, destination.recorder, destination.num_delivered)
        if self._remembers:
            self._arrivals[arrival.row] = arrival
        if true_work is not None:
            true_work.sent(arrival, number)
        view.in_flight[number] += 1
        self._num_in_flight += 1
        destination.deliver(arrival, now)

    # -- what replicas tell ----------------------------------------------------------------------------------
    def first_token(self, row: int, number: int, now: float) -> None:
        """The request in this row of the trace has its first token."""
        arrival = self._arrivals[row]
        self._router.on_first_token(arrival, number, now)
        if self._true_work is not None:
            self._true_work.first_token(arrival, number, now)

    def finished(self, row: int, number: int, now: float) -> None:
        """It has its answer."""
        self._num_in_flight -= 1
        self._view.in_flight[number] -= 1
        if self._remembers:
            arrival = self._arrivals.pop(row)
            self._router.on_finish(arrival, number, now)
            if self._true_work is not None:
                self._true_work.finished(arrival, number)
        source = self._source
        if self._brings_others:
            source.finished(row, now)
        elif self._num_in_flight:
            return
        is_last = not self._num_in_flight and source.next_time == inf
        if source.next_time < self._until or is_last:
            # an answer has brought an arrival before the one that was to come next, or it was the last
            if self._next is not None:
                self._event_loop.cancel(self._next)
            self._look()
