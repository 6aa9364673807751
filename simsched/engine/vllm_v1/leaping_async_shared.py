"""Asynchronous scheduling where prompts share prefixes: `leaping_async.py` with the account of KV blocks of
`leaping_shared.py`.

A token that is on its way fills no block that others could hit: a decoding request has registered what was
known when it was last given a token, a step less than it has blocks for. Whoever gets its last token keeps
its blocks a step longer, and gives them up in the order of the batch that it was last in.

What is the same in `leaping_shared.py` stands in both: each extends another engine, and a compiled class has
one base.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence

import simpy

from simsched.engine.arrival import Arrival
from simsched.engine.base import Batch
from simsched.engine.config import ResolvedConfig
from simsched.engine.pipelined import Handover, PipelinedReplica
from simsched.engine.recorder import Recorder
from simsched.engine.request_status import DECODING, ENDING
from simsched.engine.vllm_v1.answers import Answers
from simsched.engine.vllm_v1.handover import UncontendedStep
from simsched.engine.vllm_v1.leaping_async import AsyncVllmV1Leap, Step
from simsched.engine.vllm_v1.leaping_request import MANY, LeapRequest
from simsched.engine.vllm_v1.prefixes import Prefixes
from simsched.engine.vllm_v1.pressure import schedule_under_pressure
from simsched.engine.vllm_v1.shared_blocks import Piece, SharedBlocks
from simsched.engine.vllm_v1.uncontended_ahead import run_uncontended_ahead
from simsched.policies.base import Policy


class AsyncSharedVllmV1Leap(AsyncVllmV1Leap):
    """The scheduler of vLLM V1 one step ahead, with prefix caching across requests.

    Raises:
        CannotLeap: as its parent does.
    """

    def __init__(self, policy: Policy, config: ResolvedConfig, recorder: Recorder) -> None:
        super().__init__(policy, config, recorder)
        self._blocks = SharedBlocks(self.free, config.block_size)
        self._found: list[Piece] = []  # by the latest lookup
        self._admitted: list[LeapRequest] = []  # in the step that is being formed
        self._answers = Answers(self._blocks)
        self._leaving: deque[list[LeapRequest]] = deque()  # of each step under way: who ends, as in its batch

    def add_request(self, arrival: Arrival, now: float) -> None:
        number = len(self.total)
        super().add_request(arrival, now)
        if number in self._blocks.paths:
            return  # it has waited in an uncontended run
        self._blocks.arrived(number, arrival.prefix)
        if arrival.prefix:
            self._answers.arrived(number, arrival.num_prompt_tokens)

    def is_uncontended(self) -> bool:
        """As in `leaping_shared.py`."""
        return self.policy_order is None and not self._answers.watched and super().is_uncontended()

    def run_uncontended_ahead(
        self, replica: PipelinedReplica, now: float
    ) -> Generator[simpy.Event, None, Handover]:
        prefixes = Prefixes(self, self._blocks, self._answers)
        return run_uncontended_ahead(self, self, None, replica, now, prefixes)

    def hand_over(self) -> tuple[UncontendedStep | None, dict[int, int]]:
        current, offsets = super().hand_over()
        if current is not None:
            in_order = [request.number for request in self._leaving.popleft()]
            current = current._replace(endings=in_order)
        return current, offsets

    def take_back(self, current: UncontendedStep | None, offsets: dict[int, int]) -> Batch | None:
        batch = super().take_back(current, offsets)
        if current is not None:
            self._leaving.append([self.running[number] for number in current.endings])
        return batch

    # -- forming a step --------------------------------------------------------------------------------------
    def schedule(self, now: float) -> Batch | None:
        self._admitted = []
        return super().schedule(now)

    def _schedule_running(self, now: float, need: int) -> int:
        self.fills_answers = bool(self._answers.watched)
        self._catch_up(self.clock.done - 1)
        # of two copies of a block the older is hit, so the order counts in which they are filled
        several = self.policy_order is not None and len(self.partials) > 1
        if several or any(self._fills(request) for request in self._watched()):
            return schedule_under_pressure(self, now, self._threshold())
        return super()._schedule_running(now, need)

    def _admit(self, now: float, budget: int) -> None:
        self._catch_up(self.clock.done)
        super()._admit(now, budget)

    def _watched(self) -> list[LeapRequest]:
        """Whose answers somebody who is there may hit as they grow."""
        return [self.running[number] for number in self._answers.watched]

    def _fills(self, request: LeapRequest) -> bool:
        """Is a block of this decoding request full with the token that has come last?"""
        return request.where == DECODING and not (request.offset + self.clock.done) % self.block_size

    def _catch_up(self, step: int) -> None:
        """Blocks of answers that decoding requests have filled up to this step can be hit from now on."""
        for request in self._watched():
            if request.where == DECODING:
                self._blocks.fill(request.number, request.offset + step)

    def _advance(self, step: Step, steps: int) -> None:
        self._leaving.append(self._who_ends(step, steps))
        super()._advance(step, steps)

    def _repeat(self, ahead: Step, steps: int) -> None:
        self._leaving.pop()
        super()._repeat(ahead, steps)

    def _who_ends(self, step: Step, steps: int) -> list[LeapRequest]:
        """Who gets its last token in this step, in the order of its batch."""
        if not step.irregular and (not self.ends or self.ends[0] >= MANY * (self.clock.formed + steps + 1)):
            return []
        old = set(self.ending_by(self.clock.formed + steps))
        new: list[LeapRequest] = []
        for request, n in step.irregular:
            if request.computed + n == request.known == self.total[request.number] - 1:
                if request in self._admitted:
                    new.append(request)
                else:
                    old.add(request)
        if len(old) < 2:
            return [*old, *new]
        return [*self.order.in_order(list(old), self._start), *new]

    def _await_end(self, request: LeapRequest, step: Step) -> None:
        super()._await_end(request, step)
        if request.number in self._answers.running:
            self._blocks.fill(request.number, self.total[request.number] - 2)

    # -- the end of a step -----------------------------------------------------------------------------------
    def max_steps(self, batch: Batch) -> tuple[int, float]:
        """Also until somebody ends, whose place in the batch then counts, or an answer fills a block: whoever
        waits may hit it, and then needs one less."""
        most, time = super().max_steps(batch)
        if most > 1:
            most -= 1
        if most > 1 and self.num_waiting:
            size, before = self.block_size, self.clock.formed - 1
            for request in self._watched():
                if request.where == DECODING:
                    most = min(most, -(request.offset + before) % size + 1)
        return most, time

    def update_stretch(self, now: float, steps: int) -> Sequence[int]:
        for request in self._under_way[0].put_back:
            if request.number in self._answers.running:
                # passed over as its latest token was on its way, which has come and may fill a block
                self._blocks.fill(request.number, request.computed)
        leaving = self._leaving.popleft()
        kept = [request for request in leaving if request.where == ENDING]
        finished = super().update_stretch(now, steps)
        for request in leaving:
            number = request.number
            answered = self._answers.stopped(number)
            self._answers.left(number)
            if request not in kept:
                self._blocks.forget(number)  # it was preempted with its last token on its way
                continue
            if answered:
                self._blocks.fill(number, request.computed)
            self.free += self._blocks.release(number, request.computed, finished=True)
        return finished

    # -- KV blocks -----------------------------------------------------------------------------------------
    def allocate(self, blocks: int) -> None:
        self.free -= blocks
        self._blocks.allocate(blocks)

    def _free_finished(self, tokens: int) -> None:
        """Not yet: see `update`."""

    def _give_up_cached(self, request: LeapRequest, blocks: int, hashed: int) -> None:
        number, size = request.number, self.block_size
        if self._answers.stopped(number):
            self._blocks.fill(number, hashed * size)
        self.free += self._blocks.release(number, hashed * size, finished=False, unhashed=blocks - hashed)

    def catch_up_cache(self) -> None:
        self._catch_up(self.clock.done - 1)

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
        if request.where == DECODING:
            tokens -= 1  # the token before this one is on its way
        else:
            tokens = min(tokens, request.known - request.coming)
        self._blocks.fill(request.number, tokens)
