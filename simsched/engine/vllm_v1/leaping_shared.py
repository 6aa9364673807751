"""The leaping scheduler where prompts share prefixes: `leaping.py` with another account of KV blocks.

A turn's prompt may hold an earlier turn's answer. Who generates such an answer fills blocks that others can
hit; decoding requests are not touched in every step, so they catch up before anyone looks. While nobody is
there whose prompt holds the answer (the next turn of a session comes after it), nobody does.

Which blocks are evicted next depends on the order in which requests give them up, so those that finish in
the same step do so as vLLM has them in its batch.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import simpy

from simsched.engine.arrival import Arrival
from simsched.engine.base import Batch
from simsched.engine.config import ResolvedConfig
from simsched.engine.recorder import Recorder
from simsched.engine.request_status import DECODING
from simsched.engine.serial import SerialReplica
from simsched.engine.vllm_v1.answers import Answers
from simsched.engine.vllm_v1.leaping import VllmV1Leap
from simsched.engine.vllm_v1.leaping_request import MANY, LeapRequest
from simsched.engine.vllm_v1.prefixes import Prefixes
from simsched.engine.vllm_v1.pressure import schedule_under_pressure
from simsched.engine.vllm_v1.shared_blocks import Piece, SharedBlocks
from simsched.engine.vllm_v1.uncontended import run_uncontended
from simsched.policies.base import Policy


class SharedVllmV1Leap(VllmV1Leap):
    """The scheduler of vLLM V1 with prefix caching across requests, from event to event."""

    def __init__(self, policy: Policy, config: ResolvedConfig, recorder: Recorder) -> None:
        super().__init__(policy, config, recorder)
        self._blocks = SharedBlocks(self.free, config.block_size)
        self._found: list[Piece] = []  # by the latest lookup
        self._admitted: list[LeapRequest] = []  # in this step
        self._answers = Answers(self._blocks)
        if self.policy_order is not None and self.step_ends is None:
            self.keep_history()  # of those who leave, the order as their last step began counts

    def add_request(self, arrival: Arrival, now: float) -> None:
        number = len(self.total)
        super().add_request(arrival, now)
        if number in self._blocks.paths:
            return  # it has waited in an uncontended run
        self._blocks.arrived(number, arrival.prefix)
        if arrival.prefix:
            self._answers.arrived(number, arrival.num_prompt_tokens)

    def is_uncontended(self) -> bool:
        """Likewise, and does nobody hit answers as they grow? (Who ends in the same step gives up its blocks
        in the order of the batch: a policy's would have to be asked.)"""
        return self.policy_order is None and not self._answers.watched and super().is_uncontended()

    def run_uncontended(self, replica: SerialReplica, now: float) -> Generator[simpy.Event, None, float]:
        return run_uncontended(self, None, replica, now, Prefixes(self, self._blocks, self._answers))

    def max_steps(self, batch: Batch) -> tuple[int, float]:
        """Also until an answer fills a block: whoever waits may hit it, and then needs one less."""
        most, time = super().max_steps(batch)
        if most > 1 and self.num_waiting:
            size, step = self.block_size, self.clock.formed
            for request in self._watched():
                if request.where == DECODING:
                    most = min(most, size - (request.offset + step) % size)
        return most, time

    def update(self, batch: Batch, now: float, first: float, last: float, steps: int = 1) -> Sequence[int]:
        leaving = self._leaving(steps)
        finished = super().update(batch, now, first, last, steps)
        for request in leaving:
            if self._answers.stopped(request.number):
                self._blocks.fill(request.number, request.computed)
            self._answers.left(request.number)
            self.free += self._blocks.release(request.number, request.computed, finished=True)
        self._admitted.clear()
        return finished

    def _leaving(self, steps: int) -> list[LeapRequest]:
        """Who finishes at the end of these steps, in the order of the batch."""
        if not self.irregular and (not self.ends or self.ends[0] >= MANY * (self.clock.formed + steps + 1)):
            return []
        old = set(self.ending_by(self.clock.formed + steps))
        new: list[LeapRequest] = []
        for request, n in self.irregular:
            if request.computed + n == request.known == self.total[request.number] - 1:
                if request in self._admitted:
                    new.append(request)
                else:
                    old.add(request)
        if len(old) < 2:
            return [*old, *new]
        before, time = self.clock.formed, self.clock.time
        now = self._start
        if steps > 1:
            self.clock.formed += steps - 1  # as the last of these steps begins
            self.clock.done = self.clock.formed
            now = time if self.policy_order is None else self.clock.end_of(self.clock.formed)
            self.clock.time = now
        in_order = self.order.in_order(list(old), now)
        self.clock.formed, self.clock.done, self.clock.time = before, before, time
        return [*in_order, *new]

    def leave_out(self, request: LeapRequest, now: float) -> None:
        super().leave_out(request, now)
        if request.number in self._answers.running:
            # what it has filled while it decoded: whoever arrives later may hit it before it goes on
            self._blocks.fill(request.number, request.computed)

    def _schedule_running(self, now: float, need: int) -> int:
        self.fills_answers = bool(self._answers.watched)
        self._catch_up(self.clock.formed - 1)
        # of two copies of a block the older is hit, so the order counts in which they are filled
        several = self.policy_order is not None and len(self.partials) > 1
        if several or any(self._fills(request) for request in self._watched()):
            return schedule_under_pressure(self, now, self._threshold())
        return super()._schedule_running(now, need)

    def _admit(self, now: float, budget: int) -> None:
        self._catch_up(self.clock.formed)
        super()._admit(now, budget)

    def _watched(self) -> list[LeapRequest]:
        """Whose answers somebody who is there may hit as they grow."""
        return [self.running[number] for number in self._answers.watched]

    def _fills(self, request: LeapRequest) -> bool:
        """Does this decoding request fill a block in this step?"""
        return request.where == DECODING and not (request.offset + self.clock.formed) % self.block_size

    def _catch_up(self, step: int) -> None:
        """Blocks of answers that decoding requests have filled up to this step can be hit from now on."""
        for request in self._watched():
            if request.where == DECODING:
                self._blocks.fill(request.number, request.offset + step)

    # -- KV blocks -----------------------------------------------------------------------------------------
    def allocate(self, blocks: int) -> None:
        self.free -= blocks
        self._blocks.allocate(blocks)

    def _free_finished(self, tokens: int) -> None:
        """Not yet: see `update`."""

    def _free_preempted(self, request: LeapRequest, tokens: int) -> None:
        if self._answers.stopped(request.number):
            self._blocks.fill(request.number, tokens)
        self.free += self._blocks.release(request.number, tokens, finished=False)

    def catch_up_cache(self) -> None:
        self._catch_up(self.clock.formed - 1)

    def _lookup(self, request: LeapRequest) -> tuple[int, int]:
        self._found, held = self._blocks.lookup(request.number, request.known)
        return self._found[-1].end if self._found else 0, held

    def _allocate_admitted(self, request: LeapRequest, hits: int, blocks: int) -> None:
        held = sum(piece.end - piece.start for piece in self._found if piece.run.users)
        self._blocks.begin(request.number, self._found)
        self._admitted.append(request)
        self._answers.started(request.number)
        self.free -= hits - held
        self.allocate(blocks - hits)

    def mark_cached(self, request: LeapRequest, tokens: int) -> None:
        self._blocks.fill(request.number, tokens)
