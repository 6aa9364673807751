"""vLLM V1's scheduler for less work: the schedule of `stepping.py`, computed from event to event.

A request that gets a token in every step (a *decoding request*) is not touched until something happens to it:
its tokens are an offset from the step counter, the step in which it finishes is known when it starts, the
context of all of them is one sum, and the blocks they will need are counted by residue (each takes a block
every `block_size` steps). An uneventful step costs the same for 1 and for 1,000 of them; what else is in a
step (prefill chunks, decodes of requests that were left out before) is *irregular*, and listed. Where KV
blocks or the token budget run short, `pressure.py` goes through the running requests one by one.

`leaping_shared.py` adds prompts that share prefixes. Some rare cases need the reference: `CannotLeap`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from heapq import heappop, heappush
from math import inf

import simpy

from simsched.cost_model.base import StepFeatures, make_features
from simsched.engine.agenda import NO_LIMIT
from simsched.engine.arrival import Arrival
from simsched.engine.base import Batch
from simsched.engine.config import ResolvedConfig
from simsched.engine.engine_view import ViewOfEngine
from simsched.engine.recorder import Recorder
from simsched.engine.request_status import DECODING, FINISHED, RESIDENT, WAITING
from simsched.engine.serial import SerialReplica
from simsched.engine.vllm_v1.discipline import PriorityOrder
from simsched.engine.vllm_v1.free_queue import FreeQueue
from simsched.engine.vllm_v1.leaping_blocks import LeapingBlocks
from simsched.engine.vllm_v1.leaping_decisions import DecidingOrder
from simsched.engine.vllm_v1.leaping_request import MANY, LeapRequest
from simsched.engine.vllm_v1.policy_order import PolicyOrder
from simsched.engine.vllm_v1.policy_steps import discipline
from simsched.engine.vllm_v1.pressure import schedule_under_pressure
from simsched.engine.vllm_v1.uncontended import run_uncontended
from simsched.policies.base import Policy, hooks_of
from simsched.vllm_versions import rules_of


class VllmV1Leap(LeapingBlocks):
    """The scheduler of vLLM V1, from event to event.

    Raises:
        CannotLeap: now or later, where only the reference is exact.
    """

    swaps = False
    runs_uncontended = True

    def __init__(self, policy: Policy, config: ResolvedConfig, recorder: Recorder) -> None:
        super().__init__(config, recorder)
        self.counters: dict[str, int] = {}
        self._max_num_batched_tokens = config.max_num_batched_tokens
        self._adaptive = config.long_prefill_token_threshold_adaptive
        self.queue = FreeQueue()
        self._most = 1  # steps of the current batch
        self._start = 0.0  # of the current step
        self._batch = Batch(StepFeatures())
        self.policy_order: PolicyOrder | None = None  # the order, if it is a policy's
        self.decisions: DecidingOrder | None = None  # likewise, if that decides more than the order
        self.step_ends: list[float] | None = None
        rules = rules_of(config.vllm_version)
        self._lone_prefill_is_not_cut = rules.lone_prefill_is_not_cut
        kind = discipline(policy)
        self.walk_survives_self_preemption = kind == "priority" and rules.walk_survives_self_preemption
        if kind == "priority":
            self.order = PriorityOrder(self.running)
        elif kind == "policy":
            if hooks_of(policy):
                self.decisions = DecidingOrder(self, policy, config)
                self.order = self.policy_order = self.decisions
            else:
                self.order = self.policy_order = PolicyOrder(self, policy)
            if self.policy_order.looks_back:
                self.keep_history()

    def keep_history(self) -> None:
        """Keep the ends of steps: the clock is to be turned back."""
        self.step_ends = self.clock.ends = []

    # -- the protocol ------------------------------------------------------------------------------------
    def add_request(self, arrival: Arrival, now: float) -> None:
        total, most = self.total, self.max_model_len
        number = len(total)
        length = arrival.num_prompt_tokens + arrival.num_output_tokens
        total.append(length if length < most else most)
        self.num_new += 1
        self.num_waiting += 1
        self.order.arrived(number, arrival, now)

    def has_unfinished(self) -> bool:
        return bool(self.running or self.num_waiting)

    def schedule(self, now: float) -> Batch | None:
        self._start = now
        irregular: list[tuple[LeapRequest, int]] = []
        self.irregular = irregular
        policy_order = self.policy_order
        may_repeat = policy_order is None or policy_order.prepare(now)
        need = self.growth_by_residue[self.clock.formed % self.block_size]
        budget = self.max_tokens - self.num_decoding
        if self.partials or need > self.free or budget < 0:
            budget = self._schedule_running(now, need)
        else:
            self.allocate(need)
        if self.num_waiting and budget > 0 and len(self.running) < self.max_running:
            self._admit(now, budget)
        if self.preempted_this_step or self.partials:
            may_repeat = False
        if policy_order is not None:
            policy_order.release(now)
        N = self.num_decoding
        if irregular:
            self._most = 1
            self._batch.features = self._features(N, self.decode_context)
        elif N:
            self._most = NO_LIMIT if may_repeat else 1
            waiting = self.num_waiting + len(self.running) - N
            self._batch.features = make_features(
                StepFeatures, (0, N, 0, self.decode_context, 0.0, waiting, 0, self.num_new, 0, 0, 0)
            )
        else:
            self._nothing_runs()
            return None
        self.num_new = 0
        return self._batch

    def _nothing_runs(self) -> None:
        """Whom this call preempted it has made room for, and it is called again at once. (Not so where the
        policy chose who is preempted: then they are left out of the step that is formed next.)"""
        if self.decisions is None:
            self.preempted_this_step.clear()

    def _threshold(self) -> int:
        """The most tokens that a request may have in this step (*chunk cap*)."""
        if not self.long_prefill:
            return self.max_tokens
        num_requests = len(self.running) + self.num_waiting
        if num_requests == 1 and self._lone_prefill_is_not_cut:
            return self.max_tokens
        if self._adaptive and num_requests:
            return max(self.long_prefill, self._max_num_batched_tokens // num_requests)
        return self.long_prefill

    def _features(self, N: int, K: int) -> StepFeatures:
        """Of a step with more in it than decoding requests."""
        P = S = 0
        Q = 0.0
        waiting = self.num_waiting + len(self.running) - N - len(self.irregular)
        for request, n in self.irregular:
            computed, known = request.computed, request.known
            if n == 1 and computed + 1 == known > request.num_prompt_tokens:
                N += 1
                K += known
            else:
                P += n
                S += 1
                Q += n * (computed + n / 2)
        return make_features(StepFeatures, (P, N, S, K, Q, waiting, 0, self.num_new, 0, 0, 0))

    def max_steps(self, batch: Batch) -> tuple[int, float]:
        """Until a decoding request finishes, KV blocks may run short, or the order may change."""
        if self._most == 1:
            return 1, inf
        steps, ends = self.clock.formed, self.ends
        while self.decoding_request(ends[0]) is None:
            heappop(ends)
        most = ends[0] // MANY - steps
        if self.free < self.num_decoding * (most // self.block_size + 1):
            most = min(most, self._steps_to_spare(steps + 1))
        if self.policy_order is None:
            return most, inf
        step, time = self.policy_order.limit()
        return max(1, min(most, step - steps)), time

    def update(self, batch: Batch, now: float, first: float, last: float, steps: int = 1) -> Sequence[int]:
        clock = self.clock
        before = clock.formed
        N = self.num_decoding
        if steps == 1:
            self.recorder.step(first, N)
        else:
            self.recorder.steps(first, last, steps, N)
            self.allocate(self.blocks_for(before + 1, steps - 1))
        clock.formed = clock.done = after = before + steps
        clock.time = now
        self.step_start = self._start
        self.decode_context += N * steps
        finished: list[int] = []
        ends = self.ends
        later = MANY * (after + 1)
        while ends and ends[0] < later:
            request = self.decoding_request(heappop(ends))
            if request is not None:
                self.stop_decoding(request)
                self._finish(request, now)
                finished.append(request.number)
        partials, total = self.partials, self.total
        for request, tokens in self.irregular:
            number = request.number
            request.computed = computed = request.computed + tokens
            if computed < request.known:
                partials[number] = request
                continue
            if partials:
                partials.pop(number, None)
            self.recorder.token(number, now)
            request.known = known = computed + 1
            end = total[number] - known + after
            if end > after:
                request.decode(known - after)
                self.growth_by_residue[(after - computed) % self.block_size] += 1
                self.num_decoding += 1
                self.decode_context += known
                heappush(ends, MANY * end + number)
            else:
                self._finish(request, now)
                finished.append(number)
        policy_order, step_ends = self.policy_order, self.step_ends
        if policy_order is not None:
            left_out: Sequence[LeapRequest] = self.preempted_this_step
            if partials or self.decisions is not None:
                left_out = self._left_out()
            policy_order.step_done(before, self._start, now, self.irregular, left_out)
            if step_ends is not None and len(step_ends) > clock.history_limit:
                clock.trim_history(policy_order.oldest_change())
        if self.preempted_this_step:
            self.preempted_this_step.clear()
        return finished

    def pass_over(self, start: float, duration: float) -> None:
        """While it has unfinished requests, a step of so many seconds goes by in which none of them runs."""
        self.recorder.step(duration, 0)

    @property
    def num_running(self) -> int:
        return len(self.running)

    @property
    def engine_view(self) -> ViewOfEngine | None:
        """What a policy sees that decides more than the order."""
        return None if self.decisions is None else self.decisions.view

    @property
    def rejected(self) -> list[int]:
        """Those that such a policy has turned away, until somebody takes note and clears it."""
        return [] if self.decisions is None else self.decisions.rejected

    @property
    def num_free_blocks(self) -> int:
        return self.free

    def is_uncontended(self) -> bool:
        """Does nobody wait, nothing run but decoding requests, and is their order of no concern?"""
        order = self.policy_order
        if self.num_waiting or self.partials or self.num_new:
            return False
        return order is None or order.is_uncontended()

    def run_uncontended(self, replica: SerialReplica, now: float) -> Generator[simpy.Event, None, float]:
        return run_uncontended(self, self.policy_order, replica, now, decider=self.decisions)

    # -- decoding requests ----------------------------------------------------------------------------------
    def leave_out(self, request: LeapRequest, now: float) -> None:
        """A decoding request gets nothing in this step."""
        self._pause(request, now)
        self.stop_decoding(request)
        self.partials[request.number] = request

    def _pause(self, request: LeapRequest, now: float) -> None:
        """Its latest token came at the end of the step before."""
        self.recorder.pause(request.number, now)

    def _left_out(self) -> Sequence[LeapRequest]:
        """Who ran before, or might have, and does not run in this step."""
        if not self.partials and (self.decisions is None or not self.preempted_this_step):
            return self.preempted_this_step
        ran = {request.number for request, _ in self.irregular}
        left_out = [request for number, request in self.partials.items() if number not in ran]
        return [*(request for request in self.preempted_this_step if request.number not in ran), *left_out]

    def _finish(self, request: LeapRequest, now: float) -> None:
        request.where = FINISHED
        self._free_finished(request.computed)
        self.recorder.finish(request.number, now)
        if self.policy_order is not None:
            self.policy_order.finished(request, now)
        del self.running[request.number]

    def preempt(self, victims: Sequence[LeapRequest], now: float, scheduled: int = 0) -> None:
        """*Recompute*; `scheduled`: tokens that this step had given them already."""
        recorder = self.recorder
        for request in victims:
            number = request.number
            if request.where == DECODING:
                self._pause(request, now)
                self.stop_decoding(request)
            else:
                self.partials.pop(number, None)
            self._free_preempted(request, request.computed + scheduled)
            request.computed = 0
            request.where = WAITING
            del self.running[number]
            recorder.preempted(number)
        self.preempted_this_step += victims
        if self.policy_order is not None:
            self.policy_order.preempted(victims, now)

    # -- vLLM's schedule() ---------------------------------------------------------------------------------
    def _schedule_running(self, now: float, need: int) -> int:
        """Where others run too, or something runs short: the tokens left for those who wait."""
        size, threshold = self.block_size, self._threshold()
        budget = self.max_tokens - self.num_decoding
        blocks = need
        irregular: list[tuple[LeapRequest, int]] = []
        for number, request in self.partials.items():
            computed = request.computed
            n = min(request.known - computed, threshold)
            if n > budget and not (self.order.by_admission and number == next(reversed(self.running))):
                return schedule_under_pressure(self, now, threshold)  # it may leave nothing to others
            n = min(n, budget)
            irregular.append((request, n))
            budget -= n
            blocks += -(-(computed + n) // size) - -(-computed // size)
        if blocks > self.free or budget < 0:
            return schedule_under_pressure(self, now, threshold)
        self.allocate(blocks)
        for request, n in irregular:
            self.mark_cached(request, request.computed + n)
        self.irregular += irregular
        return budget

    def _admit(self, now: float, budget: int) -> None:
        """From the *head of the line*, with what the running requests have left."""
        order, running, size, reserve = self.order, self.running, self.block_size, self.reserve
        threshold = self._threshold()
        room = self.max_running - len(running)
        while budget > 0 and room > 0 and self.num_waiting:
            request = order.head()
            known = request.known
            hits, shared = self._lookup(request)
            computed = hits * size
            n = min(known - computed, threshold)
            if n > budget:
                if not self.chunked:
                    break
                n = budget
            after = computed + n
            fit = known if reserve else after
            if -(-fit // size) - shared + (self.watermark if running else 0) > self.free:
                break
            order.pop()
            self.num_waiting -= 1
            self._allocate_admitted(request, hits, -(-after // size))
            self.mark_cached(request, after)
            request.computed = computed
            request.where = RESIDENT
            running[request.number] = request
            self.irregular.append((request, n))
            if known == request.num_prompt_tokens:
                self.recorder.scheduled(request.number, now, computed)
            budget -= n
            room -= 1
