"""Asynchronous scheduling for less work: the schedule of `stepping_async.py`, computed from event to event.

The leaping engine one step ahead. A step is *formed* by the rules of `leaping.py` as if the step under way
were over: its decoding requests have a token more (a placeholder), its prefills are done. What only its end
brings comes when it is over: tokens and their times, the clocks that policies see, and that a request which
has its last token is gone; until then it is ENDING, keeps its place and its blocks, and gets nothing. A
request that is preempted with a token on its way gets that token in the queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from heapq import heappop, heappush
from math import inf
from typing import Final

import simpy

from simsched.cost_model.base import StepFeatures
from simsched.engine.arrival import Arrival
from simsched.engine.base import Batch, CannotLeap
from simsched.engine.config import ResolvedConfig
from simsched.engine.pipelined import Handover, PipelinedReplica
from simsched.engine.recorder import Recorder
from simsched.engine.request_status import DECODING, ENDING, FINISHED, RESIDENT, WAITING
from simsched.engine.vllm_v1.handover import UncontendedStep
from simsched.engine.vllm_v1.leaping import VllmV1Leap
from simsched.engine.vllm_v1.leaping_request import MANY, LeapRequest
from simsched.engine.vllm_v1.uncontended_ahead import run_uncontended_ahead
from simsched.policies.base import Policy

NOTHING: Final = StepFeatures()


class Step:
    """A step that is formed and not over."""

    __slots__ = (
        "batch",
        "drained",
        "endings",
        "formed_at",
        "irregular",
        "left_out",
        "num_decoding",
        "paused",
        "put_back",
        "repeats",
        "sampled",
    )

    def __init__(
        self,
        batch: Batch,
        formed_at: float,
        num_decoding: int,
        irregular: list[tuple[LeapRequest, int]],
        left_out: Sequence[LeapRequest],
        paused: list[LeapRequest],
        repeats: bool,
    ) -> None:
        """
        Args:
            irregular: its other requests, with their tokens.
            left_out: who does not run in it, and may have run before.
            paused: of those, who has a token of the step before.
            repeats: decoding requests alone, and the next one is like it, unless someone arrives or a change
                comes.
        """
        self.batch = batch
        self.formed_at = formed_at
        self.num_decoding = num_decoding
        self.irregular = irregular
        self.left_out = left_out
        self.paused = paused
        self.repeats = repeats
        self.sampled: list[LeapRequest] = []
        """Of `irregular`, who gets a token."""
        self.endings: list[LeapRequest] = []
        """Who gets its last token."""
        self.put_back: list[LeapRequest] = []
        """Left out of the next step with a token of this one on its way."""
        self.drained: list[tuple[LeapRequest, int]] = []
        """Preempted while it runs in this step, and how many tokens of this step are on its way."""


class AsyncVllmV1Leap(VllmV1Leap):
    """`schedule()` forms a step, `update()` ends the oldest one; two may be under way.

    Raises:
        CannotLeap: as the synchronous engine does; also where a preemptive policy of ours might displace a
            request that is cut off at `max_model_len`, as its last token comes.
    """

    runs_uncontended_ahead = True

    def __init__(self, policy: Policy, config: ResolvedConfig, recorder: Recorder) -> None:
        super().__init__(policy, config, recorder)
        self._displaces = self.policy_order is not None and policy.preemptive
        self._under_way: deque[Step] = deque()
        self.ended = 0.0  # when the step done last ended
        self._paused: list[LeapRequest] = []  # by the step that is being formed

    def add_request(self, arrival: Arrival, now: float) -> None:
        if self._displaces and arrival.num_prompt_tokens + arrival.num_output_tokens > self.max_model_len:
            raise CannotLeap("a request that is cut off may be displaced as it ends")
        super().add_request(arrival, now)

    # -- forming a step --------------------------------------------------------------------------------------
    def schedule(self, now: float) -> Batch | None:
        self._batch = Batch(NOTHING)
        may_repeat = not self.ending  # else places and blocks come free soon
        batch = super().schedule(now)
        if batch is None:
            return None
        preempted, paused, irregular = self.preempted_this_step, self._paused, self.irregular
        repeats = (
            may_repeat
            and self._most > 1
            and not (irregular or preempted or paused or batch.features.num_predicted)
        )
        step = Step(batch, now, self.num_decoding, irregular, self._left_out(), paused, repeats)
        self.preempted_this_step, self._paused = [], []
        self._under_way.append(step)
        self._advance(step, 1)
        return batch

    def _nothing_runs(self) -> None:
        """Whom this call preempted is left out of the step that is formed next."""

    def _left_out(self) -> Sequence[LeapRequest]:
        if not self.preempted_this_step and not self.partials:
            return ()
        ran = {request.number for request, _ in self.irregular}
        some = [*self.preempted_this_step, *self.partials.values()]
        return [request for request in some if request.number not in ran]

    def _advance(self, step: Step, steps: int) -> None:
        """As if this step, after so many steps of its decoding requests less one, were over."""
        self.clock.formed = after = self.clock.formed + steps
        self.decode_context += self.num_decoding * steps
        ends = self.ends
        later = MANY * (after + 1)
        while ends and ends[0] < later:
            request = self.decoding_request(heappop(ends))
            if request is not None:
                self.stop_decoding(request)
                self._await_end(request, step)
        partials, total = self.partials, self.total
        for request, tokens in step.irregular:
            number = request.number
            request.computed = computed = request.computed + tokens
            if computed < request.known:
                partials[number] = request
                continue
            partials.pop(number, None)
            step.sampled.append(request)
            request.since = after
            request.known = known = computed + 1
            end = total[number] - known + after
            if end > after:
                request.decode(known - after)
                self.growth_by_residue[(after - computed) % self.block_size] += 1
                self.num_decoding += 1
                self.decode_context += known
                heappush(ends, MANY * end + number)
            else:
                self._await_end(request, step)

    def _await_end(self, request: LeapRequest, step: Step) -> None:
        """Its last token is that of this step."""
        request.where = ENDING
        request.coming = 1
        self.ending[request.number] = request
        step.endings.append(request)

    def _pause(self, request: LeapRequest, now: float) -> None:
        self._paused.append(request)

    def leave_out(self, request: LeapRequest, now: float) -> None:
        super().leave_out(request, now)
        request.coming = 1
        self._under_way[-1].put_back.append(request)

    def preempt(self, victims: Sequence[LeapRequest], now: float, scheduled: int = 0) -> None:
        size = self.block_size
        for request in victims:
            number = request.number
            was = request.where
            if was == DECODING:
                self._pause(request, now)
                self.stop_decoding(request)
                request.coming = 1
            elif was == ENDING:
                del self.ending[number]
            else:
                self.partials.pop(number, None)
            tokens = registered = request.computed + scheduled
            if was != RESIDENT and (scheduled or request.since < self.clock.formed):
                registered -= 1  # its latest token is not known as yet
            self._give_up_cached(request, -(-tokens // size), registered // size)
            self._drain(request)
            request.computed = 0
            request.where = WAITING
            del self.running[number]
            self.recorder.preempted(number)
        self.preempted_this_step += victims
        if self.policy_order is not None:
            self.policy_order.preempted(victims, now)
            if self._under_way:
                for request, _ in self._under_way[-1].drained:
                    if request in victims:
                        self.policy_order.announce_draining(request, now)

    def _give_up_cached(self, request: LeapRequest, blocks: int, hashed: int) -> None:
        """It gives up so many blocks, of which so many stay cached."""
        if self.caching:
            known = request.known  # when it comes back, with the token on its way
            if hashed > (known - 1) // self.block_size:
                raise CannotLeap("a block will be computed twice")
            self.queue.leave(request.number, hashed, blocks - hashed, self.free)
        self.free += blocks

    def _drain(self, request: LeapRequest) -> None:
        """What the step under way brings it, it gets in the queue."""
        if not self._under_way:
            return
        step = self._under_way[-1]
        if request.coming or any(request is other for other, _ in step.irregular):
            step.drained.append((request, request.coming))
            request.known -= request.coming
            request.coming = 0

    # -- the easy stretches ----------------------------------------------------------------------------------
    def is_uncontended(self) -> bool:
        """Likewise, and none of the decoding requests new? Then `run_uncontended_ahead` takes over."""
        if not super().is_uncontended() or self.preempted_this_step:
            return False
        for step in self._under_way:
            if step.irregular or step.left_out or step.paused or step.drained or step.put_back:
                return False
        return True

    def run_uncontended_ahead(
        self, replica: PipelinedReplica, now: float
    ) -> Generator[simpy.Event, None, Handover]:
        return run_uncontended_ahead(self, self, self.policy_order, replica, now, decider=self.decisions)

    def hand_over(self) -> tuple[UncontendedStep | None, dict[int, int]]:
        """The step under way, and the offsets of those who decode on after it."""
        offsets = {who: each.offset for who, each in self.running.items() if each.where == DECODING}
        if not self._under_way:
            return None, offsets
        step = self._under_way.popleft()
        if self.decisions is None:
            self.ending.clear()
        endings = [request.number for request in step.endings]
        return UncontendedStep(step.batch.features, step.formed_at, 0, 0, [], endings), offsets

    def take_back(self, current: UncontendedStep | None, offsets: dict[int, int]) -> Batch | None:
        """The same, at the end of the stretch; all of them are in `running`."""
        running = self.running
        for who, offset in offsets.items():
            running[who].decode(offset)
        if current is None:
            return None
        features = current.features
        sampled = [running[who] for who in range(current.first_done, current.end_done)]
        for request in sampled:
            request.since = self.clock.formed
            self.recorder.scheduled(request.number, current.formed_at)
        repeats = not (features.S or features.num_waiting)
        irregular = [(running[who], tokens) for who, tokens in current.prompts]
        step = Step(Batch(features), current.formed_at, features.N, irregular, (), [], repeats)
        step.sampled = sampled
        for who in current.endings:
            request = running[who]
            request.known = self.total[who]
            request.computed = request.known - 1
            self._await_end(request, step)
        self._under_way.append(step)
        return step.batch

    # -- the end of a step -----------------------------------------------------------------------------------
    def max_steps(self, batch: Batch) -> tuple[int, float]:
        """Steps may repeat up to the one before that in which a decoding request ends: with that one the next
        is formed, without it."""
        if len(self._under_way) < 2:
            return 1, inf
        current, ahead = self._under_way
        if not (current.repeats and ahead.repeats) or ahead.endings:
            return 1, inf
        steps, ends = self.clock.formed, self.ends
        while self.decoding_request(ends[0]) is None:
            heappop(ends)
        most = ends[0] // MANY - steps + 1
        if self.free < self.num_decoding * (most // self.block_size + 1):
            most = min(most, self._steps_to_spare(steps))
        if self.policy_order is None:
            return most, inf
        step, time = self.policy_order.limit()
        return max(1, min(most, step - self.clock.done)), time

    def update(self, batch: Batch, now: float, first: float, last: float, steps: int = 1) -> Sequence[int]:
        step = self._under_way[0]
        assert step.batch is batch
        assert steps == 1
        for request in step.paused:
            if request.where != FINISHED:
                self.recorder.pause(request.number, max(self.ended, step.formed_at))
        self.recorder.step(first, step.num_decoding)
        return self.update_stretch(now, 1)

    def update_stretch(self, now: float, steps: int) -> Sequence[int]:
        """The oldest step is over, or that and those like it: the recorder has been told."""
        step = self._under_way.popleft()
        recorder, policy_order = self.recorder, self.policy_order
        # it began when the one before it ended, or when it was formed, if that was later
        start = max(self.ended, step.formed_at)
        self.step_start = start
        self.ended = self.clock.time = now
        before = self.clock.done
        self.clock.done = before + steps
        if steps > 1:
            self._repeat(self._under_way[0], steps - 1)
        for request in step.sampled:
            recorder.token(request.number, now)
        for request, tokens in step.drained:
            request.known += tokens
        for request in step.put_back:
            request.coming = 0
        finished = [request.number for request in step.endings]
        for request in step.endings:
            if request.where == ENDING:
                request.coming = 0
                del self.ending[request.number]
                self._finish(request, now)
            else:
                self._finish_in_queue(request, now)
        if policy_order is not None:
            policy_order.step_done(before, start, now, step.irregular, step.left_out)
            for request, _ in step.drained:
                policy_order.drained(request, now)
            if len(self.step_ends or ()) > self.clock.history_limit:
                self.clock.trim_history(policy_order.oldest_change())
        return finished

    def pass_over(self, start: float, duration: float) -> None:
        paused, self._paused = self._paused, []
        for step in self._under_way:  # formed since then
            paused += step.paused
            step.paused = []
        for request in paused:
            if request.where != FINISHED:
                self.recorder.pause(request.number, start)
        super().pass_over(start, duration)

    def _repeat(self, ahead: Step, steps: int) -> None:
        """The step that is formed ahead is that which comes so many steps later."""
        self.allocate(self.blocks_for(self.clock.formed, steps))
        features = ahead.batch.features
        ahead.batch.features = features._replace(K=features.K + features.N * steps)
        self._advance(ahead, steps)

    def _finish_in_queue(self, request: LeapRequest, now: float) -> None:
        """It was preempted with its last token on its way."""
        request.where = FINISHED
        self.order.remove(request)
        self.num_waiting -= 1
        self.queue.runs.pop(request.number, None)
        self.recorder.finish(request.number, now)
        if self.policy_order is not None:
            self.policy_order.finished(request, now)
